"""What scapy knows of interfaces and routes, for code that calls its functions inside a namespace.

scapy reads interfaces, routes and the default interface when it is imported, and keeps them, and a cache of MAC
addresses, for the whole process (https://github.com/secdev/scapy/issues/3467). So ``sr1()`` in a namespace would go by
those of the machine: no such device, wrong sources, MAC addresses of another lab. Once code has entered a namespace,
``conf.ifaces``, ``conf.route``, ``conf.route6`` and ``conf.iface`` show what the calling thread's namespace has now. It
is read when scapy looks something up, in some 0.3 ms; scapy's own functions take 40 ms and more. Nothing is read where
nobody asks scapy, and scapy is not imported here.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Collection, Iterator
from typing import Any

from pytest_netns.clock import monotonic
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netlink.tables import Route, decode_address, decode_link, decode_route

#: Seconds that what was read is good for: for the many questions of one sending. Opening or closing a packet socket,
#: which each of scapy's functions does, takes longer.
_GOOD_FOR = 0.003
#: Routing tables that scapy looks at: local, main.
_TABLES = (255, 254)
_IFF_MULTICAST = 0x1000
_NO_MAC = "00:00:00:00:00:00"

_lock = Lock("reading what scapy knows of a namespace")
_states: dict[int, _State] = {}
_installed = False


class _Loading(threading.local):
    """The state that the thread is reading."""

    state: _State | None = None


_loading = _Loading()


class _NoCache(dict[Any, Any]):
    """Of routes that scapy has looked up: it asks whether one is there, then for it, and all may be new in between."""

    def __contains__(self, _: object) -> bool:
        return False

    def __setitem__(self, _: object, __: object) -> None:
        pass


class _State:
    """What scapy shows in one namespace, by the names of its attributes."""

    def __init__(self) -> None:
        self.ifaces: dict[str, Any] = {}
        self.routes: list[Any] = []
        self.cache: dict[Any, Any] = _NoCache()
        self.routes6: list[Any] = []
        self.cache6: dict[Any, Any] = _NoCache()
        self.ipv6_ifaces: set[Any] = set()
        self.iface: Any = None
        self.iface_is_set = False
        self._read_at = float("inf")
        self._as_read: object = None

    @property
    def outdated(self) -> bool:
        """Whether it is to be read anew. What the test itself has changed stays until it leaves."""
        return monotonic() - self._read_at > _GOOD_FOR and self._as_read == self._content()

    def _content(self) -> object:
        return list(self.routes), list(self.routes6), set(self.ipv6_ifaces), list(self.ifaces)

    def read(self) -> None:
        """Read what the namespace of the calling thread has."""
        link = NetlinkSocket("scapy")
        try:
            links = link.dump(rtnetlink.link_dump())
            entries = [decode_address(body) for body in link.dump(rtnetlink.address_dump())]
            bodies = [
                body
                for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6)
                for body in link.dump(rtnetlink.route_dump(family))
            ]
        finally:
            link.close()
        names = {each.index: each.name for each in map(decode_link, links)}
        addresses: dict[str, list[str]] = {name: [] for name in names.values()}
        for entry in entries:
            addresses.setdefault(names.get(entry.index, ""), []).append(str(entry.address.ip))
        self.ifaces = {iface.name: iface for iface in _interfaces(links, addresses)}
        found = [route for body in bodies for route in decode_route(body, names) if route.interface is not None]
        for table in _TABLES:
            for route in found:
                if route.table == table:
                    self._add(route, addresses)
        for iface in self.ifaces.values():  # scapy adds these, too
            if iface.flags & _IFF_MULTICAST and iface.ips[4]:
                self.routes.append((0xE0000000, 0xF0000000, "0.0.0.0", iface.name, iface.ips[4][0], 250))
            if iface.flags & _IFF_MULTICAST and iface.ips[6]:
                self.routes6.append(("ff00::", 8, "::", iface.name, list(iface.ips[6]), 250))
        self.ipv6_ifaces = {route[3] for route in self.routes6}
        self._as_read, self._read_at = self._content(), monotonic()

    def _add(self, route: Route, addresses: dict[str, list[str]]) -> None:
        """In the forms of ``scapy.arch.read_routes()`` and ``read_routes6()``."""
        from scapy.utils6 import construct_source_candidate_set, in6_getscope

        to = route.destination
        name = str(route.interface)
        if to.version == 4:
            gateway = str(route.gateway) if route.gateway is not None and route.gateway.version == 4 else "0.0.0.0"
            source = str(route.source or "0.0.0.0")
            self.routes.append((int(to.network_address), int(to.netmask), gateway, name, source, route.metric))
            return
        own = [(each, in6_getscope(each), name) for each in addresses.get(name, ()) if ":" in each]
        prefix = str(to.network_address)
        candidates = construct_source_candidate_set(prefix, to.prefixlen, iter(own))
        if candidates:
            gateway = str(route.gateway or "::")
            self.routes6.append((prefix, to.prefixlen, gateway, name, candidates, route.metric))


def _interfaces(links: list[bytes], addresses: dict[str, list[str]]) -> Iterator[Any]:
    """As ``scapy.arch.linux.LinuxInterfaceProvider.load()`` makes them."""
    from scapy.arch.common import _iff_flags
    from scapy.arch.linux import LinuxInterfaceProvider
    from scapy.config import conf
    from scapy.fields import FlagValue
    from scapy.interfaces import NetworkInterface

    provider = conf.ifaces.providers[LinuxInterfaceProvider]
    for body in links:
        each = decode_link(body)
        yield NetworkInterface(
            provider,
            {
                "name": each.name,
                "network_name": each.name,
                "description": each.name,
                "index": each.index,
                "flags": FlagValue(each.flags, _iff_flags),
                "mac": each.mac or _NO_MAC,
                "type": struct.unpack_from("=H", body, 2)[0],  # ARPHRD_ETHER, ARPHRD_LOOPBACK, ...
                "ips": addresses[each.name],
            },
        )


def _inode() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def _state() -> _State:
    if (loading := _loading.state) is not None:
        return loading
    inode = _inode()
    state = _states.get(inode)
    if state is None or state.outdated:
        with _lock:
            last, state = state, _State()
            state.read()
            if last is not None and last.iface_is_set:
                state.iface, state.iface_is_set = last.iface, True
            else:
                _loading.state = state
                try:
                    state.iface = sys.modules["scapy.interfaces"].get_working_if()
                finally:
                    _loading.state = None
            _states[inode] = state  # whole, for the other threads that are in this namespace
    return state


def _shown(name: str) -> property:
    """An attribute that is the calling thread's namespace's."""

    def show(_: object) -> Any:
        return getattr(_state(), name)

    def change(_: object, value: Any) -> None:
        state = _state()
        if not isinstance(getattr(state, name), _NoCache):
            setattr(state, name, value)

    return property(show, change)


def entered(before: int, inode: int, around: Collection[int] = ()) -> None:
    """Called when a thread has entered a namespace: what was known of it may be of another one of that number.

    Args:
        before: number of the namespace that it was in.
        inode: number of the one that it is in.
        around: numbers of those that it goes back to: they are the same ones as before.
    """
    if "scapy.route" in sys.modules:
        _install(before)
        if inode != before and inode not in around:
            _forget(inode)


def left(inode: int, around: Collection[int] = ()) -> None:
    """Called when a thread has come back from a namespace.

    Args:
        inode: number of the namespace.
        around: numbers of the one that it is in now, and of those that it goes back to.
    """
    if "scapy.route" in sys.modules:
        _install(inode)
        if inode not in around:
            _forget(inode)


def _forget(inode: int) -> None:
    _states.pop(inode, None)
    sys.modules["scapy.config"].conf.netcache.flush()  # MAC addresses of neighbours, whichever namespace's


def _install(owner: int) -> None:
    """Have scapy ask here; what does already is left as it is.

    Args:
        owner: the namespace in which scapy was imported, whose interfaces and routes it shows.
    """
    global _installed
    from scapy.config import conf

    with _lock:
        if not _installed:
            from scapy import interfaces, route

            state = _states[owner] = _State()
            state.ifaces, state.iface = conf.ifaces.data, conf.iface
            state.routes, state.cache = conf.route.routes, conf.route.cache
            # values() at once: scapy's own looks up one by one
            members = {"data": _shown("ifaces"), "values": lambda self: self.data.values()}
            conf.ifaces.__class__ = type("Interfaces", (interfaces.NetworkInterfaceDict,), members)
            conf.route.__class__ = type("Route", (route.Route,), {"routes": _shown("routes"), "cache": _shown("cache")})
            conf.__class__ = type("Conf", (type(conf),), {"iface": _Iface()})
            _installed = True
        six = sys.modules.get("scapy.route6")  # it may come later than the rest
        if six is not None and type(conf.route6) is six.Route6:
            shown = {"routes": _shown("routes6"), "cache": _shown("cache6"), "ipv6_ifaces": _shown("ipv6_ifaces")}
            if (kept := _states.get(owner)) is not None:
                kept.routes6, kept.cache6 = conf.route6.routes, conf.route6.cache
                kept.ipv6_ifaces = conf.route6.ipv6_ifaces
            conf.route6.__class__ = type("Route6", (six.Route6,), shown)


class _Iface:
    """``conf.iface``, which can be set by name too."""

    def __get__(self, _: object, __: type | None = None) -> Any:
        return _state().iface

    def __set__(self, _: object, value: Any) -> None:
        from scapy.interfaces import resolve_iface

        state = _state()
        state.iface = resolve_iface(value) if isinstance(value, str) else value
        state.iface_is_set = True
