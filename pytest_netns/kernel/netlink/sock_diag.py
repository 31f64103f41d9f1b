"""Who listens on which address and port of a namespace, by sock_diag(7), or by /proc/net (proc_pid_net(5)) without it.

The tables in /proc/net/tcp take 3.5 ms to read each, empty or not: the kernel walks the hash table of all connections
of the machine. sock_diag is asked for those that listen alone, in 0.06 ms.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request
from pytest_netns.kernel.syscalls import entered

Transport = Literal["tcp", "udp"]

# The states of a socket that waits for peers (include/net/tcp_states.h): TCP_LISTEN, and for UDP, which has no states,
# TCP_CLOSE: bound and not connected.
WAITING = {"tcp": "0A", "udp": "07"}
_NUMBERS = {"tcp": 6, "udp": 17}

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
# struct inet_diag_req_v2 without the socket's identity, which stays zero; struct inet_diag_msg up to the source
# address. See <linux/inet_diag.h>.
_REQUEST, _IDENTITY = struct.Struct("=BBBxI"), bytes(48)
_PORT, _SOURCE = 4, 8


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for peers."""

    address: Address
    port: int
    protocol: Transport

    def __str__(self) -> str:
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.protocol} {shown}:{self.port}"

    def takes(self, address: Address) -> bool:
        """Whether what is sent to an address gets here: it is bound to that one, or to any."""
        if self.address.is_unspecified:
            return self.address.version == address.version or self.address.version == 6  # [::] takes IPv4 too
        return self.address == address


def listeners(netns: int, protocol: Transport) -> list[Listener]:
    """All sockets of a namespace that wait for peers, over IPv4 and IPv6, by port."""
    try:
        found = by_diag(netns, protocol)
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        found = by_table(netns, protocol)  # a kernel without inet_diag
    except OSError:  # without netlink sockets for it, or not allowed (seccomp)
        found = by_table(netns, protocol)
    return sorted(found, key=lambda listener: (listener.port, str(listener.address)))


def by_diag(netns: int, protocol: Transport) -> set[Listener]:
    """The same in no order, by sock_diag. Raises KernelError, OSError where the kernel lacks it."""
    found = set()
    with entered(netns):
        socket = NetlinkSocket(f"net:[{netns}]", _NETLINK_SOCK_DIAG)
    try:
        for family in (AF_INET, AF_INET6):
            body = _REQUEST.pack(family, _NUMBERS[protocol], 0, 1 << int(WAITING[protocol], 16)) + _IDENTITY
            for answer in socket.dump(Request(_SOCK_DIAG_BY_FAMILY, 0, body, f"ss --listening --{protocol}")):
                (port,) = struct.unpack_from("!H", answer, _PORT)
                raw = answer[_SOURCE : _SOURCE + (4 if answer[0] == AF_INET else 16)]
                found.add(Listener(_of_bytes(raw), port, protocol))
    finally:
        socket.close()
    return found


def by_table(netns: int, protocol: Transport) -> set[Listener]:
    """The same in no order, by the tables in /proc/net."""
    found = set()
    with entered(netns):
        for table in (protocol, protocol + "6"):
            try:
                with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
                    rows = file.readlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for row in rows:
                _, local, _, state, *_ = row.split()
                if state == WAITING[protocol]:
                    address, _, port = local.partition(":")
                    found.add(Listener(_address(address), int(port, 16), protocol))
    return found


def _address(text: str) -> Address:
    # /proc/net has addresses as 32-bit words in the machine's byte order
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return _of_bytes(struct.pack(f"={len(words)}I", *words))


def _of_bytes(raw: bytes) -> Address:
    if len(raw) == 4:
        return IPv4Address(raw)
    six = IPv6Address(raw)
    return six.ipv4_mapped or six
