"""The standard library's sockets, even if a test has replaced ``socket.socket``.

pytest-socket, HTTP mocks and SOCKS libraries replace that class or its methods, mostly to keep tests off the network.
The sockets here cannot reach the network in any case: they are in the namespaces of a lab, or talk to the kernel.
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
    # Found by its base class: the name may be replaced already when this module is imported.
    _Standard = next(
        each for each in _socket.socket.__subclasses__() if (each.__module__, each.__name__) == ("socket", "socket")
    )

#: ``socket.getaddrinfo`` with plain integers for families and types.
getaddrinfo: Callable[..., list[tuple[int, int, int, str, tuple[str, int]]]] = _socket.getaddrinfo  # type: ignore[assignment]

_lock = Lock("putting the sockets of the standard library in their place")
#: How many threads are in ``standard_sockets()`` now, and the value of ``socket.socket`` before the first entered.
_users = 0
_replaced: type[socket.socket] = _Standard


class Socket(_Standard):
    """The original ``socket.socket``."""

    __slots__ = ()

    connect: Callable[..., None] = _socket.socket.connect
    connect_ex: Callable[..., int] = _socket.socket.connect_ex

    def accept(self) -> tuple[Socket, object]:
        """See ``socket.socket.accept``, which would create an instance of the replaced class."""
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
    """Whether ``socket.socket`` is replaced now."""
    return socket.socket is not _Standard


@contextmanager
def standard_sockets() -> Iterator[None]:
    """Restore ``socket.socket`` for the duration of this block, for libraries that this package calls.

    It affects all threads, so keep the block short.
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
