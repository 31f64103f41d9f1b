"""Paths: which links lie between two nodes of a lab, by how they are wired, whatever their routes say."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_netns.stack.interface import Interface

if TYPE_CHECKING:
    from pytest_netns.stack.handle import Handle
    from pytest_netns.stack.namespace import Namespace
    from pytest_netns.topology.cable import Cable
    from pytest_netns.topology.network import Network


def between(lab: Network, start: Namespace, ends: set[int]) -> list[Cable] | None:
    """The fewest links from a node to one of some namespaces; None if there is no such way.

    Args:
        lab: the lab of all of them.
        start: where they begin.
        ends: inode numbers of the namespaces.
    """
    todo: deque[tuple[int, list[Cable]]] = deque([(start.inode, [])])
    seen = {start.inode}
    links = [link for link in lab.links if not link._is_gone]
    while todo:
        inode, way = todo.popleft()
        if inode in ends:
            return way
        for link in links:
            near, far = (end.node.inode for end in link.interfaces)
            if inode not in (near, far):
                continue
            following = far if inode == near else near
            if following not in seen:
                seen.add(following)
                todo.append((following, [*way, link]))
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
    for first in links:
        for own in first.interfaces:
            if own.node.inode != node.inode:
                continue
            found, todo = [], [(first, first.other(own))]
            seen = {id(first)}
            while todo:
                link, end = todo.pop()
                found.append(end)
                if any(end.node is switch for switch in link.nodes if switch.is_switch):
                    further = [other for other in links if id(other) not in seen and _ends_in(other, end.node)]
                    seen.update(map(id, further))
                    todo += [(other, other.other(port)) for other in further for port in _ends_in(other, end.node)]
            yield own, found


def _ends_in(link: Cable, node: Handle) -> list[Interface]:
    return [end for end in link.interfaces if end.node is node]
