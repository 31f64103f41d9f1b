"""Packet sockets: Ethernet frames on the interfaces of a namespace (packet(7))."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.kernel.syscalls import Holder

#: EtherType for bind() that means every protocol (<linux/if_ether.h>).
ETH_P_ALL = 0x0003
#: Level and numbers of the socket options used here (<linux/if_packet.h>).
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_AUXDATA, PACKET_VNET_HDR = 6, 8, 15
#: Buffer sizes beyond the system's limit, for privileged processes (<asm-generic/socket.h>).
_FORCED = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}


def open_packet_socket(
    place: Holder | int, configure: Callable[[socket.socket], object] | None = None
) -> socket.socket:
    """Open a packet socket in a namespace, not bound to an interface. The caller closes it.

    Its protocol is 0, so it receives nothing until bind(), which then takes microseconds. With a protocol set from the
    start, bind() would wait for an RCU grace period of 8 ms.

    Args:
        place: the object that keeps the namespace alive; or its descriptor, if it cannot be closed meanwhile.
        configure: called with the socket, after leaving the namespace; if it raises, the socket is closed.

    Raises:
        OSError: as ``socket.socket`` does, and as ``configure`` does.
    """
    return open_socket(place, socket.AF_PACKET, socket.SOCK_RAW, 0, configure)


def set_buffer(sock: socket.socket, option: int, size: int) -> None:
    """Set a buffer size; without privileges, the system's limit for ordinary users applies.

    Args:
        sock: any socket.
        option: SO_SNDBUF or SO_RCVBUF.
        size: size in bytes.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _FORCED[option], size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
