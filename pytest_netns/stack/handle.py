"""Handle: what an interface, and code that enters, know of a namespace. ``Namespace`` is one."""

from __future__ import annotations

import socket as _socket
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from pytest_netns.kernel.netlink.socket import NetlinkSocket

if TYPE_CHECKING:
    from pytest_netns.impair.engine import Impairments
    from pytest_netns.impair.target import Target

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Handle(Protocol):
    """A network namespace that is held by a descriptor.

    Attributes:
        name: what messages call it.
        rtnl: a netlink socket inside.
    """

    name: str
    rtnl: NetlinkSocket

    @property
    def fd(self) -> int:
        """The descriptor that keeps it alive. Raises NetnsError once closed."""
        ...

    @property
    def inode(self) -> int:
        """Its number, as ``readlink /proc/PID/ns/net`` shows it in brackets for a process inside."""
        ...

    @property
    def closed(self) -> bool:
        """True after ``close()``."""
        ...

    @property
    def impairments(self) -> Impairments:
        """Those of its interfaces."""
        ...

    def impairment_words(self, interface: Target) -> str:
        """What was set last for an interface and by which engine; empty if nothing was."""
        ...

    def next_index(self) -> int:
        """An interface index that is free; 0 lets the kernel choose."""
        ...

    def interface_changed(self, index: int) -> None:
        """Called when an interface was set up, or was given or has lost an address."""
        ...

    def before_entry(self) -> None:
        """Called before a thread or a process of the test goes inside."""
        ...

    def call(self, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run ``func`` in a new thread inside, and return its value or raise its exception."""
        ...

    def socket(self, family: int = ..., type: int = ..., proto: int = ...) -> _socket.socket:
        """A plain socket that lives in it, usable from any thread."""
        ...
