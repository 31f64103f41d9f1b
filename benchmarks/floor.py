"""The floor: the same networks by hand-packed rtnetlink(7) messages, as few system calls as they can be made with.

It stands alone: struct, socket and ctypes, and nothing of pytest_netns. It checks no names, hands out no addresses and
words no errors.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNET = 0x40000000
_REQUEST_ACK, _CREATE_EXCL = 0x005, 0x600
_NEWLINK, _GETLINK, _NEWADDR = 16, 18, 20
_UP = 1
_NODAD = 0x02
_OPERSTATE_UP, _PORT_FORWARDING = b"\x06", b"\x03"
_FIRST = 1000  # as in pytest_netns: below it there may be devices that kernel modules put into every namespace

_header = struct.Struct("=IHHII").pack
_attribute = struct.Struct("=HH").pack
_link = struct.Struct("=BxHiII").pack
_address = struct.Struct("=BBBBI").pack
_u32 = struct.Struct("=I").pack
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

Sysctls = Mapping[str, str]


@cache
def _home() -> int:
    return os.open(
        "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC
    )  # at the first use: it is too early on import


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _attr(kind: int, value: bytes) -> bytes:
    size = len(value)
    return _attribute(size + 4, kind) + value + _PADDING[size & 3]


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _header(16 + len(body), kind, flags | _REQUEST_ACK, 1, 0) + body


def _identity(name: str, mac: bytes) -> bytes:
    return _attr(3, name.encode() + b"\0") + _attr(1, mac)


def _link_up(index: int) -> bytes:
    return _message(_NEWLINK, 0, _link(0, 0, index, _UP, _UP))


_LOOPBACK_UP = _link_up(1)
_ONE_QUEUE = _attr(31, _u32(1)) + _attr(32, _u32(1))
_NO_LINK_LOCAL = _attr(26, _attr(10, _attr(8, b"\x01")))


def _veth(name: str, index: int, peer_index: int, peer_fd: int, up: bool = True) -> bytes:
    peer = _link(0, 0, peer_index, 0, 0) + _identity("eth0", _mac(index, 1)) + _attr(28, _u32(peer_fd)) + _ONE_QUEUE
    info = _attr(18, _attr(1, b"veth") + _attr(2, _attr(1, peer)))
    body = _link(0, 0, index, up, _UP) + _identity(name, _mac(index, 0)) + _ONE_QUEUE + info
    return _message(_NEWLINK, _CREATE_EXCL, body)


def _port(index: int, master: int) -> bytes:
    return _message(_NEWLINK, 0, _link(0, 0, index, _UP, _UP) + _attr(10, _u32(master)) + _NO_LINK_LOCAL)


def _mac(index: int, side: int) -> bytes:
    return struct.pack("!BBI", 2, side, index)


def _addresses(index: int, number: int, ipv6: bool) -> list[bytes]:
    four = struct.pack("!BBH", 10, 0, number)
    body = _address(2, 24, 0, 0, index) + _attr(2, four) + _attr(1, four)
    messages = [_message(_NEWADDR, _CREATE_EXCL, body)]
    if ipv6:
        six = struct.pack("!H12xH", 0xFD00, number)
        messages.append(_message(_NEWADDR, _CREATE_EXCL, _address(10, 64, _NODAD, 0, index) + _attr(2, six)))
    return messages


class Node:
    """A namespace and a netlink socket in it."""

    def __init__(self, sysctls: Sysctls) -> None:
        _home()
        _checked(_libc.unshare(_NEWNET))
        try:
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            for path, value in sysctls.items():
                file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                os.write(file, value.encode())
                os.close(file)
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        finally:
            _checked(_libc.setns(_home(), _NEWNET))

    def batch(self, messages: list[bytes]) -> None:
        self.socket.send(b"".join(messages))
        pending = len(messages)
        while pending:
            data, offset = self.socket.recv(65536), 0
            while offset < len(data):
                size, _, _, _, _, number = struct.unpack_from("=IHHIIi", data, offset)
                if number:
                    raise OSError(-number, os.strerror(-number))
                pending -= 1
                offset += (size + 3) & ~3

    def wait_up(self, index: int, port: bool = False) -> None:
        """Until it has a carrier, and as a bridge's port forwards."""
        body = _link(0, 0, index, 0, 0)
        while True:
            self.socket.send(_header(16 + len(body), _GETLINK, 1, 1, 0) + body)
            link = _parse(self.socket.recv(65536), 32)
            if link[16] == _OPERSTATE_UP and (not port or _parse(_parse(link[18])[5])[1] == _PORT_FORWARDING):
                return

    def close(self) -> None:
        self.socket.close()
        os.close(self.fd)


def _parse(data: bytes, offset: int = 0) -> dict[int, bytes]:
    found = {}
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def make_pair(sysctls: Sysctls, ipv6: bool = True) -> tuple[Node, Node]:
    """Two namespaces and a veth, addressed (10.0.0.1 and 10.0.0.2), with a carrier."""
    left, right = Node(sysctls), Node(sysctls)
    left.batch([_LOOPBACK_UP, _veth("eth0", _FIRST, _FIRST, right.fd), *_addresses(_FIRST, 1, ipv6)])
    right.batch([_LOOPBACK_UP, _link_up(_FIRST), *_addresses(_FIRST, 2, ipv6)])
    left.wait_up(_FIRST)
    right.wait_up(_FIRST)
    return left, right


def ping(node: Node, address: str) -> None:
    """One ICMP echo request and its reply."""
    _checked(_libc.setns(node.fd, _NEWNET))
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    finally:
        _checked(_libc.setns(_home(), _NEWNET))
    with sock:
        sock.settimeout(3)
        # Type 8, checksum and identifier worked out by hand; 56 bytes of zeros behind them.
        sock.sendto(struct.pack("!BBHHH56x", 8, 0, 0xFFFF - 0x0800 - 0x1234 - 1, 0x1234, 1), (address, 0))
        while True:
            reply = sock.recv(65536)
            if reply[20] == 0 and reply[24:28] == b"\x12\x34\x00\x01":
                return


# What is timed: each generator yields the name of the step that it has just done.


def netns(sysctls: Sysctls) -> Iterator[str]:
    node = Node(sysctls)
    node.batch([_LOOPBACK_UP])
    yield "set-up"
    node.close()
    yield "tear-down"


def pair(sysctls: Sysctls, ipv6: bool = True) -> Iterator[str]:
    nodes = make_pair(sysctls, ipv6)
    yield "set-up"
    for node in nodes:
        node.close()
    yield "tear-down"


def bridge(sysctls: Sysctls, size: int) -> Iterator[str]:
    switch = Node(sysctls)
    kind = _attr(18, _attr(1, b"bridge"))
    body = _link(0, 0, _FIRST, _UP, _UP) + _identity("br0", _mac(_FIRST, 2)) + kind
    switch.batch([_LOOPBACK_UP, _message(_NEWLINK, _CREATE_EXCL, body)])
    hosts = [Node(sysctls) for _ in range(size)]
    for i, host in enumerate(hosts):
        port = _FIRST + 1 + i
        switch.batch([_veth(f"h{i}", port, _FIRST, host.fd, up=False), _port(port, _FIRST)])
        host.batch([_LOOPBACK_UP, _link_up(_FIRST), *_addresses(_FIRST, i + 1, True)])
    for i, host in enumerate(hosts):
        switch.wait_up(_FIRST + 1 + i, port=True)
        host.wait_up(_FIRST)
    yield "set-up"
    for node in (switch, *hosts):
        node.close()
    yield "tear-down"


def pings(sysctls: Sysctls) -> Iterator[str]:
    left, right = make_pair(sysctls)
    yield "set-up"
    ping(left, "10.0.0.2")
    yield "first"
    ping(left, "10.0.0.2")
    yield "next"
    left.close()
    right.close()
    yield "tear-down"


def run(sysctls: Sysctls) -> Iterator[str]:
    node = Node(sysctls)
    yield "set-up"
    for step in ("first", "next"):
        _checked(_libc.setns(node.fd, _NEWNET))
        try:
            subprocess.run(["true"], check=True, capture_output=True, text=True)
        finally:
            _checked(_libc.setns(_home(), _NEWNET))
        yield step
    node.close()
    yield "tear-down"
