"""ICMP echo: is it there, how far, how reliably."""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean, median, pstdev

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Packet, Raw

from pytest_netns.addresses import Address
from pytest_netns.checks import check_range
from pytest_netns.clock import monotonic
from pytest_netns.probe import icmp
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.sockets import (
    IP_MTU_DISCOVER,
    IPV6_DONTFRAG,
    IPV6_MTU_DISCOVER,
    PMTUDISC_DO,
    PMTUDISC_DONT,
    Waiter,
    raw_socket,
    set_ttl,
)
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.namespace import Namespace

#: With interval=0, the next request goes out after this many seconds at the latest, as with ``ping -f``.
_FLOOD_GAP = 0.01
_LARGEST = {4: 65507, 6: 65527}
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1

# Identifiers tell concurrent probes apart.
_identifiers = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True)
class RttStatistics:
    """Round-trip times in seconds, summed up as ping(8) does, and by their median.

    Attributes:
        count: how many.
        min: the shortest.
        avg: their mean.
        max: the longest.
        mdev: their standard deviation.
        median: half of them are not longer.
    """

    count: int
    min: float
    avg: float
    max: float
    mdev: float
    median: float

    @classmethod
    def of(cls, rtts: Sequence[float]) -> RttStatistics:
        """Sum up ``rtts``, at least one round-trip time in seconds."""
        return cls(len(rtts), min(rtts), fmean(rtts), max(rtts), pstdev(rtts), median(rtts))

    def __str__(self) -> str:
        shown = "/".join(f"{1000 * value:.3f}" for value in (self.min, self.avg, self.max, self.mdev))
        return f"rtt min/avg/max/mdev = {shown} ms, median {1000 * self.median:.3f} ms of {self.count}"


@dataclass(frozen=True, slots=True)
class PingResult:
    """The outcome of a ping. Truthy if every request was answered.

    Attributes:
        source: name of the node that asked.
        destination: name and address of whom it asked.
        address: that address.
        sent: requests sent.
        received: requests answered.
        duplicates: further replies to requests that had been answered.
        rtts: round-trip times in seconds, of each answered request in order.
        ttl: time to live (hop limit) left in the first reply; None without one.
        error: the first ICMP error that came back, or what the node's own kernel said; None if neither did.
    """

    source: str
    destination: str
    address: Address
    sent: int
    received: int
    duplicates: int = 0
    rtts: tuple[float, ...] = ()
    ttl: int | None = None
    error: ProbeError | None = None
    _raw: tuple[bytes, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return self.received == self.sent > 0

    @property
    def loss(self) -> float:
        """Share of requests without an answer, 0.0 to 1.0."""
        return 1 - self.received / self.sent if self.sent else 0.0

    @property
    def rtt(self) -> RttStatistics | None:
        """What the round-trip times come to; None without a reply."""
        return RttStatistics.of(self.rtts) if self.rtts else None

    @property
    def replies(self) -> list[Packet]:
        """The replies as scapy packets, dissected now: from the IP header for IPv4, from ICMPv6 for IPv6."""
        return [_dissect(self.address.version, raw) for raw in self._raw]

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination}: {self.sent} sent, {self.received} received"
        if self.duplicates:
            text += f", {self.duplicates} duplicates"
        if self.sent != self.received and self.received:
            text += f", {100 * self.loss:.3g}% lost"
        if self.rtts:
            text += f", rtt {fmean(self.rtts) * 1000:.3f} ms, ttl {self.ttl}"
        if self.error is not None:
            text += f": {self.error}"
        elif not self.received:
            text += ": no answer"
        return f"<PingResult {text}>"


def _dissect(version: int, raw: bytes) -> Packet:
    return IP(raw) if version == 4 else ICMPv6EchoReply(raw)


@lru_cache(maxsize=64)
def _template(version: int, size: int) -> bytes:
    """An echo request with identifier, sequence number and checksum 0."""
    payload = Raw(bytes(i & 0xFF for i in range(size)))
    packet = ICMP(type=8, chksum=0) / payload if version == 4 else ICMPv6EchoRequest(cksum=0) / payload
    return bytes(packet)


def _request(version: int, size: int, identifier: int, sequence: int) -> bytes:
    data = bytearray(_template(version, size))
    struct.pack_into("!HH", data, 4, identifier, sequence)
    if version == 4:  # for IPv6 the kernel adds the checksum, as it alone knows the source address
        struct.pack_into("!H", data, 2, icmp.checksum(bytes(data)))
    return bytes(data)


def configure(sock: socket.socket, version: int, ttl: int, df: bool) -> None:
    """Let through what answers an echo request, and set what goes into the IP header."""
    set_ttl(sock, version, ttl)
    if version == 4:
        passed = (icmp.ECHO_REPLY, *icmp.ERRORS4)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~sum(1 << t for t in passed) & 0xFFFFFFFF))
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO if df else PMTUDISC_DONT)
        return
    blocked = bytearray(b"\xff" * 32)
    for kind in (icmp.ECHO_REPLY6, *icmp.ERRORS6):
        word, bit = divmod(kind, 32)
        value = struct.unpack_from("=I", blocked, word * 4)[0] & ~(1 << bit)
        struct.pack_into("=I", blocked, word * 4, value)
    sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO if df else PMTUDISC_DONT)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, int(df))


def ping(
    node: Namespace,
    destination: Destination,
    *,
    count: int = 1,
    interval: float = 0.0,
    timeout: float = 1.0,
    size: int = 56,
    ttl: int = 64,
    df: bool = False,
) -> PingResult:
    """See ``Node.ping``."""
    target = resolve(node, destination)
    version = target.address.version
    check_range("count", count, 1, 65535)
    check_range("interval", interval, 0, 3600)
    check_range("timeout", timeout, 0, 3600)
    check_range("size", size, 0, _LARGEST[version])
    check_range("ttl", ttl, 1, 255)
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    with raw_socket(node, version, protocol) as sock:
        configure(sock, version, ttl, df)
        return Exchange(node.name, sock, target, size).run(count, interval, timeout)


class Exchange:
    """Requests in flight to one destination, and what has come back for them.

    Several may use one socket: a raw socket gets every ICMP packet of its namespace, so each packet is handed to the
    exchange whose identifier it carries.
    """

    def __init__(self, source: str, sock: socket.socket, target: Target, size: int) -> None:
        self.source = source
        self.socket = sock
        self.identifier: int = next(_identifiers) & 0xFFFF
        self._target = target
        self._version = target.address.version
        self._packed = target.address.packed
        self._size = size
        self._sent: dict[int, float] = {}
        self._rtts: dict[int, float] = {}
        self._settled: set[int] = set()
        self._duplicates = 0
        self._ttl: int | None = None
        self._error: ProbeError | None = None
        self._raw: deque[bytes] = deque(maxlen=1000)

    @property
    def settled(self) -> bool:
        """Whether every request so far was answered or refused."""
        return len(self._settled) == len(self._sent)

    def run(self, count: int, interval: float, timeout: float) -> PingResult:
        """Send all requests and collect the replies."""
        waiter = Waiter(self.socket)
        mine = {self.identifier: self}
        gap = interval or _FLOOD_GAP
        for sequence in range(1, count + 1):
            self.send(sequence)
            if sequence == count:
                break
            pause = monotonic() + gap
            while monotonic() < pause and (interval or sequence not in self._settled):
                if waiter.wait(pause):
                    self.receive_all(self.socket, mine)
        deadline = monotonic() + timeout
        while not self.settled:
            if waiter.wait(deadline):
                self.receive_all(self.socket, mine)
            elif monotonic() >= deadline:
                break
        if count > 1:
            self.receive_all(self.socket, mine)  # duplicates of the last ones may be there already
        return self.result(count)

    def result(self, count: int) -> PingResult:
        """What has come of ``count`` requests."""
        return PingResult(
            source=self.source,
            destination=self._target.label,
            address=self._target.address,
            sent=count,
            received=len(self._rtts),
            duplicates=self._duplicates,
            rtts=tuple(self._rtts[sequence] for sequence in sorted(self._rtts)),
            ttl=self._ttl,
            error=self._error,
            _raw=tuple(self._raw),
        )

    def send(self, sequence: int) -> None:
        """Send one request."""
        data = _request(self._version, self._size, self.identifier, sequence)
        address = str(self._target.address)
        to = (address, 0) if self._version == 4 else (address, 0, 0, self._target.scope)
        self._sent[sequence] = monotonic()
        try:
            self.socket.sendto(data, to)
        except OSError as error:
            self._settled.add(sequence)
            self._error = self._error or icmp.local_error(error)

    @staticmethod
    def receive_all(sock: socket.socket, exchanges: Mapping[int, Exchange]) -> None:
        """Read all that is queued, and hand it to the exchanges by identifier."""
        version = 4 if sock.family == socket.AF_INET else 6
        while True:
            try:
                data, control, _, sender = sock.recvmsg(1 << 16, 64)
            except BlockingIOError:
                return
            now = monotonic()
            if version == 4:
                message, ttl = data[(data[0] & 15) * 4 :], data[8]
            else:
                message, ttl = data, struct.unpack("=i", control[0][2])[0]
            if len(message) < 8:
                continue
            if message[0] in (icmp.ECHO_REPLY, icmp.ECHO_REPLY6):
                identifier, sequence = struct.unpack_from("!HH", message, 4)
                if (exchange := exchanges.get(identifier)) is not None:
                    exchange._answered(sequence, now, ttl, data)
                continue
            about = icmp.quoted(version, message[8:])
            echo = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
            if about is not None and about.protocol == echo:
                identifier, sequence = struct.unpack_from("!HH", about.payload, 4)
                if (exchange := exchanges.get(identifier)) is not None and about.destination == exchange._packed:
                    exchange._refused(sequence, sender[0], message)

    def _answered(self, sequence: int, now: float, ttl: int, data: bytes) -> None:
        if sequence not in self._sent:
            return
        if sequence in self._rtts:
            self._duplicates += 1
            return
        self._rtts[sequence] = now - self._sent[sequence]
        self._settled.add(sequence)
        if self._ttl is None:
            self._ttl = ttl
        self._raw.append(data)

    def _refused(self, sequence: int, sender: str, message: bytes) -> None:
        if sequence in self._sent and sequence not in self._rtts:
            self._settled.add(sequence)
            error = icmp.icmp_error(self._version, sender, message[0], message[1], message[4:8])
            self._error = self._error or error
