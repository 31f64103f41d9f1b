"""Partition: groups of nodes that cannot reach each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from itertools import combinations, permutations
from typing import TYPE_CHECKING

from pytest_netns.addresses import is_of_link
from pytest_netns.errors import TopologyError
from pytest_netns.faults.nft_filter import Chain, Filter, addresses, one_of, renew_those_of
from pytest_netns.topology.fault import Fault, Faults
from pytest_netns.topology.network import cables_of
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.topology.network import Network

Group = BaseNode | Iterable[BaseNode]

#: Before everything else that looks at a frame on its way in (nft(8): ingress, netdev family).
_PRIORITY = -500


class Partition(Fault):
    """Groups of nodes that cannot reach each other. Created by ``Lab.partition``.

    Args:
        register: the faults of its lab.
        groups: the nodes of each.
        one_way: only frames from the first group to the second are dropped.
        filters: what does it.

    Example:
        >>> with lab.partition([red], [blue, green]) as partition:
        ...     red.ping(blue, timeout=0.1)
        >>> partition.packets
    """

    def __init__(
        self, register: Faults, groups: Sequence[Sequence[BaseNode]], one_way: bool, filters: Sequence[Filter]
    ) -> None:
        shown = [", ".join(node.name for node in group) for group in groups]
        arrow = " -x-> " if one_way else " | "
        self._groups = groups
        nodes = [node for group in groups for node in group]
        self._filters = tuple(filters)
        super().__init__(register, f"partition {arrow.join(shown)}", self._remove, nodes, self._restore)

    @property
    def packets(self) -> int:
        """Frames dropped so far; after ``undo()``, the final count. A host that restarts counts from zero."""
        return sum(filter_.packets for filter_ in self._filters)

    def _restore(self, host: BaseNode) -> None:
        renew_those_of(self._filters, host)

    def _remove(self) -> None:
        for filter_ in self._filters:
            filter_.remove()

    def stops(self, way: Sequence[BaseNode], kind: str) -> BaseNode | None:
        """The first node on the way that does not hear one which comes before it, or whose reply is not heard.

        Args:
            way: the nodes from who asks to who is asked.
            kind: the probe; each of them needs both directions.
        """
        del kind
        for position, node in enumerate(way):
            for before in way[:position]:
                mine, theirs = self._side(node), self._side(before)
                if mine is not None and theirs is not None and mine != theirs:
                    return node
        return None

    def _side(self, node: BaseNode) -> int | None:
        return next((number for number, group in enumerate(self._groups) if node in group), None)


def partition(lab: Network, *groups: Group, one_way: bool = False) -> Partition:
    """Drop all frames between nodes of different groups; traffic within a group is not affected.

    What comes over a link from a node of another group is dropped on arrival, and so is whatever has its MAC or IP
    address, as they are now. (A source address that a router has translated is the router's.) ARP and neighbour
    discovery are dropped too, and the sender gets no error.

    Args:
        groups: two or more, each a node or several. Nodes in no group are not affected. A bridge stands for
            itself, and not for what is attached to it.
        one_way: drop only frames from the first of two groups to the second.

    Returns:
        The fault: as a context manager it ends with its block; ``packets`` counts what it has dropped.

    Raises:
        TopologyError: fewer than two groups, an empty one, a node in two of them, or bridges that nothing could be
            dropped between.
        UnsupportedError: neither libnftables nor the nft program is installed.

    Example:
        >>> with lab.partition([red], [blue, green]):
        ...     assert not red.ping(blue, timeout=0.1)
    """
    with lab._lock:
        lab._check_open()
        return _partition(lab, groups, one_way)


def _partition(lab: Network, groups: Sequence[Group], one_way: bool) -> Partition:
    sides = [_checked(lab, group) for group in groups]
    if len(sides) < 2:
        raise TopologyError(f"lab {lab.name!r}: a partition has two groups of nodes or more, and got {len(sides)}")
    if one_way and len(sides) != 2:
        raise TopologyError(f"lab {lab.name!r}: a one-way partition has two groups, and got {len(sides)}")
    seen: dict[int, BaseNode] = {}
    for side in sides:
        mine = {node.inode: node for node in side}
        for inode, node in mine.items():
            if inode in seen:
                other = seen[inode]
                why = "is in two groups" if other is node else f"shares its namespace with {other.name!r}"
                raise TopologyError(f"lab {lab.name!r}: cannot be partitioned: {node.name!r} {why}")
        seen.update(mine)
    for one, other_side in combinations(sides, 2):
        _check_effect(lab, one, other_side)
    comment = " | ".join(",".join(node.name for node in side) for side in sides)[:100]
    wanted = [
        (receiver, chains)
        for senders, receivers in list(permutations(sides, 2))[: 1 if one_way else None]
        for receiver in {node.inode: node for node in receivers}.values()
        if (chains := _chains(receiver, senders, comment))
    ]
    filters: list[Filter] = []
    try:
        for receiver, chains in wanted:
            filters.append(Filter(receiver, "netdev", chains))
    except BaseException:
        for filter_ in filters:
            filter_.remove()
        raise
    return Partition(lab.faults, sides, one_way, filters)


def _checked(lab: Network, group: Group) -> list[BaseNode]:
    try:
        if isinstance(group, str | bytes):
            raise TypeError
        nodes = [group] if isinstance(group, BaseNode) else list(group)
    except TypeError:
        raise TopologyError(
            f"lab {lab.name!r}: a group of a partition is {group!r}; expected a node, or several: partition(a, [b, c])"
        ) from None
    if not nodes:
        raise TopologyError(f"lab {lab.name!r}: a group of a partition is empty")
    return [lab._check_node(node, "partition") for node in nodes]


def _check_effect(lab: Network, side: Sequence[BaseNode], other: Sequence[BaseNode]) -> None:
    """Bridges stand for themselves, and not for what is attached to them."""
    known = any(
        not node.is_switch or any(not is_of_link(address) for address in node.addresses()) for node in (*side, *other)
    )
    joined = any({a, b} == {link.a.node, link.b.node} for a in side for b in other for link in cables_of(a))
    if not known and not joined:
        one, two = (" and ".join(repr(node.name) for node in group) for group in (side, other))
        raise TopologyError(
            f"lab {lab.name!r}: a partition of {one} from {two} would drop nothing: these bridges have no addresses, "
            "no link joins them, and they do not stand for what is attached to them; name the hosts and routers instead"
        )


def _chains(receiver: BaseNode, senders: Sequence[BaseNode], comment: str) -> list[Chain]:
    """For each of its interfaces, what it does not hear: all that comes over a link from a sender, and whatever else
    has a sender's MAC or IP address."""
    direct = {
        interface.name
        for link in cables_of(receiver)
        for interface in link.interfaces
        if interface.node is receiver and any(other.node in senders for other in link.interfaces)
    }
    macs = [i.mac for node in senders for name, i in node.interfaces.items() if name != "lo" and i.mac]
    networks = [ip_network(address.ip) for node in senders for address in node.addresses()]
    rules = []
    if macs:
        rules.append(f'ether saddr {one_of(macs)} counter drop comment "partition {comment}"')
    rules += [f'{match} counter drop comment "partition {comment}"' for match in addresses("saddr", networks).values()]
    chains = []
    for number, name in enumerate(name for name in receiver.interfaces if name != "lo"):
        here = [f'counter drop comment "partition {comment}"'] if name in direct else rules
        if here:
            head = f'type filter hook ingress device "{name}" priority {_PRIORITY};'
            chains.append(Chain(f"ingress{number}", head, here, name))
    return chains
