"""Listening sockets of a namespace, by sock_diag(7), or by /proc/net (proc_pid_net(5)) where that is missing.

Each table such as /proc/net/tcp takes 3.5 ms to read, even when empty: the kernel walks the machine's hash table of all
connections. sock_diag can return listening sockets only, in 0.06 ms.

Encoded by hand, without pyroute2: ``spawn(ready=port)`` polls this, and importing pyroute2 would add 180 ms.
"""

from __future__ import annotations

import errno
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.errors import KernelError
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request
from pytest_netns.kernel.syscalls import entered

Transport = Literal["tcp", "udp"]

# The states of listening sockets (include/net/tcp_states.h): TCP_LISTEN, and TCP_CLOSE for a UDP socket that is bound
# and not connected.
WAITING = {"tcp": "0A", "udp": "07"}
_NUMBERS = {"tcp": 6, "udp": 17}

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
# struct inet_diag_req_v2 without the socket's identity, which stays zero; struct inet_diag_msg up to the source
# address. See <linux/inet_diag.h>.
_REQUEST, _IDENTITY = struct.Struct("=BBBxI"), bytes(48)
_PORT, _SOURCE, _RECEIVE_QUEUE, _INODE = 4, 8, 56, 68


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket, or a UDP socket that is bound and not connected."""

    address: Address
    port: int
    protocol: Transport

    def __str__(self) -> str:
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.protocol} {shown}:{self.port}"

    def takes(self, address: Address) -> bool:
        """Whether it receives packets sent to an address: it is bound to that address, or to any."""
        if self.address.is_unspecified:
            return self.address.version == address.version or self.address.version == 6  # [::] takes IPv4 too
        return self.address == address


def listeners(netns: int, protocol: Transport) -> list[Listener]:
    """All listening sockets of a namespace, IPv4 and IPv6, sorted by port."""
    return sorted(_sockets(netns, protocol), key=lambda listener: (listener.port, str(listener.address)))


def listening_sockets(netns: int, protocol: Transport, port: int) -> set[int]:
    """Inodes of the sockets of a namespace that listen on a port, as in /proc/PID/fd."""
    found = _sockets(netns, protocol).items()
    return {inode for listener, inodes in found if listener.port == port for inode in inodes}


def _sockets(netns: int, protocol: Transport) -> dict[Listener, set[int]]:
    try:
        return by_diag(netns, protocol)
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return by_table(netns, protocol)  # a kernel without inet_diag
    except OSError:  # the kernel lacks sock_diag, or seccomp forbids it
        return by_table(netns, protocol)


def by_diag(netns: int, protocol: Transport) -> dict[Listener, set[int]]:
    """Listeners and the inodes of their sockets, by sock_diag. Raises KernelError, OSError where the kernel lacks it.

    Several sockets can share an address and port (SO_REUSEPORT).
    """
    found: dict[Listener, set[int]] = {}
    # Not interruptible: the kernel answers at once.
    with uninterrupted, ExitStack() as stack:
        with entered(netns):
            socket = NetlinkSocket(f"net:[{netns}]", _NETLINK_SOCK_DIAG)
        stack.callback(socket.close)
        for family in (AF_INET, AF_INET6):
            body = _REQUEST.pack(family, _NUMBERS[protocol], 0, 1 << int(WAITING[protocol], 16)) + _IDENTITY
            for answer in socket.dump(Request(_SOCK_DIAG_BY_FAMILY, 0, body, f"ss --listening --{protocol}")):
                (port,) = struct.unpack_from("!H", answer, _PORT)
                raw = answer[_SOURCE : _SOURCE + (4 if answer[0] == AF_INET else 16)]
                (inode,) = struct.unpack_from("=I", answer, _INODE)
                found.setdefault(Listener(_of_bytes(raw), port, protocol), set()).add(inode)
    return found


def unread(netns: int, port: int) -> int:
    """Bytes queued on a UDP port of a namespace that were not read yet; 0 if that is unknown."""
    found = 0
    try:
        with entered(netns):
            socket = NetlinkSocket(f"net:[{netns}]", _NETLINK_SOCK_DIAG)
        try:
            for family in (AF_INET, AF_INET6):
                body = _REQUEST.pack(family, _NUMBERS["udp"], 0, 1 << int(WAITING["udp"], 16)) + _IDENTITY
                found += sum(
                    struct.unpack_from("=I", answer, _RECEIVE_QUEUE)[0]
                    for answer in socket.dump(Request(_SOCK_DIAG_BY_FAMILY, 0, body, "ss --listening --udp"))
                    if struct.unpack_from("!H", answer, _PORT)[0] == port
                )
        finally:
            socket.close()
    except (KernelError, OSError):  # a kernel without inet_diag, or seccomp forbids it
        return 0
    return found


def by_table(netns: int, protocol: Transport) -> dict[Listener, set[int]]:
    """The same as ``by_diag``, from the tables in /proc/net."""
    with entered(netns):
        rows = _rows(protocol) + _rows(f"{protocol}6")
    found: dict[Listener, set[int]] = {}
    for row in rows:
        _, local, _, state, _, _, _, _, _, inode, *_ = row.split()
        if state == WAITING[protocol]:
            address, _, port = local.partition(":")
            listener = Listener(_address(address), int(port, 16), protocol)
            found.setdefault(listener, set()).add(int(inode))
    return found


def _rows(table: str) -> list[str]:
    try:
        with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
            return file.readlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        return []


def _address(text: str) -> Address:
    # /proc/net prints addresses as 32-bit words in host byte order
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return _of_bytes(struct.pack(f"={len(words)}I", *words))


def _of_bytes(raw: bytes) -> Address:
    if len(raw) == 4:
        return IPv4Address(raw)
    six = IPv6Address(raw)
    return six.ipv4_mapped or six
