"""Packet sockets: whole frames of the interfaces of a namespace (packet(7))."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.kernel.syscalls import Holder, bind_packet_socket

# From <linux/if_ether.h>.
ETH_P_ALL = 0x0003
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD

# From <linux/if_packet.h>: options, and where a frame goes.
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_AUXDATA, PACKET_VNET_HDR = 6, 8, 15
PACKET_OUTGOING = 4

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


def open_packet_socket(
    place: Holder | int,
    interface: int | str | None = None,
    ethertype: int = 0,
    configure: Callable[[socket.socket], object] | None = None,
) -> socket.socket:
    """A packet socket inside. The caller closes it, by ``reaper.later`` if it has listened: that takes 8 to 24 ms.

    Args:
        place: as of ``open_socket``.
        interface: index or name of the one that it is bound to, 0 for all; then it does not block. None: it is not
            bound, and sends only.
        ethertype: of the frames that it gets, ``ETH_P_ALL`` for all, 0 for none.
        configure: called with it before it is bound.

    Raises:
        OSError: the kernel refused.
    """

    def bind(sock: socket.socket) -> None:
        if configure is not None:
            configure(sock)
        if interface is None:
            return
        sock.setblocking(False)
        if isinstance(interface, str):
            sock.bind((interface, ethertype))
        else:
            bind_packet_socket(sock.fileno(), ethertype, interface)

    # Protocol 0 is deaf until bind(), which then costs microseconds; given here, bind() would have to wait for an RCU
    # grace period, 8 ms.
    return open_socket(place, socket.AF_PACKET, socket.SOCK_RAW, 0, bind)


def enlarge_buffer(sock: socket.socket, size: int, *, sending: bool = False) -> None:
    """Give a socket a buffer of so many bytes for what it receives or sends; rootless, as much as anybody may have."""
    force, ask = (_SO_SNDBUFFORCE, socket.SO_SNDBUF) if sending else (_SO_RCVBUFFORCE, socket.SO_RCVBUF)
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:  # of the initial user namespace alone
        sock.setsockopt(socket.SOL_SOCKET, ask, size)
