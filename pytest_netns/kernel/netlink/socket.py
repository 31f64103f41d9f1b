"""A netlink socket in one namespace: batches of requests in one send, and dumps.

Batches are the hot path of the whole package. pyroute2 needs 0.25-0.4 ms to encode a request that the kernel answers in
microseconds. So the requests of set-up are encoded by hand (see rtnetlink.py), rare ones by pyroute2's message classes
(see pyroute2_codec.py), and both are sent through this socket.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_netns.errors import KernelError, NetnsError, WaitTimeout
from pytest_netns.kernel.high_descriptors import lift
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netns.lost import lost, shows
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import entered

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

_SIOCGSKNS = 0x894C  # a socket's network namespace; <linux/sockios.h>
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_NLMSG_ERROR = 2
_NLMSG_DONE = 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_RECEIVE = 1 << 16

#: Timeout in seconds for an answer of the kernel. Answers take microseconds, or some tens of milliseconds while another
#: namespace is being dismantled under the same lock.
DEADLINE = 30.0
#: Maximum number of requests per batch for callers with hundreds: more answers would overflow the receive buffer.
MOST_AT_ONCE = 100


class Request(NamedTuple):
    """A message to the kernel, and the equivalent ip(8) command for error messages."""

    type: int
    flags: int
    body: bytes
    operation: str


def attribute(kind: int, value: bytes) -> bytes:
    """Encode a netlink attribute: length, type, value, padding to four bytes."""
    size = len(value)
    return _ATTRIBUTE.pack(size + 4, kind) + value + _PADDING[size & 3]


def attributes(data: bytes | memoryview, offset: int = 0) -> dict[int, bytes]:
    """Attributes of a message by type, without flag bits. A malformed rest is ignored, as in libnetlink."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            break
        found[kind & 0x3FFF] = bytes(data[offset + 4 : offset + size])
        offset += (size + 3) & ~3
    return found


def rows(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each attribute in turn, for arrays in which several attributes have the same type."""
    end = len(data)
    while offset + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            return
        yield kind & 0x3FFF, bytes(data[offset + 4 : offset + size])
        offset += (size + 3) & ~3


class NetlinkSocket:
    """A netlink socket, usable from any thread. It stays in the namespace in which it was created."""

    def __init__(self, node: str, protocol: int = NETLINK_ROUTE, *, apart: bool = False) -> None:
        self.node = node
        self._lock = Lock(f"talking to the kernel of namespace {node!r}")
        self._sequence = 0
        self._asked = False  # whether unread answers may be queued
        self._protocol = protocol
        self._owner = os.getpid()
        try:
            self._socket = _opened(protocol)
            if apart:
                self._socket = _lifted(self._socket)
            self._inode = os.fstat(self._socket.fileno()).st_ino
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise KernelError(error.errno, "netlink socket", node) from error
            raise

    def close(self) -> list[str]:
        """Close the socket, after any other thread has received its answer. Further calls do nothing.

        Returns:
            Messages about problems: that other code has closed the descriptor.
        """
        with self._lock:
            fd = self._socket.fileno()
            if fd >= 0 and not shows(fd, self._inode):
                self._socket.detach()
                return [lost(fd, f"of the netlink socket of namespace {self.node!r}")]
            self._socket.close()
            return []

    def become(self, other: NetlinkSocket, last: Sequence[Request] = ()) -> None:
        """Take over the socket of ``other``, and with it the namespace; the previous socket is closed.

        Args:
            other: created for this purpose; nothing else may use it.
            last: requests to the previous namespace, sent first. Other threads see them and the switch as one step.

        Raises:
            KernelError: the kernel refused one of them; this socket is unchanged.
        """
        with self._lock:
            if last:
                self.batch(last)
            before, self._socket = self._socket, other._socket
            self._inode = other._inode
            before.close()

    def batch(self, requests: Sequence[Request]) -> None:
        """Send all requests at once, read every answer, then raise KernelError for the first that was refused.

        The kernel continues after a refused request, so later ones may have taken effect.
        """
        with self._lock:
            first = self._sequence + 1
            self._sequence += len(requests)
            self._send(
                b"".join(
                    _HEADER.pack(16 + len(r.body), r.type, r.flags | NLM_F_REQUEST | NLM_F_ACK, first + i, 0) + r.body
                    for i, r in enumerate(requests)
                ),
                requests[0].operation,
            )
            failure: KernelError | None = None
            pending = len(requests)
            while pending:
                for kind, flags, sequence, data in self._receive(requests[0].operation):
                    index = sequence - first
                    if kind != _NLMSG_ERROR or not 0 <= index < len(requests):
                        continue
                    pending -= 1
                    number = -struct.unpack_from("=i", data)[0]
                    if number and failure is None:
                        failure = KernelError(number, requests[index].operation, self.node, _detail(data, flags))
            self._asked = False
        if failure is not None:
            raise failure

    def get(self, request: Request) -> bytes:
        """Request one object and return the body of the answer. Raises KernelError."""
        with self._lock:
            self._sequence += 1
            self._send(
                _HEADER.pack(16 + len(request.body), request.type, NLM_F_REQUEST, self._sequence, 0) + request.body,
                request.operation,
            )
            while True:
                for kind, flags, sequence, data in self._receive(request.operation):
                    if sequence != self._sequence:
                        continue
                    self._asked = False
                    if kind == _NLMSG_ERROR:
                        number = -struct.unpack_from("=i", data)[0]
                        raise KernelError(number, request.operation, self.node, _detail(data, flags))
                    return data

    def dump(self, request: Request) -> list[bytes]:
        """Request all objects of a kind and return the body of each. Raises KernelError.

        A dump during which the table changed is repeated, up to ten times.
        """
        for _ in range(10):
            bodies, interrupted = self._dump_once(request)
            if not interrupted:
                return bodies
        raise KernelError(errno.EINTR, request.operation, self.node, "the table kept changing during ten dumps")

    def _dump_once(self, request: Request) -> tuple[list[bytes], bool]:
        bodies: list[bytes] = []
        interrupted = False
        with self._lock:
            self._sequence += 1
            flags = NLM_F_REQUEST | NLM_F_DUMP
            self._send(
                _HEADER.pack(16 + len(request.body), request.type, flags, self._sequence, 0) + request.body,
                request.operation,
            )
            while True:
                for kind, reply_flags, sequence, data in self._receive(request.operation):
                    if sequence != self._sequence:
                        continue
                    interrupted = interrupted or bool(reply_flags & _NLM_F_DUMP_INTR)
                    self._asked = kind not in (_NLMSG_ERROR, _NLMSG_DONE)
                    if kind == _NLMSG_ERROR:
                        number = -struct.unpack_from("=i", data)[0]
                        raise KernelError(number, request.operation, self.node, _detail(data, reply_flags))
                    if kind == _NLMSG_DONE:
                        return bodies, interrupted
                    bodies.append(data)

    def _send(self, data: bytes, operation: str) -> None:
        try:
            if self._owner != os.getpid():
                self._open_again()
            if self._asked:
                self._drain()
            self._asked = True
            self._socket.send(data)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise NetnsError(f"{operation!r}: namespace {self.node!r} is closed") from None
            raise KernelError.of(error, operation, self.node, "on sending the request") from error

    def _open_again(self) -> None:
        """Open a new socket after a fork: child and parent share the old one and would read each other's answers."""
        import fcntl  # not on Windows, where this module must still import

        namespace = fcntl.ioctl(self._socket, _SIOCGSKNS)
        try:
            with entered(namespace):
                fresh = _opened(self._protocol)
        finally:
            os.close(namespace)
        before, self._socket = self._socket, fresh
        before.close()
        self._inode = os.fstat(fresh.fileno()).st_ino
        self._owner, self._asked = os.getpid(), False

    def _drain(self) -> None:
        """Discard the remaining answers to a request that was interrupted.

        A dump advances only as it is read, and until it is complete the kernel refuses the next one (EBUSY).
        """
        try:
            while self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            pass

    def _receive(self, operation: str) -> list[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            raise WaitTimeout(
                f"{operation!r} in namespace {self.node!r}: no answer from the kernel in {DEADLINE:.0f} s; "
                "look for tasks that hold its rtnl lock (dmesg, /proc/*/stack)"
            ) from None
        except OSError as error:
            if error.errno == errno.EBADF:
                raise NetnsError(f"{operation!r}: namespace {self.node!r} is closed") from None
            raise KernelError.of(error, operation, self.node, "on reading the answer") from error
        messages = []
        offset = 0
        while offset + 16 <= len(data):
            size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            messages.append((kind, flags, sequence, data[offset + 16 : offset + size]))
            offset += (size + 3) & ~3
        return messages


def _lifted(sock: Socket) -> Socket:
    """The same socket, with a descriptor far above those that a test opens."""
    family, kind, protocol = sock.family, sock.type, sock.proto
    return Socket(family, kind, protocol, fileno=lift(sock.detach()))


def _opened(protocol: int) -> Socket:
    sock = Socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
        sock.setsockopt(_SOL_NETLINK, option, 1)
    # Not settimeout(): that adds a poll() to every call.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(DEADLINE), 0))
    return sock


def _detail(data: bytes, flags: int) -> str:
    """The kernel's error message (extended ACK), or an empty string."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    echoed = 16 if flags & _NLM_F_CAPPED else struct.unpack_from("=I", data, 4)[0]
    message = attributes(data, 4 + ((echoed + 3) & ~3)).get(_NLMSGERR_ATTR_MSG, b"")
    return message.rstrip(b"\0").decode("utf-8", "replace")
