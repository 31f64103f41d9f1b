"""Trace: the path of packets, by probes with increasing TTL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.checks import check_port, check_range, check_whole
from pytest_netns.probe.icmp import TIME_EXCEEDED, TIME_EXCEEDED6, ProbeError
from pytest_netns.probe.ping import ask_ping
from pytest_netns.probe.tcp import ask_tcp
from pytest_netns.probe.udp import ask_udp
from pytest_netns.stack.destination import Destination, resolve
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Source, origin
from pytest_netns.topology.network import names_of, network_of
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

Method = Literal["icmp", "udp", "tcp"]
#: For udp the first port of traceroute(8), on which nobody should listen.
_PORTS: dict[str, int] = {"icmp": 1, "udp": 33434, "tcp": 80}

NameOf = Callable[[Address], str | None]


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of a path.

    Attributes:
        ttl: the time to live (hop limit) with which it was found.
        address: who answered; None without an answer.
        name: the node of the lab that has that address; None if none has.
        rtt: seconds; None without an answer.

    Example:
        >>> [(hop.ttl, hop.name, hop.rtt) for hop in red.trace(green).hops]
    """

    ttl: int
    address: Address | None
    name: str | None = None
    rtt: float | None = None

    def __repr__(self) -> str:
        if self.address is None:
            return f"{self.ttl} *"
        return f"{self.ttl} {self.name or self.address}" + (f" ({self.address})" if self.name else "")


@dataclass(frozen=True, slots=True)
class TraceResult:
    """The path to a destination. Truthy if it was reached.

    Attributes:
        source: name of the node that sent the probe.
        destination: name and address of the destination.
        address: that address.
        hops: the hops, the destination last if it was reached.
        reached: whether the destination answered.
        error: the ICMP error that ended the trace early; else None.
        bound_to: the source address or interface given; None: chosen by the routes.

    Example:
        >>> red.trace(green).path
    """

    source: str
    destination: str
    address: Address
    hops: tuple[Hop, ...]
    reached: bool
    error: ProbeError | None = None
    bound_to: Source | None = None

    def __bool__(self) -> bool:
        return self.reached

    @property
    def path(self) -> list[str]:
        """The hops by name, or by address where there is none, or ``*``."""
        return [hop.name or (str(hop.address) if hop.address else "*") for hop in self.hops]

    def __repr__(self) -> str:
        way = ", ".join(map(repr, self.hops)) or "no hop"
        end = "" if self.reached else f": {self.error or 'not reached'}"
        return f"<TraceResult {self.source} -> {self.destination}: {way}{end}>"


def _step(
    node: Namespace,
    destination: Destination,
    method: Method,
    port: int,
    timeout: float,
    ttl: int,
    source: Source | None,
) -> tuple[bool, float | None, ProbeError | None]:
    """Whether the destination itself answered, after how many seconds, or the error that came back."""
    if method == "icmp":
        echo = ask_ping(node, destination, timeout=timeout, ttl=ttl, source=source)
        return bool(echo), echo.rtts[0] if echo else None, echo.error
    if method == "tcp":
        syn = ask_tcp(node, destination, port, timeout=timeout, ttl=ttl, source=source)
        return syn.state in ("open", "closed"), syn.rtt, syn.error
    datagram = ask_udp(node, destination, port, timeout=timeout, ttl=ttl, source=source)
    return datagram.state in ("answered", "closed"), datagram.rtt, datagram.error


def trace(
    node: BaseNode,
    destination: Destination,
    *,
    method: Method = "icmp",
    port: int | None = None,
    max_hops: int = 30,
    timeout: float = 1.0,
    source: Source | None = None,
) -> TraceResult:
    """Trace the path to a destination, hop by hop, by packets with increasing TTL (hop limit).

    Truthy if it was reached. Stops after three hops in a row that do not answer.

    Args:
        destination: a node, an interface or an address.
        method: ``"icmp"`` echo requests, ``"udp"`` datagrams or ``"tcp"`` SYNs.
        port: for ``udp`` (33434 if None) and ``tcp`` (80 if None); a closed one answers too.
        max_hops: the largest time to live to try, 1 to 255.
        timeout: seconds to wait for each hop, 0 to 3600.
        source: an address or an interface of this node, by object or name, to send from; None: chosen by
            the routes.

    Raises:
        TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
            be understood; or the source is none of this node's.
        ValueError: a number is out of range.

    Example:
        >>> red.trace(green).path
        >>> red.trace(green, method="tcp", port=80).reached
    """
    result = ask_trace(
        node,
        destination,
        method=method,
        port=port,
        max_hops=max_hops,
        timeout=timeout,
        source=source,
        name_of=names_of(network_of(node)).get,
    )
    probe_failed(node, result, "trace", method, port)  # one that was reached may have gone the wrong way
    return result


def ask_trace(
    node: Namespace,
    destination: Destination,
    *,
    method: Method = "icmp",
    port: int | None = None,
    max_hops: int = 30,
    timeout: float = 1.0,
    source: Source | None = None,
    name_of: NameOf,
) -> TraceResult:
    """``trace`` without events: a failure is not recorded."""
    check_whole("max_hops", max_hops, 1, 255)
    check_range("timeout", timeout, 0, 3600)
    if not isinstance(method, str) or method not in _PORTS:
        raise ValueError(f"method is {method!r}; it can be 'icmp', 'udp' or 'tcp'")
    bound = origin(node, source)
    target = resolve(node, destination, bound)
    to_port = check_port(port or _PORTS[method])
    hops: list[Hop] = []
    error: ProbeError | None = None
    exceeded = TIME_EXCEEDED if target.address.version == 4 else TIME_EXCEEDED6
    for ttl in range(1, max_hops + 1):
        reached, rtt, error = _step(node, destination, method, to_port, timeout, ttl, source)
        if reached:
            hops.append(Hop(ttl, target.address, name_of(target.address), rtt))
            return TraceResult(node.name, target.label, target.address, tuple(hops), True, None, bound.source)
        sender = error.sender if error else None
        if error is None or sender is not None:
            hops.append(Hop(ttl, sender, name_of(sender) if sender else None))
        if error is not None and error.type != exceeded:
            break
        if len(hops) >= 3 and all(hop.address is None for hop in hops[-3:]):
            break  # nobody has answered three times: nobody will
    if error is not None and error.type == exceeded:
        error = None
    return TraceResult(node.name, target.label, target.address, tuple(hops), False, error, bound.source)
