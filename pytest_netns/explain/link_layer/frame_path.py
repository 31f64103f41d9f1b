"""The way of a frame over links and bridges, and the first place on it where it was not seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_netns.capture.frame import Frame
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.stack.interface import Interface
from pytest_netns.topology import graph


@dataclass(frozen=True, slots=True)
class Place:
    """An interface at which a frame leaves, or arrives."""

    interface: Interface
    outgoing: bool

    def __str__(self) -> str:
        return f"{'leaves' if self.outgoing else 'arrives at'} {self.interface}"


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a frame was lost: it was seen at one place, and not at the next.

    Attributes:
        before: where it was seen last; None if it never left.
        missing: where it should have been seen next.
        frame: what it was.
    """

    before: Place | None
    missing: Place
    frame: Frame | None


def l2_path(lab: Lab, start: Interface, end: Interface) -> list[Place]:
    """The places that a frame passes between two interfaces; empty if there is no chain of links and bridges."""
    first = _across(lab, start)
    if first is None:
        return []

    def further(step: tuple[Interface, Interface]) -> list[tuple[Interface, Interface]]:
        far = step[1]
        bridge = far.node
        if not isinstance(bridge, Bridge):
            return []
        ports = (link.end(bridge) for link in bridge.links)
        return [crossed for port in ports if port != far and (crossed := _across(lab, port)) is not None]

    for way in graph.ways(first, further, lambda step: step[1]):
        far = way[-1][1]
        if far == end or (isinstance(far.node, Bridge) and far.node.device == end):
            return [place for near, far in way for place in (Place(near, True), Place(far, False))]
    return []


def _across(lab: Lab, near: Interface) -> tuple[Interface, Interface] | None:
    """An interface and the far end of its link; None if it ends none."""
    link = next((each for each in lab.links if near in each.interfaces), None)
    return None if link is None else (near, link.b if link.a == near else link.a)


def gap(path: Iterable[Place], frames: Iterable[Frame], names: dict[int, str]) -> Gap | None:
    """The first place of a path at which none of the frames was seen; None if it got to the end.

    Args:
        path: of ``l2_path``.
        frames: of one packet.
        names: what captures call the namespaces, by inode.
    """
    several = list(frames)
    seen = {(frame.node, frame.interface, frame.outgoing) for frame in several}
    before: Place | None = None
    for place in path:
        node = place.interface.node
        if (names.get(node.inode, node.name), place.interface.name, place.outgoing) not in seen:
            return Gap(before, place, several[0] if several else None)
        before = place
    return None
