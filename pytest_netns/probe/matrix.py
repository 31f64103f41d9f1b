"""Ping between all pairs of nodes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from pytest_netns.addresses import Address
from pytest_netns.checks import check_range
from pytest_netns.errors import TopologyError
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.ping_result import PingResult
from pytest_netns.stack.destination import Target, choose
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.network import Network
from pytest_netns.topology.network_events import probe_failed


@dataclass(frozen=True, slots=True)
class PingMatrix(Mapping[tuple[str, str], PingResult]):
    """Results by source and destination: ``matrix["red", "blue"]``. Truthy if every pair got through.

    Printed as a table: milliseconds, or ``-`` where there was no answer.

    Attributes:
        names: the hosts, oldest first.
        results: of each pair, by names of source and destination.

    Example:
        >>> matrix = lab.ping_all()
        >>> print(matrix)
    """

    names: tuple[str, ...]
    results: Mapping[tuple[str, str], PingResult]

    def __getitem__(self, pair: tuple[str, str]) -> PingResult:
        try:
            return self.results[pair]
        except KeyError:
            raise KeyError(f"no ping {pair!r}; hosts: {', '.join(self.names)}") from None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __bool__(self) -> bool:
        return all(self.results.values())

    @property
    def failed(self) -> list[PingResult]:
        """The pairs that did not get through."""
        return [result for result in self.results.values() if not result]

    def __str__(self) -> str:
        width = max([len(name) for name in self.names] + [6])
        head = " " * width + " " + " ".join(f"{name:>{width}}" for name in self.names)
        rows = [head]
        for source in self.names:
            cells = [f"{self._cell(source, destination):>{width}}" for destination in self.names]
            rows.append(f"{source:<{width}} " + " ".join(cells))
        reasons = {f"{r.source} -> {r.destination}: {r.error or 'no answer'}" for r in self.failed}
        return "\n".join([*rows, *sorted(reasons)])

    def _cell(self, source: str, destination: str) -> str:
        result = self.results.get((source, destination))
        if result is None:
            return "."
        return f"{result.rtts[0] * 1000:.3f}" if result.rtts else "-"

    def __repr__(self) -> str:
        good = len(self.results) - len(self.failed)
        return f"<PingMatrix {good} of {len(self.results)} pairs got through>\n{self}"


def _unresolved(source: Namespace, destination: Namespace, error: TopologyError) -> PingResult:
    any_address: Address = source.addresses()[0].ip if source.addresses() else _NOWHERE
    return PingResult(source.name, destination.name, any_address, 1, 0, error=ProbeError(str(error)))


#: Stands where there is no address to name.
_NOWHERE: Address = IPv4Address(0)


def ping_all(lab: Network, *, timeout: float = 1.0) -> PingMatrix:
    """Every host and router pings every other. Falsy if any pair fails; prints as a table.

    All ask at once, or in groups in a lab of more than 16 nodes: the kernel's neighbour table is one for the whole
    machine (see ``Lab`` on ``neighbours``), and a group needs a quarter of it at most. The entries that the pings
    have made are removed afterwards; those that were there before stay. In groups, pairs whose ARP failed are asked
    once more, because a busy kernel drops packets of large broadcasts.

    Args:
        timeout: seconds to wait for replies, after the last request.

    Example:
        >>> matrix = lab.ping_all()
        >>> assert matrix["red", "blue"], matrix
    """
    lab._check_open()
    nodes = [node for node in lab if not node.closed]
    hosts = {node.name: node for node in nodes if not node.is_switch}
    switches = [node for node in nodes if node.is_switch]
    result = ask_all(list(hosts.values()), switches, timeout=timeout, grouped=lab.known_neighbours is None)
    if failed := result.failed:
        probe_failed(hosts[failed[0].source], result, "ping_all")
    return result


def ask_all(
    nodes: Sequence[Namespace], others: Sequence[Namespace] = (), *, timeout: float = 1.0, grouped: bool = True
) -> PingMatrix:
    """``ping_all`` without events: a failure is not recorded.

    Args:
        nodes: who asks and is asked.
        others: further nodes of the lab, which may be on the way.
        timeout: seconds to wait for each reply.
        grouped: ask in groups, whose neighbour entries leave room for others on this machine.
    """
    from pytest_netns.probe.all_pairs import AllPairs

    check_range("timeout", timeout, 0, 3600)
    results: dict[tuple[str, str], PingResult] = {}
    addresses = {node.name: node.addresses() for node in nodes}
    targets: dict[tuple[int, int], Target] = {}
    for row, source in enumerate(nodes):
        for column, destination in enumerate(nodes):
            if source is destination:
                continue
            pair = (source.name, destination.name)
            try:
                known = addresses[destination.name]
                target = choose(source, destination.name, known, addresses[source.name])
            except TopologyError as error:
                results[pair] = _unresolved(source, destination, error)
                continue
            results[pair] = PingResult(source.name, target.label, target.address, 1, 0)  # keeps the order
            targets[row, column] = target
    if targets:
        exchanges = AllPairs(nodes, others, targets, timeout).run(grouped=grouped)
        for (row, column), exchange in exchanges.items():
            results[nodes[row].name, nodes[column].name] = exchange.result(1)
    return PingMatrix(tuple(node.name for node in nodes), results)
