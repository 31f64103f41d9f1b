"""Flow: a packet, and its path according to the tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_netns.addresses import Address
from pytest_netns.devices.builder import Device
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.kernel.netlink.rtnetlink import Selector
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


@dataclass(frozen=True, slots=True)
class Flow:
    """A packet whose path is followed.

    Attributes:
        source: source address; None if unknown.
        destination: destination address.
        size: size in bytes including headers.
        ttl: TTL or hop limit.
        df: whether the Don't Fragment bit is set.
        protocol: IP protocol number; 0 if unknown.
        ports: source and destination port; 0 if unknown.
        bound: whether the source address was chosen before the route lookup, as in a reply.
    """

    source: Address | None
    destination: Address
    size: int = 84
    ttl: int = 64
    df: bool = False
    protocol: int = 0
    ports: tuple[int, int] = (0, 0)
    bound: bool = False


@dataclass(slots=True)
class Walk:
    """The path of a packet according to the tables.

    Attributes:
        nodes: the nodes it passes, the sender first.
        arrived: the node that has the destination address; None if the packet does not get there.
        fault: what ends the path; None if nothing does.
        evidence: the routes that were used.
        duplicates: interfaces that share the address of a hop.
        hops: which node resolved which next hop on which interface.
        carriers: the tunnel devices on the path, with the path of their outer packets where that is known.
    """

    nodes: list[Node] = field(default_factory=list)
    arrived: Node | None = None
    fault: Diagnosis | None = None
    evidence: list[str] = field(default_factory=list)
    duplicates: list[Interface] = field(default_factory=list)
    hops: list[tuple[Node, Interface, Address]] = field(default_factory=list)
    carriers: list[tuple[Device, Walk | None]] = field(default_factory=list)


def selector(flow: Flow, entered_by: Interface | None) -> Selector:
    """The packet's properties that a route lookup depends on."""
    known = flow.source is not None and (entered_by is not None or flow.bound)
    iif = entered_by.index if entered_by is not None and flow.source is not None else 0
    return Selector(flow.source if known else None, iif, 0, flow.protocol, flow.ports)
