"""The graph of a lab: its nodes, and the links between them, by how they are wired, whatever their routes say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from pytest_netns.stack.interface import Interface

if TYPE_CHECKING:
    from pytest_netns.stack.handle import Handle
    from pytest_netns.stack.namespace import Namespace
    from pytest_netns.topology.cable import Cable
    from pytest_netns.topology.network import Network

_P = TypeVar("_P")


def ways(
    start: _P, further: Callable[[_P], Iterable[_P]], key: Callable[[_P], Hashable] = lambda place: place
) -> Iterator[list[_P]]:
    """The way of the fewest steps to each place that can be reached, itself included, the nearest place first.

    Args:
        start: the first place, a node, a link or whatever a step leads to.
        further: the places that one step leads to from another.
        key: what two places have in common that are one.
    """
    todo = deque([[start]])
    seen = {key(start)}
    while todo:
        way = todo.popleft()
        yield way
        for place in further(way[-1]):
            if key(place) not in seen:
                seen.add(key(place))
                todo.append([*way, place])


def between(lab: Network, start: Namespace, ends: set[int]) -> list[Cable] | None:
    """The fewest links from a node to one of some namespaces; None if there is no such way.

    Args:
        lab: the lab of all of them.
        start: where they begin.
        ends: inode numbers of the namespaces.
    """
    links = [link for link in lab.links if not link._is_gone]

    def further(place: tuple[int, Cable | None]) -> Iterator[tuple[int, Cable | None]]:
        for link in links:
            near, far = (end.node.inode for end in link.interfaces)
            if place[0] in (near, far):
                yield (far if place[0] == near else near), link

    first: tuple[int, Cable | None] = (start.inode, None)
    for way in ways(first, further, lambda place: place[0]):
        if way[-1][0] in ends:
            return [link for _, link in way if link is not None]
    return None


def interface_towards(lab: Network, node: Namespace, peer: Namespace | Interface) -> Interface | None:
    """The interface of a node that is on one link with a peer; None if there is none, or several.

    Args:
        lab: the lab of both.
        node: whose interface.
        peer: a node, any interface of which will do, or one interface.
    """
    found = [own for own, others in _segments(lab, node) if any(_is(each, peer) for each in others)]
    return found[0] if len(found) == 1 else None


def _is(end: Interface, peer: Namespace | Interface) -> bool:
    return end == peer if isinstance(peer, Interface) else end.node.inode == peer.inode


def _segments(lab: Network, node: Namespace) -> Iterator[tuple[Interface, list[Interface]]]:
    """Each interface of a node that ends a link, with the interfaces that it is on one link with, through switches."""
    links = [link for link in lab.links if not link._is_gone]

    def further(place: tuple[Cable, Interface]) -> list[tuple[Cable, Interface]]:
        link, end = place
        if not any(end.node is switch for switch in link.nodes if switch.is_switch):
            return []
        return [(other, other.other(port)) for other in links for port in _ends_in(other, end.node)]

    for first in links:
        for own in first.interfaces:
            if own.node.inode == node.inode:
                found = ways((first, first.other(own)), further, lambda place: id(place[0]))
                yield own, [way[-1][1] for way in found]


def _ends_in(link: Cable, node: Handle) -> list[Interface]:
    return [end for end in link.interfaces if end.node is node]
