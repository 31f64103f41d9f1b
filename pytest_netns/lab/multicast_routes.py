"""Static multicast routes of a router: which interfaces it forwards a group to (smcroute(8), ``ip mroute show``)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fcntl import ioctl
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pytest_netns.addresses import Address, parse_plain
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.netlink.rtnetlink import RTM_GETROUTE
from pytest_netns.kernel.netlink.socket import Request, attributes
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.stack.views import link_names
from pytest_netns.topology.interface_lookup import named_interface

if TYPE_CHECKING:
    from pytest_netns.lab.nodes import Node
    from pytest_netns.stack.interface import Interface

# From <linux/mroute.h>, <linux/mroute6.h> and <linux/rtnetlink.h>; the numbers are the same for both families.
_INIT, _ADD_VIF, _ADD_MFC, _DEL_MFC, _ADD_PROXY, _DEL_PROXY = 200, 202, 204, 205, 210, 211
_GET_VIF_COUNT = 0x89E0  # SIOCGETVIFCNT, SIOCGETMIFCNT_IN6
_USE_IFINDEX = 8
_MOST_VIFS = 32
_FAMILY = {4: 128, 6: 129}  # RTNL_FAMILY_IPMR, RTNL_FAMILY_IP6MR
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_MULTIPATH = 1, 2, 3, 9
_RTMSG = 12
_ANY = {4: bytes(4), 6: bytes(16)}


@dataclass(frozen=True, slots=True)
class MulticastRoute:
    """A line of ``ip mroute show``: where the packets of a multicast group are forwarded.

    Attributes:
        group: the address of the group.
        source: the sender that the route is for; None: any.
        iif: name of the incoming interface.
        oifs: names of the outgoing interfaces.

    Example:
        >>> router.multicast_routes.add("239.1.2.3", lan, [red])
        >>> [(route.group, route.oifs) for route in router.multicast_routes]
    """

    group: Address
    source: Address | None
    iif: str
    oifs: tuple[str, ...]

    def __str__(self) -> str:
        return f"({self.source or '*'}, {self.group}) iif {self.iif} oif {' '.join(self.oifs)}"


class MulticastRoutes:
    """The static multicast routes of a router, read from the kernel at each access. They last as long as the router.

    A packet is forwarded only if its TTL or hop limit is above 1. The default of multicast senders is 1; they raise it
    with IP_MULTICAST_TTL or IPV6_MULTICAST_HOPS.

    Example:
        >>> route = router.multicast_routes.add("239.1.2.3", lan, [red])
        >>> router.multicast_routes.remove(route)
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sockets: dict[int, socket.socket] = {}
        self._vifs: dict[int, dict[int, int]] = {4: {}, 6: {}}
        self._vifs_made = {4: 0, 6: 0}  # numbers are not used again: routes may still name those of removed interfaces
        self._parents: dict[tuple[Address, Address | None], int] = {}
        self._wanted: dict[tuple[Address, Address | None], MulticastRoute] = {}

    def __iter__(self) -> Iterator[MulticastRoute]:
        names = link_names(self._node)
        return iter([route for version in self._sockets for route in self._of(version, names)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"<multicast routes of {self._node.name!r}: {'; '.join(map(str, self)) or 'none'}>"

    def add(
        self,
        group: str | Address,
        iif: str | Interface | Node,
        oifs: Sequence[str | Interface | Node],
        *,
        source: str | Address | None = None,
    ) -> MulticastRoute:
        """Forward a group from one interface to others. Returns the route, read back from the kernel.

        A route for the same group and source is replaced.

        Args:
            group: the address of the group, IPv4 or IPv6.
            iif: the incoming interface: one of the router, by object or name, or a node at its other end.
            oifs: the outgoing interfaces, likewise.
            source: the sender that the route is for; None: any.

        Raises:
            TopologyError: not a multicast address, no such interface, or no outgoing interface; or the router has
                crashed.
            KernelError: the kernel refused, e.g. because a multicast daemon runs in this router (EADDRINUSE).

        Example:
            >>> router.multicast_routes.add("239.1.2.3", lan, [red])
        """
        what = self._ready()
        address = parse_plain(group, what)
        sender = parse_plain(source, f"{what}: source") if source is not None else None
        if not address.is_multicast:
            raise TopologyError(f"{what}: {address} is not a multicast address (224.0.0.0/4, ff00::/8)")
        if getattr(address, "scope_id", None):
            raise TopologyError(f"{what}: {address} names an interface; iif= says where the packets come in")
        if sender is not None and sender.version != address.version:
            raise TopologyError(f"{what}: {address} and its source {sender} are of different families")
        if isinstance(oifs, str) or not isinstance(oifs, Sequence) or not oifs:
            raise TopologyError(f"{what}: oifs is {oifs!r}; it can be a list of interfaces, at least one")
        comes = named_interface(self._node, iif, what)
        goes = [named_interface(self._node, each, what) for each in oifs]
        if comes in goes:
            raise TopologyError(f"{what}: {comes.name!r} is the iif, and one of the oifs, too")
        return self._add(MulticastRoute(address, sender, comes.name, tuple(each.name for each in goes)), comes, goes)

    def _add(self, wanted: MulticastRoute, comes: Interface, goes: Sequence[Interface]) -> MulticastRoute:
        address, sender = key = wanted.group, wanted.source
        ways = {each.name: self._vif(address.version, each) for each in (comes, *goes)}
        # Of any sender: the kernel takes them in where they may go out, and never sends them back there.
        out = [ways[name] for name in (wanted.oifs if sender is not None else ways)]
        self._ask(wanted, _ADD_MFC if sender is not None else _ADD_PROXY, ways[comes.name], out, "add")
        old = self._parents.get(key)
        if sender is None and old not in (None, ways[comes.name]):  # the kernel has one for each incoming interface
            self._ask(self._wanted[key], _DEL_PROXY, old, [], "delete")
        self._wanted[key], self._parents[key] = wanted, ways[comes.name]
        return next(each for each in self if (each.group, each.source) == key)

    def remove(self, route: MulticastRoute) -> None:
        """Remove a route: the packets of its group are no longer forwarded.

        Args:
            route: as ``add`` returned it.

        Raises:
            TopologyError: it is not a route, or the router has crashed.
            KernelError: there is no such route (ENOENT), e.g. because another has replaced it.

        Example:
            >>> route = router.multicast_routes.add("239.1.2.3", lan, [red])
            >>> router.multicast_routes.remove(route)
        """
        what = self._ready()
        if not isinstance(route, MulticastRoute):
            raise TopologyError(f"{what}: {route!r} cannot be removed; expected a route as add() returns it")
        key = route.group, route.source
        wanted = self._wanted.get(key)
        same = wanted is not None and (wanted.iif, set(wanted.oifs)) == (route.iif, set(route.oifs))
        if wanted is None or not (same or route in list(self)):
            raise KernelError(errno.ENOENT, f"mroute delete {route}", self._node.name)
        if key in self._parents:
            self._ask(route, _DEL_MFC if route.source is not None else _DEL_PROXY, self._parents[key], [], "delete")
        del self._wanted[key]
        self._parents.pop(key, None)

    def restore(self) -> None:
        """Add the routes again after a restart of the router, whose sockets were closed with the old namespace."""
        self._sockets, self._vifs, self._vifs_made, self._parents = {}, {4: {}, 6: {}}, {4: 0, 6: 0}, {}
        present = self._node.interfaces
        for route in list(self._wanted.values()):
            if {route.iif, *route.oifs} <= set(present):
                self._add(route, present[route.iif], [present[name] for name in route.oifs])

    def _ready(self) -> str:
        """What a message is about. Raises TopologyError if the router has crashed."""
        what = f"multicast route of {self._node.name!r}"
        if self._node._has_crashed:
            raise TopologyError(f"{what}: it has crashed; restart() it first")
        return what

    # -------------------------------------------------------------- the kernel

    def _socket(self, version: int) -> socket.socket:
        """The multicast routing socket (MRT_INIT). The kernel allows one per namespace and family."""
        if version not in self._sockets:
            family, protocol = (
                (socket.AF_INET, socket.IPPROTO_IGMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
            )
            # Not node.socket(), which refuses while the node is being restarted.
            sock = open_socket(self._node, family, socket.SOCK_RAW, protocol, self._node._hold)
            try:
                sock.setsockopt(_level(version), _INIT, 1)
            except OSError as error:
                sock.close()
                raise KernelError.of(
                    error, "mroute init", self._node.name, "does a multicast routing daemon run there?"
                ) from error
            self._sockets[version] = sock
        return self._sockets[version]

    def _vif(self, version: int, interface: Interface) -> int:
        """The number of an interface in the kernel's VIF table, where it is added if it is not in it yet."""
        vifs = self._vifs[version]
        if interface.index in vifs and not self._has_vif(version, vifs[interface.index]):
            del vifs[interface.index]  # that of an interface that was removed, whose index this one has
        if interface.index not in vifs:
            number = self._vifs_made[version]
            if number >= _MOST_VIFS:
                raise TopologyError(f"multicast routes of {self._node.name!r}: the kernel has {_MOST_VIFS} interfaces")
            if version == 4:
                body = struct.pack("=HBBIi4x", number, _USE_IFINDEX, 1, 0, interface.index)
            else:
                body = struct.pack("=HBBHxxI", number, 0, 1, interface.index, 0)
            self._set(version, _ADD_VIF, body, f"mroute add vif {interface.name}")
            vifs[interface.index], self._vifs_made[version] = number, number + 1
        return vifs[interface.index]

    def _has_vif(self, version: int, number: int) -> bool:
        """Whether the kernel's VIF table has this number: it drops those of interfaces that are removed."""
        try:
            ioctl(self._socket(version), _GET_VIF_COUNT, struct.pack("@H4L", number, 0, 0, 0, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise KernelError.of(error, f"mroute show vif {number}", self._node.name) from error
        return True

    def _ask(self, route: MulticastRoute, option: int, parent: int, out: Sequence[int], verb: str) -> None:
        version = route.group.version
        source = route.source.packed if route.source is not None else _ANY[version]
        if version == 4:
            ttls = bytes(1 if number in out else 255 for number in range(_MOST_VIFS))
            body = struct.pack("=4s4sH32sxx3Ii", source, route.group.packed, parent, ttls, 0, 0, 0, 0)
        else:
            chosen = sum(1 << number for number in out)
            body = _sockaddr6(source) + _sockaddr6(route.group.packed) + struct.pack("=HxxI28x", parent, chosen)
        self._set(version, option, body, f"mroute {verb} {route}")

    def _set(self, version: int, option: int, body: bytes, words: str) -> None:
        sock = self._socket(version)
        try:
            sock.setsockopt(_level(version), option, body)
        except OSError as error:
            raise KernelError.of(error, words, self._node.name) from error

    def _of(self, version: int, names: dict[int, str]) -> Iterator[MulticastRoute]:
        request = Request(RTM_GETROUTE, 0, struct.pack("=B11x", _FAMILY[version]), "ip mroute show")
        for body in self._node.rtnl.dump(request):
            found = attributes(body, _RTMSG)
            if _RTA_IIF not in found:  # an unresolved entry: packets came for which there is no route
                continue
            iif = names.get(struct.unpack("=I", found[_RTA_IIF])[0], "")
            hops = struct.iter_unpack("=HBBi", found.get(_RTA_MULTIPATH, b""))
            oifs = tuple(name for *_, index in hops if (name := names.get(index, f"if{index}")) != iif)
            source = found.get(_RTA_SRC, _ANY[version])
            sender = ip_address(source) if any(source) else None
            yield MulticastRoute(ip_address(found[_RTA_DST]), sender, iif, oifs)


def _level(version: int) -> int:
    return socket.IPPROTO_IP if version == 4 else socket.IPPROTO_IPV6


def _sockaddr6(packed: bytes) -> bytes:
    return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed, 0)
