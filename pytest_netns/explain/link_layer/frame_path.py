"""The way of a frame over links and bridges, and the first place on it where it was not seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_netns.capture.frame import Frame
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.stack.interface import Interface


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
    todo: deque[tuple[Interface, list[Place]]] = deque([(start, [Place(start, True)])])
    seen: set[int] = set()
    while todo:
        out, places = todo.popleft()
        link = next((each for each in lab.links if out in each.interfaces), None)
        if link is None:
            continue
        far = link.b if link.a == out else link.a
        so_far = [*places, Place(far, False)]
        if far == end:
            return so_far
        bridge = far.node
        if not isinstance(bridge, Bridge) or bridge.inode in seen:
            continue
        if bridge.device == end:
            return so_far
        seen.add(bridge.inode)
        for other in bridge.links:
            port = other.end(bridge)
            if port != far:
                todo.append((port, [*so_far, Place(port, True)]))
    return []


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
