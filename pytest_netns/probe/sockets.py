"""Raw sockets inside a namespace, and how to close the slow ones without waiting."""

from __future__ import annotations

import select
import socket

from pytest_netns.clock import monotonic
from pytest_netns.errors import KernelError
from pytest_netns.kernel import reaper
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.stack.handle import Handle
from pytest_netns.stack.namespace import Namespace

ETH_P_ALL = 0x0003
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD

# From <linux/in.h> and <linux/in6.h>; Python has not all of them.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 10, 23, 62
PMTUDISC_DONT, PMTUDISC_DO = 0, 2
IPV6_CHECKSUM = 7

_RECEIVE_BUFFER = 1 << 20


def raw_socket(node: Namespace, version: int, protocol: int) -> socket.socket:
    """A raw IP socket inside: it sends payloads to which the kernel adds the IP header, by its own routes.

    It receives a copy of every packet of ``protocol`` that arrives for the namespace (raw(7)). The caller closes it.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        return open_socket(node, family, socket.SOCK_RAW, protocol, lambda sock: sock.setblocking(False))
    except OSError as error:
        raise KernelError(error.errno or 0, f"raw IPv{version} socket", node.name) from error


def set_ttl(sock: socket.socket, version: int, ttl: int) -> None:
    """Set the time to live (hop limit) of what a socket sends."""
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)


def packet_socket(node: Handle, interface: str, ethertype: int) -> socket.socket:
    """A socket for whole Ethernet frames on one interface (packet(7)). To be closed by ``close_later``."""

    def configure(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setblocking(False)
        sock.bind((interface, ethertype))

    try:
        # Protocol 0 is deaf until bind(), which then costs microseconds; given here, bind() would have to wait for an
        # RCU grace period, 8 ms.
        return open_socket(node, socket.AF_PACKET, socket.SOCK_RAW, 0, configure)
    except OSError as error:
        raise KernelError(error.errno or 0, f"packet socket on {interface}", node.name) from error


def close_later(sock: socket.socket) -> None:
    """Close a packet socket without waiting for the kernel to let go of it."""
    reaper.later(sock.close)


class Waiter:
    """Waits until one of a few sockets has something to read, or a moment has come."""

    def __init__(self, *sockets: socket.socket) -> None:
        self._poll = select.poll()
        self._by_fd = {sock.fileno(): sock for sock in sockets}
        for fd in self._by_fd:
            self._poll.register(fd, select.POLLIN)

    def wait(self, until: float) -> list[socket.socket]:
        """The readable sockets; empty when it is ``until`` on the clock of ``pytest_netns.clock``."""
        left = until - monotonic()
        if left <= 0:
            return [self._by_fd[fd] for fd, _ in self._poll.poll(0)]
        # poll(2) counts in milliseconds; rounding up would make short pauses long, so the rest is polled for.
        return [self._by_fd[fd] for fd, _ in self._poll.poll(left * 1000)]
