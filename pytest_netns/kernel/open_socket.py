"""Opening a socket inside a network namespace, where it stays whichever thread uses it."""

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
    """A socket inside. The caller closes it; if this is interrupted it is closed.

    Args:
        place: who keeps the namespace alive; or its descriptor, if nobody can close that meanwhile.
        family: ``socket.AF_INET``, ``AF_PACKET``, ...
        kind: ``socket.SOCK_RAW``, ``SOCK_STREAM``, ...
        protocol: its number; 0 for the usual one.
        configure: called with it, outside of the namespace again.

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
    except BaseException:  # of the block, or what has waited for its end
        if sock is not None:
            sock.close()
        raise
    return sock
