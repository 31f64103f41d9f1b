"""Connections of programs in a namespace that did not come about, as the kernel tells when their sockets are gone.

sock_diag(7) tells of each TCP socket as it is destroyed (SKNLGRP_INET_TCP_DESTROY), with what it has counted
(``struct tcp_info``). One that never was connected has measured no round-trip time.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request, attributes
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.kernel.syscalls import entered
from pytest_netns.stack.handle import Handle

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
# SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY of <linux/sock_diag.h>, as bits
_GROUPS = 1 << 0 | 1 << 2
_SYN_SENT = 2
_REQUEST = struct.Struct("=BBBxI")
# struct inet_diag_msg of <linux/inet_diag.h>: family, state, ..., ports, addresses; then attributes
_FAMILY, _DPORT, _DESTINATION, _MESSAGE = 0, 6, 24, 72
_INFO = 2
# struct tcp_info of <linux/tcp.h>: round-trip time, received segments
_RTT, _SEGMENTS_IN = 68, 140
_HEADER = 16
_SO_ATTACH_FILTER = 26
#: Bytes of queue asked for. The kernel grants some 200 kB, room for a few hundred.
_BUFFER = 1 << 20
# Only what has measured no round-trip time is taken in: a daemon may have had thousands of other connections.
# SKF_AD_NLATTR finds an attribute by its type, from an offset on (socket(7), SO_ATTACH_FILTER).
_NEVER_CONNECTED = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x00, 0, 0, _HEADER + _MESSAGE),  # ld #88
        (0x01, 0, 0, _INFO),  # ldx #INET_DIAG_INFO
        (0x20, 0, 0, 0xFFFFF000 + 12),  # ld attribute
        (0x15, 3, 0, 0),  # none: drop
        (0x07, 0, 0, 0),  # tax
        (0x40, 0, 0, 4 + _RTT),  # ld [x + 72]
        (0x15, 1, 0, 0),  # none was measured: accept
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A TCP connection that did not come about.

    Attributes:
        address: of who was to be reached.
        port: likewise.
        refused: somebody has said no; else nobody has said anything.
    """

    address: Address
    port: int
    refused: bool


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

    @property
    def is_open(self) -> bool:
        """Whether the namespace is still the one that it listens to."""
        return self._sock.fileno() >= 0 and not self._handle.closed and self._handle.inode == self._inode

    def forget(self) -> None:
        """Let what came so far be forgotten."""
        self._read()

    def read(self) -> list[Unanswered]:
        """What has come since it was read last, and what waits for an answer now; the newest at the end."""
        return [*self._read(), *self._waiting()] if self.is_open else []

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
                for family in (AF_INET, AF_INET6)
                for body in link.dump(
                    Request(
                        _SOCK_DIAG_BY_FAMILY,
                        0,
                        _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << _INFO - 1, 1 << _SYN_SENT) + bytes(48),
                        "ss --tcp state syn-sent",
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
    info = attributes(body, _MESSAGE).get(_INFO, b"")
    if not port or len(info) < _SEGMENTS_IN + 4:
        return None
    address: Address
    if body[_FAMILY] == AF_INET:
        address = IPv4Address(body[_DESTINATION : _DESTINATION + 4])
    else:
        six = IPv6Address(body[_DESTINATION : _DESTINATION + 16])
        address = six.ipv4_mapped or six
    return Unanswered(address, port, refused=struct.unpack_from("=I", info, _SEGMENTS_IN)[0] > 0)


def _attach(sock: socket.socket) -> None:
    import ctypes  # not before a program runs

    buffer = ctypes.create_string_buffer(_NEVER_CONNECTED)
    program = struct.pack("@HP", len(_NEVER_CONNECTED) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
