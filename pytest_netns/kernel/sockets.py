"""Sockets as the standard library makes them, whatever a test has put in the place of ``socket.socket``.

pytest-socket, mocks of HTTP and SOCKS libraries replace that class, or methods of it, so that tests reach nobody. Ours
reach nobody in any case: they live in the namespaces of a lab, or talk to the kernel.
"""

from __future__ import annotations

import _socket
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Standard = socket.socket
else:
    # Found by its base: the name may stand for something else when this is imported.
    _Standard = next(
        each for each in _socket.socket.__subclasses__() if (each.__module__, each.__name__) == ("socket", "socket")
    )


class Socket(_Standard):
    """``socket.socket``, never replaced."""

    __slots__ = ()

    connect = _socket.socket.connect
    connect_ex = _socket.socket.connect_ex

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
