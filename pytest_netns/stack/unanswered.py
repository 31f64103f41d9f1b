"""Connections of programs in a namespace that did not come about, as the kernel tells when their sockets are gone.

sock_diag(7) tells of each TCP socket as it is destroyed (SKNLGRP_INET_TCP_DESTROY), with what it has counted
(``struct tcp_info``). One that never was connected has measured no round-trip time. It tells of UDP sockets, too, and
nothing that these have counted: whether somebody has answered is told by the counters of the namespace.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request, attributes
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.kernel.syscalls import entered
from pytest_netns.stack.handle import Handle

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
# SKNLGRP_INET_TCP_DESTROY, .._UDP_.., SKNLGRP_INET6_TCP_DESTROY and .._UDP_.. of <linux/sock_diag.h>, as bits
_GROUPS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3
_ESTABLISHED, _SYN_SENT = 1, 2
_REQUEST = struct.Struct("=BBBxI")
# struct inet_diag_msg of <linux/inet_diag.h>: family, state, ..., ports, addresses; then attributes
_FAMILY, _DPORT, _DESTINATION, _MESSAGE = 0, 6, 24, 72
_INFO = 2
# struct tcp_info of <linux/tcp.h>: round-trip time, received segments
_RTT, _SEGMENTS_IN = 68, 140
_HEADER = 16
#: What waits for an answer: the protocol, the state of its sockets, and in the words of ss(8).
_WAITING = (
    (socket.IPPROTO_TCP, _SYN_SENT, "ss --tcp state syn-sent"),
    (socket.IPPROTO_UDP, _ESTABLISHED, "ss --udp state established"),
)
_SO_ATTACH_FILTER = 26
#: Bytes of queue asked for. The kernel grants some 200 kB, room for a few hundred.
_BUFFER = 1 << 20
# Only what has measured no round-trip time is taken in: a daemon may have had thousands of other connections. UDP
# sockets have no such attribute; of these, those that are connected to a port.
# SKF_AD_NLATTR finds an attribute by its type, from an offset on (socket(7), SO_ATTACH_FILTER).
_NEVER_CONNECTED = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x00, 0, 0, _HEADER + _MESSAGE),  # ld #88
        (0x01, 0, 0, _INFO),  # ldx #INET_DIAG_INFO
        (0x20, 0, 0, 0xFFFFF000 + 12),  # ld attribute
        (0x15, 3, 0, 0),  # none: UDP
        (0x07, 0, 0, 0),  # tax
        (0x40, 0, 0, 4 + _RTT),  # ld [x + 72]
        (0x15, 3, 2, 0),  # none was measured: accept; else drop
        (0x28, 0, 0, _HEADER + _DPORT),  # ldh [22]
        (0x15, 0, 1, 0),  # none: drop
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A TCP connection that did not come about, or a UDP socket that was not answered.

    Attributes:
        address: of who was to be reached.
        port: likewise.
        refused: somebody has said no; else nobody has said anything. Not known of UDP.
        kind: ``tcp`` or ``udp``.
    """

    address: Address
    port: int
    refused: bool
    kind: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True)
class _Datagrams:
    """How many a namespace has sent, and taken in."""

    sent: int
    received: int


class ConnectionLog:
    """Tells of the connections of a namespace that did not come about, from its making on.

    Its socket belongs to the namespace and goes with it.

    Args:
        handle: whose.

    Raises:
        OSError: the kernel has no sock_diag, or does not tell this user.
    """

    def __init__(self, handle: Handle) -> None:
        def configure(sock: socket.socket) -> None:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            _attach(sock)
            sock.bind((0, _GROUPS))

        self._handle = handle
        self._inode = handle.inode
        self._sock = open_socket(handle, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG, configure)
        handle._hold(self._sock)
        self._datagrams = _counted(handle)

    @property
    def is_open(self) -> bool:
        """Whether the namespace is still the one that it listens to."""
        return self._sock.fileno() >= 0 and not self._handle.closed and self._handle.inode == self._inode

    def forget(self) -> None:
        """Let what came so far be forgotten."""
        self._read()
        self._datagrams = _counted(self._handle)

    def read(self) -> list[Unanswered]:
        """What has come since it was read last, and what waits for an answer now; the newest at the end.

        UDP sockets only if datagrams were sent, and none at all has come in.
        """
        if not self.is_open:
            return []
        before, now = self._datagrams, _counted(self._handle)
        unanswered = now.sent > before.sent and now.received == before.received
        found = [*self._read(), *self._waiting()]
        return [each for each in found if each.kind == "tcp" or unanswered]

    def _read(self) -> list[Unanswered]:
        found: list[Unanswered] = []
        while self._sock.fileno() >= 0:
            try:
                data = self._sock.recv(1 << 14)
            except BlockingIOError:
                break
            except OSError:  # more came than it has room for: what it has queued is there still
                continue
            if len(data) >= _HEADER + _MESSAGE and (each := _decode(data[_HEADER:])) is not None:
                found.append(each)
        return found

    def _waiting(self) -> list[Unanswered]:
        with entered(self._handle):
            link = NetlinkSocket(self._handle.name, _NETLINK_SOCK_DIAG)
        try:
            bodies = [
                body
                for protocol, state, words in _WAITING
                for family in (AF_INET, AF_INET6)
                for body in link.dump(
                    Request(
                        _SOCK_DIAG_BY_FAMILY,
                        0,
                        _REQUEST.pack(family, protocol, 1 << _INFO - 1, 1 << state) + bytes(48),
                        words,
                    )
                )
            ]
        except NetnsError:
            return []
        finally:
            link.close()
        return [each for body in bodies if (each := _decode(body)) is not None]


def _decode(body: bytes) -> Unanswered | None:
    """None if it is one that was to be connected to nobody, as a listener's is."""
    port = int.from_bytes(body[_DPORT : _DPORT + 2], "big")
    info = attributes(body, _MESSAGE).get(_INFO)
    if not port or (info is not None and len(info) < _SEGMENTS_IN + 4):
        return None
    address: Address
    if body[_FAMILY] == AF_INET:
        address = IPv4Address(body[_DESTINATION : _DESTINATION + 4])
    else:
        six = IPv6Address(body[_DESTINATION : _DESTINATION + 16])
        address = six.ipv4_mapped or six
    if info is None:
        return None if address.is_multicast else Unanswered(address, port, refused=False, kind="udp")
    return Unanswered(address, port, refused=struct.unpack_from("=I", info, _SEGMENTS_IN)[0] > 0)


def _counted(handle: Handle) -> _Datagrams:
    """UDP of both families, as netstat(8) -s shows it."""
    sent = received = 0
    with entered(handle):
        try:
            with open("/proc/thread-self/net/snmp", encoding="ascii") as four:
                names, values = (line.split() for line in four if line.startswith("Udp:"))
            counted = dict(zip(names, values, strict=False))
            sent, received = int(counted["OutDatagrams"]), int(counted["InDatagrams"])
            with open("/proc/thread-self/net/snmp6", encoding="ascii") as file:
                six = dict(line.split() for line in file)
            sent, received = sent + int(six["Udp6OutDatagrams"]), received + int(six["Udp6InDatagrams"])
        except (OSError, KeyError, ValueError):  # a kernel without IPv6
            pass
    return _Datagrams(sent, received)


def _attach(sock: socket.socket) -> None:
    import ctypes  # not before a program runs

    buffer = ctypes.create_string_buffer(_NEVER_CONNECTED)
    program = struct.pack("@HP", len(_NEVER_CONNECTED) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
