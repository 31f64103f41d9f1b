"""Opening a socket in a network namespace. The socket stays there, whichever thread uses it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import Holder, entered


def open_socket(
    place: Holder | int,
    family: int,
    kind: int,
    protocol: int = 0,
    configure: Callable[[socket.socket], object] | None = None,
) -> socket.socket:
    """Open a socket in a namespace. The caller closes it; if this call is interrupted, it is closed.

    Args:
        place: the object that keeps the namespace alive; or its descriptor, if it cannot be closed meanwhile.
        family: ``socket.AF_INET``, ``AF_PACKET``, ...
        kind: ``socket.SOCK_RAW``, ``SOCK_STREAM``, ...
        protocol: protocol number; 0 for the default.
        configure: called with the socket, after leaving the namespace.

    Raises:
        OSError: as ``socket.socket`` does, and as ``configure`` does.
    """
    sock: socket.socket | None = None
    try:
        with uninterrupted:
            with entered(place):
                sock = Socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            if configure is not None:
                configure(sock)
    except BaseException:  # from the block, or a signal delivered at its end
        if sock is not None:
            sock.close()
        raise
    return sock
