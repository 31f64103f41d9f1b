"""Flow: a packet on its way, and the way it takes by the tables."""

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
    """What is on its way.

    Attributes:
        source: its source address; None if that is not known.
        destination: its destination address.
        size: bytes with headers.
        ttl: time to live.
        df: whether it may not be fragmented.
        protocol: number of its IP protocol; 0 if that is not known.
        ports: source and destination port, 0 where not known.
        bound: whether the sender has chosen the source address before the route, as one that answers has.
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
    """The way of a packet as the tables have it.

    Attributes:
        nodes: those it passes, the sender first.
        arrived: the node that has the destination address; None if it does not get there.
        fault: what ends the way; None if nothing does.
        evidence: the routes that were taken.
        duplicates: interfaces that all have the address of some step.
        hops: who looked for which next hop on which interface.
        carriers: the devices on the way that carry it in packets of their own, with the way of those where it is known.
    """

    nodes: list[Node] = field(default_factory=list)
    arrived: Node | None = None
    fault: Diagnosis | None = None
    evidence: list[str] = field(default_factory=list)
    duplicates: list[Interface] = field(default_factory=list)
    hops: list[tuple[Node, Interface, Address]] = field(default_factory=list)
    carriers: list[tuple[Device, Walk | None]] = field(default_factory=list)


def selector(flow: Flow, entered_by: Interface | None) -> Selector:
    """What a node's kernel has to know to look its route up."""
    known = flow.source is not None and (entered_by is not None or flow.bound)
    iif = entered_by.index if entered_by is not None and flow.source is not None else 0
    return Selector(flow.source if known else None, iif, 0, flow.protocol, flow.ports)
