"""Autoroutes: the shortest paths through a lab as static routes, renewed after each change."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Sequence

from pytest_netns.addresses import Address, Network
from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.route_options import RTPROT_STATIC, Hop, RouteOptions
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.node import BaseNode
from pytest_netns.topology.routing import Attachment, attachments, on_loopback

#: Of the routes that a lab works out: higher than what a route set by hand has in either family (0 and 1024).
AUTOROUTE_METRIC = 2048


class Autoroutes:
    """The routes that a lab has worked out, so that the next turn replaces them. See ``Lab.autoroute``."""

    def __init__(self) -> None:
        self._set: dict[str, dict[bytes, Request]] = {}

    def renew(self, nodes: Sequence[BaseNode], *, ecmp: bool = False) -> None:
        """Set the routes of today, and take away those of before that are none any more."""
        routes = shortest_paths(nodes, [node for node in nodes if node.forwards], ecmp=ecmp)
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


def shortest_paths(
    nodes: Sequence[BaseNode], routers: Iterable[BaseNode], *, ecmp: bool = False
) -> dict[BaseNode, list[Request]]:
    """Static routes by which every node reaches every subnet over the fewest routers, for both families.

    Likewise every address on loopback, which leads to its node. Among paths of equal length the router that was made
    first wins, so the result is the same at each run.

    Args:
        nodes: all nodes that may send.
        routers: those that forward.
        ecmp: whether paths of equal length are all used: a route has several next hops then.
    """
    places = {node: attachments(node) for node in nodes}
    forwarders = [node for node in routers if node in places]
    subnets: dict[Network, list[Attachment]] = {}
    for node in nodes:
        for place in places[node]:
            subnets.setdefault(place.address.network, []).append(place)
    # Where the packets for a target end: by whom a subnet can be reached, or whose an address on loopback is.
    ends = {subnet: [place.node for place in found if place.node in forwarders] for subnet, found in subnets.items()}
    having = {subnet: {place.node for place in found} for subnet, found in subnets.items()}
    for node in nodes:
        for place in on_loopback(node):
            ends.setdefault(place.address.network, []).append(node)
            having.setdefault(place.address.network, set()).add(node)
    routes: dict[BaseNode, list[Request]] = {node: [] for node in nodes}
    for target, there in ends.items():
        distance = _distances(target.version, there, subnets, places, forwarders)
        for node in nodes:
            if node in having[target]:
                continue
            hops = _nearest(node, target.version, subnets, places, distance)
            if hops:
                routes[node].append(_request(target, hops if ecmp else hops[:1]))
    return routes


def _request(target: Network, hops: list[tuple[Address, Interface]]) -> Request:
    options = RouteOptions(metric=AUTOROUTE_METRIC, protocol=RTPROT_STATIC)
    if len(hops) == 1:
        [(gateway, interface)] = hops
        return rtnetlink.route_replace(target, gateway, interface.index, options)
    several = tuple(Hop(gateway, interface.index) for gateway, interface in hops)
    return rtnetlink.route_replace(target, None, 0, options._replace(hops=several))


def _distances(
    version: int,
    ends: Iterable[BaseNode],
    subnets: dict[Network, list[Attachment]],
    places: dict[BaseNode, list[Attachment]],
    routers: list[BaseNode],
) -> dict[BaseNode, int]:
    """How many further nodes a packet passes behind each router, until it is at one of the ``ends``."""
    distance = dict.fromkeys(ends, 0)
    queue = deque(distance)
    while queue:
        router = queue.popleft()
        for place in places[router]:
            if place.address.version != version:
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
) -> list[tuple[Address, Interface]]:
    """The next hops from which it is not far, those that were made first at first: each neighbour once a link."""
    best: dict[tuple[BaseNode, Interface], tuple[Address, Interface]] = {}
    least: int | None = None
    for place in places[node]:
        if place.address.version != version:
            continue
        for neighbour in subnets[place.address.network]:
            steps = distance.get(neighbour.node)
            if neighbour.node is node or steps is None or (least is not None and steps > least):
                continue
            if least is None or steps < least:
                best, least = {}, steps
            best.setdefault((neighbour.node, place.interface), (neighbour.address.ip, place.interface))
    return list(best.values())
