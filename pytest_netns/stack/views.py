"""Views: what the kernel says of a namespace now. Each asks the kernel anew."""

from __future__ import annotations

from pytest_netns.addresses import Address, AddressWithPrefix, parse_plain
from pytest_netns.checks import check_whole
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.tables import (
    Neighbour,
    Route,
    decode_address,
    decode_link,
    decode_neighbour,
    decode_route,
    in_order,
    is_cached,
    is_of_host,
)
from pytest_netns.stack.handle import Handle
from pytest_netns.stack.interface import Interface, Interfaces


def interface(namespace: Handle, name: str) -> Interface:
    """One interface, by name. Raises TopologyError, which lists those that there are.

    Example:
        >>> red.interface("eth0").up()
    """
    try:
        return Interfaces(namespace)[name]
    except KeyError as error:
        raise TopologyError(error.args[0]) from None


def own_interface(namespace: Handle, which: str | Interface) -> Interface:
    """One of its interfaces: itself, or by name. Raises TopologyError."""
    if isinstance(which, str):
        return interface(namespace, which)
    if not isinstance(which, Interface) or which.node is not namespace:
        raise TopologyError(f"{which!r} is not an interface of {namespace.name!r}")
    return which


def addresses(namespace: Handle) -> list[AddressWithPrefix]:
    """Its addresses, IPv4 first, those of loopback after others, IPv6 link-local ones last; not 127.0.0.1, ::1.

    Example:
        >>> red.addresses()
    """
    bodies = namespace.rtnl.dump(rtnetlink.address_dump())
    return in_order(decode_address(body) for body in bodies if not is_of_host(body))


def routes(namespace: Handle, *, table: int | None = 254) -> list[Route]:
    """Its routes, IPv4 first, as ``ip route`` lists them: without the path MTUs and redirects that it has learnt.

    Args:
        table: number of a routing table, 254 for main (ip-route(8)); None gives those of all tables.

    Example:
        >>> red.routes(table=254)
    """
    if table is not None:
        check_whole("table", table, 0, 0xFFFFFFFF)
    names = link_names(namespace)
    found = [
        route
        for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6)
        for body in namespace.rtnl.dump(rtnetlink.route_dump(family))
        if not is_cached(body)
        for route in decode_route(body, names)
    ]
    return [route for route in found if table is None or route.table == table]


def route_to(namespace: Handle, address: str | Address) -> Route:
    """The route that the kernel would use now for an address (``ip route get``).

    Args:
        address: IPv4 or IPv6.

    Raises:
        KernelError: there is none, with the kernel's own errno (ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL).
        TopologyError: it is no address.

    Example:
        >>> red.route_to(green.ip4)
    """
    body = namespace.rtnl.get(rtnetlink.route_get(parse_plain(address, f"route of {namespace.name!r}")))
    return decode_route(body, link_names(namespace))[0]


def neighbours(namespace: Handle) -> list[Neighbour]:
    """Its ARP and neighbour discovery caches, IPv4 first, without the entries of multicast and loopback.

    Example:
        >>> [(neighbour.address, neighbour.mac) for neighbour in red.neighbours()]
    """
    names = link_names(namespace)
    found = [
        decode_neighbour(body, names)
        for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6)
        for body in namespace.rtnl.dump(rtnetlink.neighbour_dump(family))
    ]
    return [entry for entry in found if entry is not None and entry.state != "NOARP"]


def link_names(namespace: Handle) -> dict[int, str]:
    """The names of its interfaces, by index."""
    return {link.index: link.name for link in map(decode_link, namespace.rtnl.dump(rtnetlink.link_dump()))}
