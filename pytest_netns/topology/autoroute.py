"""Autoroutes: the shortest paths through a lab as static routes, renewed after each change."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Sequence

from pytest_netns.addresses import Address, Network
from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.route_options import RTPROT_STATIC, RouteOptions
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.node import BaseNode
from pytest_netns.topology.routing import Attachment, attachments

#: Of the routes that a lab works out: higher than what a route set by hand has in either family (0 and 1024).
AUTOROUTE_METRIC = 2048


class Autoroutes:
    """The routes that a lab has worked out, so that the next turn replaces them. See ``Lab.autoroute``."""

    def __init__(self) -> None:
        self._set: dict[str, dict[bytes, Request]] = {}

    def renew(self, nodes: Sequence[BaseNode]) -> None:
        """Set the routes of today, and take away those of before that are none any more."""
        routes = shortest_paths(nodes, [node for node in nodes if node.forwards])
        for node in nodes:
            wanted = {request.body: request for request in routes[node]}
            for body, delete in self._set.pop(node.name, {}).items():
                if body not in wanted:
                    _forget(node, delete)
            if wanted:  # those from before too: the kernel drops routes of an interface that goes down
                node.rtnl.batch(list(wanted.values()))
            self._set[node.name] = {
                body: Request(rtnetlink.RTM_DELROUTE, 0, body, request.operation.replace(" replace ", " delete "))
                for body, request in wanted.items()
            }


def _forget(node: BaseNode, delete: Request) -> None:
    try:
        node.rtnl.batch([delete])
    except KernelError as error:
        if error.errno != errno.ESRCH:  # it went with its interface, or in a namespace that several share
            raise


def shortest_paths(nodes: Sequence[BaseNode], routers: Iterable[BaseNode]) -> dict[BaseNode, list[Request]]:
    """Static routes by which every node reaches every subnet over the fewest routers, for both families.

    Among paths of equal length the router that was made first wins, so the result is the same at each run.

    Args:
        nodes: all nodes that may send.
        routers: those that forward.
    """
    places = {node: attachments(node) for node in nodes}
    forwarders = [node for node in routers if node in places]
    subnets: dict[Network, list[Attachment]] = {}
    for node in nodes:
        for place in places[node]:
            subnets.setdefault(place.address.network, []).append(place)
    routes: dict[BaseNode, list[Request]] = {node: [] for node in nodes}
    for target in subnets:
        distance = _distances(target, subnets, places, forwarders)
        for node in nodes:
            if any(place.address.network == target for place in places[node]):
                continue
            hop = _nearest(node, target.version, subnets, places, distance)
            if hop is not None:
                gateway, interface = hop
                options = RouteOptions(metric=AUTOROUTE_METRIC, protocol=RTPROT_STATIC)
                routes[node].append(rtnetlink.route_replace(target, gateway, interface.index, options))
    return routes


def _distances(
    target: Network,
    subnets: dict[Network, list[Attachment]],
    places: dict[BaseNode, list[Attachment]],
    routers: list[BaseNode],
) -> dict[BaseNode, int]:
    """How many further routers a packet for ``target`` passes behind each router."""
    distance = {place.node: 0 for place in subnets[target] if place.node in routers}
    queue = deque(distance)
    while queue:
        router = queue.popleft()
        for place in places[router]:
            if place.address.version != target.version:
                continue
            for neighbour in subnets[place.address.network]:
                if neighbour.node in routers and neighbour.node not in distance:
                    distance[neighbour.node] = distance[router] + 1
                    queue.append(neighbour.node)
    return distance


def _nearest(
    node: BaseNode,
    version: int,
    subnets: dict[Network, list[Attachment]],
    places: dict[BaseNode, list[Attachment]],
    distance: dict[BaseNode, int],
) -> tuple[Address, Interface] | None:
    best: tuple[int, Address, Interface] | None = None
    for place in places[node]:
        if place.address.version != version:
            continue
        for neighbour in subnets[place.address.network]:
            steps = distance.get(neighbour.node)
            if neighbour.node is not node and steps is not None and (best is None or steps < best[0]):
                best = (steps, neighbour.address.ip, place.interface)
    return None if best is None else best[1:]
