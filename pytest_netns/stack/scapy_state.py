"""What scapy knows of interfaces and routes, for code that calls its functions inside a namespace.

scapy reads interfaces, routes and the default interface when it is imported, and keeps them, and a cache of MAC
addresses, for the whole process (https://github.com/secdev/scapy/issues/3467). So ``sr1()`` in a namespace would go by
those of the machine: no such device, wrong sources, MAC addresses of another lab. Once code has entered a namespace,
``conf.ifaces``, ``conf.route``, ``conf.route6`` and ``conf.iface`` show what the calling thread's namespace has. It is
read when something is looked up for the first time after an entry, in some 40 ms. Nothing is read where nobody asks
scapy, and scapy is not imported here.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from pytest_netns.kernel.locks import Lock

_lock = Lock("reading what scapy knows of a namespace")
_states: dict[int, _State] = {}
_installed = False


class _Loading(threading.local):
    """The state that the thread is reading."""

    state: _State | None = None


_loading = _Loading()


class _State:
    """What one namespace has, read from it by the first thread that asks."""

    def __init__(self) -> None:
        self.ifaces: dict[str, Any] = {}
        self.routes: list[Any] = []
        self.cache: dict[Any, Any] = {}
        self.routes6: list[Any] = []
        self.cache6: dict[Any, Any] = {}
        self.ipv6_ifaces: set[Any] = set()
        self.iface: Any = None

    def load(self) -> None:
        """Read it: scapy's own functions ask the namespace of the calling thread."""
        from scapy.config import conf
        from scapy.interfaces import get_working_if

        conf.netcache.flush()
        conf.ifaces._reload_provs()
        conf.route.resync()
        if conf.route6 is not None:
            conf.route6.resync()
        self.iface = get_working_if()


def _inode() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def _state() -> _State:
    if (loading := _loading.state) is not None:
        return loading
    inode = _inode()
    state = _states.get(inode)
    if state is None:
        with _lock:
            state = _states.get(inode)
            if state is None:
                state = _loading.state = _State()
                try:
                    state.load()
                finally:
                    _loading.state = None
                _states[inode] = state  # whole, for the other threads that are in this namespace
    return state


def _shown(name: str) -> property:
    """An attribute that is the calling thread's namespace's."""
    return property(lambda _: getattr(_state(), name), lambda _, value: setattr(_state(), name, value))


def entered(before: int, inode: int) -> None:
    """Called when a thread has entered a namespace: what was known of it may have changed since.

    Args:
        before: number of the namespace that it was in.
        inode: number of the one that it is in.
    """
    if "scapy.route" in sys.modules:
        _install(before)
        _states.pop(inode, None)


def left(inode: int) -> None:
    """Called when a thread has come back from a namespace."""
    if "scapy.route" in sys.modules:
        _install(inode)
        if _states.pop(inode, None) is not None:
            sys.modules["scapy.config"].conf.netcache.flush()


def _install(owner: int) -> None:
    """Have scapy ask here; nothing happens if it does.

    Args:
        owner: the namespace in which scapy was imported, whose interfaces and routes it shows.
    """
    global _installed
    with _lock:
        if _installed:
            return
        from scapy import interfaces, route
        from scapy.config import conf

        state = _State()
        state.ifaces, state.iface = conf.ifaces.data, conf.iface
        state.routes, state.cache = conf.route.routes, conf.route.cache
        six = sys.modules.get("scapy.route6")
        if six is not None and conf.route6 is not None:
            state.routes6, state.cache6, state.ipv6_ifaces = (
                conf.route6.routes,
                conf.route6.cache,
                conf.route6.ipv6_ifaces,
            )
            shown = {"routes": _shown("routes6"), "cache": _shown("cache6"), "ipv6_ifaces": _shown("ipv6_ifaces")}
            conf.route6.__class__ = type("Route6", (six.Route6,), shown)
        _states[owner] = state
        conf.ifaces.__class__ = type("Interfaces", (interfaces.NetworkInterfaceDict,), {"data": _shown("ifaces")})
        conf.route.__class__ = type("Route", (route.Route,), {"routes": _shown("routes"), "cache": _shown("cache")})
        conf.__class__ = type("Conf", (type(conf),), {"iface": _Iface()})
        _installed = True


class _Iface:
    """``conf.iface``, which can be set by name too."""

    def __get__(self, _: object, __: type | None = None) -> Any:
        return _state().iface

    def __set__(self, _: object, value: Any) -> None:
        from scapy.interfaces import resolve_iface

        _state().iface = resolve_iface(value) if isinstance(value, str) else value
