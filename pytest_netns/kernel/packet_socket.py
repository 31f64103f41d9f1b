"""Packet sockets: whole Ethernet frames of the interfaces of a namespace (packet(7))."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.kernel.syscalls import Holder

#: For bind(): frames of every protocol (<linux/if_ether.h>).
ETH_P_ALL = 0x0003
#: The level of its options, and those that are used here (<linux/if_packet.h>).
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_AUXDATA, PACKET_VNET_HDR = 6, 8, 15
#: <asm-generic/socket.h>: beyond the limit that the machine sets.
_FORCED = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}


def open_packet_socket(
    place: Holder | int, configure: Callable[[socket.socket], object] | None = None
) -> socket.socket:
    """A packet socket inside, bound to nothing. The caller closes it, or ``configure`` raises and it is closed.

    Its protocol is 0: it receives nothing until bind(), which then costs microseconds. With a protocol from the start,
    bind() would have to wait for an RCU grace period, 8 ms.

    Args:
        place: who keeps the namespace alive; or its descriptor, if nobody can close that meanwhile.
        configure: called with it, outside of the namespace.

    Raises:
        OSError: as ``socket.socket`` does, and as ``configure`` does.
    """
    return open_socket(place, socket.AF_PACKET, socket.SOCK_RAW, 0, configure)


def set_buffer(sock: socket.socket, option: int, size: int) -> None:
    """Ask for a large buffer; without privileges the socket gets as much as the machine allows everyone.

    Args:
        sock: any socket.
        option: SO_SNDBUF or SO_RCVBUF.
        size: bytes.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _FORCED[option], size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
