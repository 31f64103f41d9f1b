"""Sockets as the standard library makes them, whatever a test has put in the place of ``socket.socket``.

pytest-socket, mocks of HTTP and SOCKS libraries replace that class, or methods of it, so that tests reach nobody. Ours
reach nobody in any case: they live in the namespaces of a lab, or talk to the kernel.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_netns.kernel.locks import Lock

if TYPE_CHECKING:
    _Standard = socket.socket
else:
    # Found by its base: the name may stand for something else when this is imported.
    _Standard = next(
        each for each in _socket.socket.__subclasses__() if (each.__module__, each.__name__) == ("socket", "socket")
    )

#: ``socket.getaddrinfo`` with numbers for families and kinds.
getaddrinfo: Callable[..., list[tuple[int, int, int, str, tuple[str, int]]]] = _socket.getaddrinfo  # type: ignore[assignment]

_lock = Lock("putting the sockets of the standard library in their place")
#: How many threads want the standard library's sockets now, and what the name stood for before the first of them did.
_users = 0
_replaced: type[socket.socket] = _Standard


class Socket(_Standard):
    """``socket.socket``, never replaced."""

    __slots__ = ()

    connect: Callable[..., None] = _socket.socket.connect
    connect_ex: Callable[..., int] = _socket.socket.connect_ex

    def accept(self) -> tuple[Socket, object]:
        """See ``socket.socket.accept``, which would make one of whatever has that name now."""
        fd, peer = self._accept()  # type: ignore[attr-defined]
        accepted = Socket(self.family, self.type, self.proto, fileno=fd)
        if socket.getdefaulttimeout() is None and self.gettimeout():
            accepted.setblocking(True)
        return accepted, peer


def socket_pair(family: int, kind: int) -> tuple[Socket, Socket]:
    """See ``socket.socketpair``."""
    left, right = _socket.socketpair(family, kind)
    return Socket(family, kind, 0, left.detach()), Socket(family, kind, 0, right.detach())


def are_replaced() -> bool:
    """Whether ``socket.socket`` stands for something else now."""
    return socket.socket is not _Standard


@contextmanager
def standard_sockets() -> Iterator[None]:
    """``socket.socket`` is the standard library's for the duration of this block: for libraries that we call.

    It is so for all threads, and short.
    """
    global _users, _replaced
    with _lock:
        if _users == 0:
            _replaced = socket.socket
            socket.socket = _Standard  # type: ignore[misc]
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                socket.socket = _replaced  # type: ignore[misc]
