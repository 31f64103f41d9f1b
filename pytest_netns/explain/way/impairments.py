"""Conditions: which impaired interfaces a packet, and its answer, pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_netns.explain.way.flow import Walk
from pytest_netns.impair.impairment import Impairment
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.link import Link
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface
from pytest_netns.topology import graph

#: From this part of lost frames on, silence is what must be expected; and what may be put down to chance.
MOSTLY, OFTEN = 0.5, 0.05
#: Seconds at most that are waited longer because of delays.
_LONGEST = 3.0


@dataclass(frozen=True, slots=True)
class Condition:
    """An impaired interface on the way."""

    interface: Interface
    impairment: Impairment
    engine: str

    @property
    def loses(self) -> float:
        """The part of the frames that does not arrive as it was sent."""
        return 1 - (1 - self.impairment.loss) * (1 - self.impairment.corrupt)

    def __str__(self) -> str:
        return f"{self.impairment} configured on {self.interface} (engine {self.engine})"


def _of(interface: Interface) -> Condition | None:
    setting = interface.node.impairments.setting(interface)
    return None if setting is None else Condition(interface, setting[0], setting[2])


def conditions(lab: Lab, *ways: Walk) -> list[Condition]:
    """Those of the links that some ways lead over, in both directions."""
    found: dict[Interface, Condition] = {}
    for way in ways:
        for (node, out, _), following in zip(way.hops, way.nodes[1:], strict=False):
            for link in _links(lab, node, out, following):
                for condition in filter(None, map(_of, link.interfaces)):
                    found[condition.interface] = condition
    return list(found.values())


def _links(lab: Lab, node: Node, out: Interface, to: Node) -> Iterable[Link]:
    """The links from an interface of a node to another node, through bridges; none if there is no such way."""
    first = next((link for link in lab.links if out in link.interfaces), None)
    if first is None:
        return []

    def further(step: tuple[Link, Node]) -> list[tuple[Link, Node]]:
        place = step[1]
        return [(link, _far(link, place)) for link in place.links] if isinstance(place, Bridge) else []

    for way in graph.ways((first, _far(first, node)), further, lambda step: step[1].inode):
        if way[-1][1].inode == to.inode:
            return [link for link, _ in way]
    return []


def _far(link: Link, near: Node) -> Node:
    far = link.b.node if link.a.node.inode == near.inode else link.a.node
    assert isinstance(far, Node)
    return far


def extra_patience(lab: Lab) -> float:
    """Seconds by which answers may be later because of delays anywhere in a lab."""
    every = [_of(interface) for link in lab.links for interface in link.interfaces if not interface.node.closed]
    return min(_LONGEST, sum(each.impairment.delay + each.impairment.jitter for each in every if each is not None))


def as_cause(found: list[Condition], *, least: float = 0.0) -> str | None:
    """What the impairments explain, in a sentence; None if nothing.

    Args:
        found: those on the way.
        least: only if they lose so much of what is sent.
    """
    lossy = [each for each in found if each.loses]
    arrives = 1.0
    for each in lossy:
        arrives *= 1 - each.loses
    if not lossy or 1 - arrives < least:
        return None
    return f"the way is impaired on purpose: {'; '.join(map(str, lossy))}"


def as_delay(found: list[Condition], *, rates: bool = True) -> str:
    """What makes answers late; empty if nothing does.

    Args:
        found: those on the way.
        rates: whether to think of rates too, which hold up what waits behind something else.
    """
    slow = [each for each in found if each.impairment.delay or (rates and each.impairment.rate)]
    return f"; it may have come too late: {'; '.join(map(str, slow))}" if slow else ""
