"""Plain sockets that live in a namespace."""

from __future__ import annotations

import socket as _socket

from pytest_netns.checks import check_whole
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.stack.handle import Handle


def socket(
    namespace: Handle,
    family: int = _socket.AF_INET,
    type: int = _socket.SOCK_STREAM,
    proto: int = 0,
) -> _socket.socket:
    """A plain socket in this namespace, usable from any thread. Closed with the namespace.

    Args:
        family: ``socket.AF_INET``, ``AF_INET6``, ``AF_PACKET``, ...
        type: ``socket.SOCK_STREAM``, ``SOCK_DGRAM``, ``SOCK_RAW``, ...
        proto: protocol number; 0 for the usual one.

    Raises:
        OSError: as ``socket.socket`` does.

    Example:
        >>> sock = red.socket(socket.AF_INET, socket.SOCK_DGRAM)
        >>> sock.sendto(b"hello", (str(blue.ip4), 7))
    """
    for what, number in (("family", family), ("type", type), ("proto", proto)):
        check_whole(what, number, 0, 0x7FFFFFFF)
    namespace._before_entry()
    # Held here: a test's own reference is gone before its fixtures are, and Python would complain of the socket.
    return open_socket(namespace, family, type, proto, namespace._hold)
