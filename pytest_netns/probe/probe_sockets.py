"""Sockets inside a namespace, what the kernel says of them, and how to close the slow ones without waiting."""

from __future__ import annotations

import errno
import select
import socket
import struct

from pytest_netns.clock import monotonic
from pytest_netns.errors import KernelError
from pytest_netns.kernel import reaper
from pytest_netns.kernel.interrupts import checkpoint, uninterrupted
from pytest_netns.kernel.packet_socket import open_packet_socket
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import entered
from pytest_netns.probe import icmp
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.stack.handle import Handle

ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD

# From <linux/in.h> and <linux/in6.h>; Python has not all of them.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 10, 23, 62
PMTUDISC_DONT, PMTUDISC_DO = 0, 2
_IP_RECVERR, _IPV6_RECVERR = 11, 25
# <linux/errqueue.h>
_SO_EE_ORIGIN_LOCAL = 1
_EXTENDED_ERROR = struct.Struct("=IBBBxI4x")

_RECEIVE_BUFFER = 1 << 20
#: Seconds between two looks whether a wait was interrupted.
_SLICE = 0.02


def family_of(version: int) -> socket.AddressFamily:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def open_sockets(node: Handle, version: int, *kinds: tuple[int, int]) -> list[socket.socket]:
    """Sockets inside that do not block, each of a type and a protocol. The caller closes them.

    Raises:
        KernelError: the kernel refused one.
    """
    opened: list[socket.socket] = []
    try:
        with uninterrupted, entered(node):
            for kind, protocol in kinds:
                flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                opened.append(Socket(family_of(version), kind | flags, protocol))
    except BaseException as error:  # of the block, or what has waited for its end
        for each in opened:
            each.close()
        if isinstance(error, OSError):
            raise KernelError.of(error, f"IPv{version} socket", node.name) from error
        raise
    return opened


def raw_socket(node: Handle, version: int, protocol: int) -> socket.socket:
    """A raw IP socket inside: it sends payloads to which the kernel adds the IP header, by its own routes.

    It receives a copy of every packet of ``protocol`` that arrives for the namespace, whatever its checksum, unless
    that is ICMPv6 (raw(7)). The caller closes it.
    """
    return open_sockets(node, version, (socket.SOCK_RAW, protocol))[0]


def set_ttl(sock: socket.socket, version: int, ttl: int) -> None:
    """Set the time to live (hop limit) of what a socket sends."""
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)


def set_group_ttl(sock: socket.socket, version: int, ttl: int) -> None:
    """The same of what it sends to multicast groups."""
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)


def set_group_interface(sock: socket.socket, version: int, index: int) -> None:
    """Set the interface by which a socket sends to multicast groups."""
    if version == 4:  # struct ip_mreqn
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index))
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)


def tell_errors(sock: socket.socket, version: int) -> None:
    """Have the kernel tell which ICMP error it was that came back, and from whom (IP_RECVERR, ip(7))."""
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)


def told_error(sock: socket.socket, version: int) -> tuple[int, ProbeError | None]:
    """What has gone wrong with a socket: an errno, 0 if nothing has; and who said so, if it was an ICMP error."""
    try:
        _, control, _, _ = sock.recvmsg(1, 256, socket.MSG_ERRQUEUE)
    except OSError as error:
        if error.errno != errno.EAGAIN:
            return error.errno or 0, None
        control = []
    refused = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    for level, kind, data in control:
        if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            continue
        number, by, icmp_type, code, info = _EXTENDED_ERROR.unpack_from(data)
        if by == _SO_EE_ORIGIN_LOCAL:
            return number, ProbeError(icmp.local_error(OSError(number, "")).text, errno=number, mtu=info or None)
        address = data[20:24] if version == 4 else data[24:40]
        too_big = number == errno.EMSGSIZE
        sender = socket.inet_ntop(family_of(version), address)
        return number, icmp.in_words(version, sender, icmp_type, code, (info or None) if too_big else None)
    return refused, None


def packet_socket(node: Handle, interface: str, ethertype: int) -> socket.socket:
    """A socket for whole Ethernet frames on one interface (packet(7)). To be closed by ``close_later``."""

    def configure(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setblocking(False)
        sock.bind((interface, ethertype))

    try:
        return open_packet_socket(node, configure)
    except OSError as error:
        raise KernelError.of(error, f"packet socket on {interface}", node.name) from error


def close_later(sock: socket.socket) -> None:
    """Close a packet socket without waiting for the kernel to let go of it."""
    reaper.later(sock.close)


class Waiter:
    """Waits until one of a few sockets has something to read, or a moment has come.

    May be interrupted, inside of a block of ``uninterrupted`` too.
    """

    def __init__(self, *sockets: socket.socket) -> None:
        self._poll = select.poll()
        self._by_fd = {sock.fileno(): sock for sock in sockets}
        for fd in self._by_fd:
            self._poll.register(fd, select.POLLIN)

    def also_writable(self, sock: socket.socket) -> None:
        """Wait for this one to be connected, too."""
        self._poll.register(sock.fileno(), select.POLLOUT)
        self._by_fd[sock.fileno()] = sock

    def wait(self, until: float) -> list[socket.socket]:
        """The readable sockets; empty when it is ``until`` on the clock of ``pytest_netns.clock``."""
        while True:
            checkpoint()
            left = until - monotonic()
            # poll(2) counts in milliseconds; rounding up would make short pauses long, so the rest is polled for.
            found = self._poll.poll(min(left, _SLICE) * 1000 if left > 0 else 0)
            if found or left <= _SLICE:
                return [self._by_fd[fd] for fd, _ in found]
