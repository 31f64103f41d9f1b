"""Adding, replacing and removing routes of a host (ip-route(8))."""

from __future__ import annotations

from collections.abc import Collection

from pytest_netns.addresses import Address, Network, parse_plain
from pytest_netns.checks import check_several
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.route_options import RouteOptions
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.views import own_interface
from pytest_netns.topology import routing
from pytest_netns.topology.routing import RouteTarget, Via

_MAIN = 254


def default_route(host: Node, via: Via) -> None:
    """``ip route replace default via ...``, for each family in which the next hop is on a common subnet.

    Args:
        via: a node, an interface or an address; or several, as ``add_route`` takes them.

    Raises:
        TopologyError: this node and the next hop share no subnet.

    Example:
        >>> green.default_route(via=router)
    """
    if via is None:
        raise TopologyError(
            f"default route of {host.name!r}: via is None; it can be a node, an interface or an address"
        )
    hops = routing.requests_for(host, "default", via, None, RouteOptions())
    host.rtnl.batch([rtnetlink.route_replace(*each) for each in hops])


def add_route(
    host: Node,
    dst: RouteTarget,
    via: Via | None = None,
    *,
    interface: str | Interface | None = None,
    kind: str = "unicast",
    metric: int = 0,
    table: int = _MAIN,
    source: str | Address | None = None,
    mtu: int = 0,
    advmss: int = 0,
    locked: Collection[str] = (),
    onlink: bool = False,
) -> None:
    """``ip route add``.

    Args:
        dst: a network, an address, ``"default"``, a bridge (its subnets) or another node (its addresses).
        via: the next hop: a node, an interface or an address. A link-local address names its interface,
            ``"fe80::1%eth0"``; an IPv6 next hop of an IPv4 route is written as in ip(8), ``"inet6 fe80::1%eth0"``
            (RFC 8950). For a multipath route, a list of next hops, or a mapping of next hops to weights, 1 to 256.
            Or a nexthop object, see ``Host.nexthops``.
        interface: the outgoing interface, for a destination on the link, or to reach ``via``.
        kind: ``"unicast"``, or a refusal: ``"blackhole"`` (silent), ``"unreachable"``, ``"prohibit"``; or ``"throw"``:
            the lookup goes on with the next rule.
        metric: the lowest wins; 0 is the kernel's default.
        table: number of the routing table, 254 for main; any other table needs a rule, see ``Host.rules``.
        source: preferred source address of the host's own packets (``src``).
        mtu: MTU of the route in bytes; 0: that of the interface.
        advmss: the MSS that TCP advertises, in bytes; 0: derived from the MTU.
        locked: those of ``"mtu"`` and ``"advmss"`` that path MTU discovery must not change. On IPv4 routes a locked
            MTU turns path MTU discovery off.
        onlink: pretend that ``via`` is on the link of ``interface``, whatever its subnet.

    Raises:
        TopologyError: the next hop shares no subnet with this node, or its address family is not the destination's.
        KernelError: the kernel refused, e.g. because the route exists (EEXIST).

    Example:
        >>> red.add_route("10.77.0.0/16", via=blue)
        >>> red.add_route("10.78.0.0/16", via={blue: 2, router: 1})
    """
    options = _options(host, kind, metric, table, source, mtu, advmss, locked, onlink)
    added: list[Request] = []
    try:
        for each in _wanted(host, dst, via, interface, options):  # if one is refused, those before it are removed again
            host.rtnl.batch([rtnetlink.route_add(*each)])
            added.append(rtnetlink.route_delete(*each))
    except KernelError:
        if added:
            host.rtnl.batch(added)
        raise


def replace_route(
    host: Node,
    dst: RouteTarget,
    via: Via | None = None,
    *,
    interface: str | Interface | None = None,
    kind: str = "unicast",
    metric: int = 0,
    table: int = _MAIN,
    source: str | Address | None = None,
    mtu: int = 0,
    advmss: int = 0,
    locked: Collection[str] = (),
    onlink: bool = False,
) -> None:
    """``ip route replace``: add a route, or replace the one to the same destination.

    Args:
        dst: a network, an address, ``"default"``, a bridge (its subnets) or another node (its addresses).
        via: the next hop, or several: as ``add_route`` takes them.
        interface: the outgoing interface, for a destination on the link, or to reach ``via``.
        kind: ``"unicast"``, or a refusal: ``"blackhole"`` (silent), ``"unreachable"``, ``"prohibit"``; or ``"throw"``:
            the lookup goes on with the next rule.
        metric: the lowest wins; 0 is the kernel's default.
        table: number of the routing table, 254 for main.
        source: preferred source address of the host's own packets (``src``).
        mtu: MTU of the route in bytes; 0: that of the interface.
        advmss: the MSS that TCP advertises, in bytes; 0: derived from the MTU.
        locked: those of ``"mtu"`` and ``"advmss"`` that path MTU discovery must not change.
        onlink: pretend that ``via`` is on the link of ``interface``, whatever its subnet.

    Raises:
        TopologyError: the next hop shares no subnet with this node, or its address family is not the destination's.
        KernelError: the kernel refused.

    Example:
        >>> red.replace_route("10.77.0.0/16", via=blue)
    """
    options = _options(host, kind, metric, table, source, mtu, advmss, locked, onlink)
    wanted = _wanted(host, dst, via, interface, options)
    host.rtnl.batch([rtnetlink.route_replace(*each) for each in wanted])


def remove_route(host: Node, dst: RouteTarget, *, kind: str = "unicast", metric: int = 0, table: int = _MAIN) -> None:
    """``ip route delete``.

    Args:
        dst: a network, an address, ``"default"``, a bridge (its subnets) or another node (its addresses).
        kind: the type of the route: ``"unicast"``, ``"blackhole"``, ``"unreachable"``, ``"prohibit"``, ``"throw"``.
        metric: metric of the route; 0 removes the first that matches.
        table: number of the routing table, 254 for main.

    Raises:
        TopologyError: the destination is none of these.
        KernelError: there is no such route (ESRCH).

    Example:
        >>> red.add_route("10.77.0.0/16", via=blue)
        >>> red.remove_route("10.77.0.0/16")
    """
    options = RouteOptions(kind, metric, 0, table)
    networks = routing.networks_of(host, dst)
    routing.check_options(host, options)
    if dst == "default":  # in each family that has one
        present = {route.destination for route in host.routes(table=table)}
        networks = [network for network in networks if network in present] or networks[:1]
    host.rtnl.batch([rtnetlink.route_delete(network, None, 0, options) for network in networks])


def _options(
    host: Node,
    kind: str,
    metric: int,
    table: int,
    source: str | Address | None,
    mtu: int,
    advmss: int,
    locked: Collection[str],
    onlink: bool,
) -> RouteOptions:
    preferred = parse_plain(source, f"route of {host.name!r}: source") if source is not None else None
    if not isinstance(locked, str):
        check_several(f"route of {host.name!r}: locked", locked, "metrics")
    kept = (locked,) if isinstance(locked, str) else tuple(locked)
    return RouteOptions(kind, metric, table=table, source=preferred, mtu=mtu, advmss=advmss, locked=kept, onlink=onlink)


def _wanted(
    host: Node, dst: RouteTarget, via: Via | None, interface: str | Interface | None, options: RouteOptions
) -> list[tuple[Network, Address | None, int, RouteOptions]]:
    if not isinstance(interface, str | None) and (not isinstance(interface, Interface) or interface.node is not host):
        raise TopologyError(f"route of {host.name!r}: {interface!r} is not its own interface")
    towards = own_interface(host, interface) if interface is not None else None
    return routing.requests_for(host, dst, via, towards, options)
