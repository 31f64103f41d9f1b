"""ICMP echo: is it there, how far, how reliably."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from ipaddress import ip_address
from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING

from pytest_netns.addresses import Address
from pytest_netns.checks import check_range, check_whole
from pytest_netns.clock import monotonic
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.probe import icmp
from pytest_netns.probe.group import group_interface
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.probe_sockets import (
    IP_MTU_DISCOVER,
    IPV6_DONTFRAG,
    IPV6_MTU_DISCOVER,
    PMTUDISC_DO,
    PMTUDISC_DONT,
    Waiter,
    open_sockets,
    set_group_interface,
    set_group_ttl,
    set_ttl,
)
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Origin, Source, origin
from pytest_netns.topology import transit
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from scapy.packet import Packet

#: With interval=0, the next request goes out after this many seconds at the latest, as with ``ping -f``.
_FLOOD_GAP = 0.01
_LARGEST = {4: 65507, 6: 65527}
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_IPV6_CHECKSUM = 7

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
        error: the first ICMP error that came back, or what the node's own kernel said; else what was wrong with a reply
            that does not count: it came from another address, or its checksum is wrong; None if there was none of it.
        responders: who has answered, each once; of a broadcast address or a multicast group everybody who did in time,
            the asking node itself left out.
        in_flight: where a request, or its reply, may still have been when the time was over; else None.
        bound_to: an address or an interface that it had to come from; None if that was left to the routes.
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
    responders: tuple[Address, ...] = ()
    in_flight: str | None = None
    bound_to: Source | None = None
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
        if self.responders and self.responders != (self.address,):
            text += f" from {', '.join(map(str, self.responders))}"
        if self.duplicates:
            text += f", {self.duplicates} duplicates"
        if self.sent != self.received and self.received:
            text += f", {100 * self.loss:.3g}% lost"
        if self.rtts:
            text += f", rtt {fmean(self.rtts) * 1000:.3f} ms, ttl {self.ttl}"
        if self.error is not None:
            text += f": {self.error}"
        elif self.in_flight is not None:
            text += f": inconclusive, {self.in_flight}"
        elif not self.received:
            text += ": no answer"
        return f"<PingResult {text}>"


def _dissect(version: int, raw: bytes) -> Packet:
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import ICMPv6EchoReply

    return IP(raw) if version == 4 else ICMPv6EchoReply(raw)


@lru_cache(maxsize=64)
def _template(version: int, size: int) -> bytes:
    """An echo request with identifier, sequence number and checksum 0."""
    kind = icmp.ECHO_REQUEST if version == 4 else icmp.ECHO_REQUEST6
    return bytes([kind]) + bytes(7) + bytes(i & 0xFF for i in range(size))


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
    sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _passing6(icmp.ECHO_REPLY6, *icmp.ERRORS6))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO if df else PMTUDISC_DONT)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, int(df))


@lru_cache(maxsize=4)
def _passing6(*kinds: int) -> bytes:
    """A filter that lets some types of ICMPv6 message through: <linux/icmpv6.h>."""
    blocked = (1 << 256) - 1
    for kind in kinds:
        blocked &= ~(1 << kind)
    words = ((blocked >> shift) & 0xFFFFFFFF for shift in range(0, 256, 32))
    return struct.pack("=8I", *words)


def _is_intact6(sender: str, told: Mapping[int, bytes], message: bytes) -> bool:
    """Whether the checksum of an ICMPv6 message is right. A raw socket gets some that the kernel itself drops."""
    source = socket.inet_pton(socket.AF_INET6, sender.partition("%")[0])
    own = told[socket.IPV6_PKTINFO][:16]
    return icmp.is_intact(socket.IPPROTO_ICMPV6, source, own, message)


def ping(
    node: BaseNode,
    destination: Destination,
    *,
    count: int = 1,
    interval: float = 0.0,
    timeout: float = 1.0,
    size: int = 56,
    ttl: int = 64,
    df: bool = False,
    source: Source | None = None,
) -> PingResult:
    """Send ICMP echo requests (RFC 792, RFC 4443) and wait for the replies. Truthy if all were answered.

    A reply from another address than was asked, or with a wrong checksum, is none; ``error`` tells of it. Of a
    broadcast address or a multicast group all who reply within the timeout are listed in ``responders``.

    Args:
        destination: a node, an interface or an address.
        count: how many requests.
        interval: seconds between them; 0 sends the next one when the reply is there.
        timeout: seconds to wait for each reply.
        size: bytes of payload, as ``ping -s``.
        ttl: time to live, or hop limit.
        df: forbid fragments, as ``ping -M do``.
        source: an address or an interface of this node, by object or name, that it comes from; None leaves that to
            the routes.

    Raises:
        TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
            be understood; or the source is none of this node's.
        ValueError: a number is out of range.
    """
    result = ask_ping(
        node,
        destination,
        count=count,
        interval=interval,
        timeout=timeout,
        size=size,
        ttl=ttl,
        df=df,
        source=source,
        in_flight=partial(transit.in_flight, node),
    )
    if not result:
        probe_failed(node, result, "ping", {"size": size, "ttl": ttl, "df": df})
    return result


def ask_ping(
    node: Namespace,
    destination: Destination,
    *,
    count: int = 1,
    interval: float = 0.0,
    timeout: float = 1.0,
    size: int = 56,
    ttl: int = 64,
    df: bool = False,
    source: Source | None = None,
    in_flight: InFlight = nowhere,
) -> PingResult:
    """The question of ``ping`` alone: nobody is told of a failure."""
    bound = origin(node, source)
    target = resolve(node, destination, bound)
    version = target.address.version
    check_whole("count", count, 1, 65535)
    check_range("interval", interval, 0, 3600)
    check_range("timeout", timeout, 0, 3600)
    check_whole("size", size, 0, _LARGEST[version])
    check_whole("ttl", ttl, 1, 255)
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    # Most ICMPv6 messages are checked by the kernel before a raw socket gets them. The second one gets all.
    with uninterrupted:  # but in its waits, where it can close its sockets
        sockets = open_sockets(node, version, *[(socket.SOCK_RAW, protocol)] * (1 if version == 4 else 2))
        try:
            sock = sockets[0]
            configure(sock, version, ttl, df)
            bound.bind(sock)
            exchange = Exchange(node.name, sock, target, size, bound)
            if target.address.is_multicast:
                _configure_group(sock, target, ttl, bound)
                exchange.ask_everybody()
            elif version == 6:
                exchange.listen_for_damaged(sockets[1])
            return exchange.run(count, interval, timeout, in_flight)
        finally:
            for sock in sockets:
                sock.close()


def _configure_group(sock: socket.socket, target: Target, ttl: int, bound: Origin) -> None:
    version = target.address.version
    set_group_ttl(sock, version, ttl)
    if index := target.scope or group_interface(bound, target.address):
        set_group_interface(sock, version, index)


class Exchange:
    """Requests in flight to one destination, and what has come back for them.

    Several may use one socket: a raw socket gets every ICMP packet of its namespace, so each packet is handed to the
    exchange whose identifier it carries.
    """

    def __init__(
        self, source: str, sock: socket.socket, target: Target, size: int, bound: Origin | None = None
    ) -> None:
        self._bound = bound
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
        self._last_sent = 0.0
        self._responders: dict[bytes, set[int]] = {}
        self._own: frozenset[bytes] | None = None  # set for a group, whose members answer from their own addresses
        self._flaw: ProbeError | None = None
        self._refusal: ProbeError | None = None
        self._unchecked: socket.socket | None = None

    @property
    def settled(self) -> bool:
        """Whether every request so far was answered or refused."""
        return len(self._settled) == len(self._sent)

    def ask_everybody(self) -> None:
        """The destination is a group, or a broadcast address: replies of everybody but the node itself count."""
        own = self._bound.node.addresses() if self._bound is not None else []
        self._own = frozenset(address.ip.packed for address in own)

    def listen_for_damaged(self, sock: socket.socket) -> None:
        """Have a second raw ICMPv6 socket tell of replies that the kernel drops because of their checksums."""
        # at this level, that of raw sockets, Linux allows it for ICMPv6 too: net/ipv6/raw.c
        sock.setsockopt(_SOL_RAW, _IPV6_CHECKSUM, -1)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _passing6(icmp.ECHO_REPLY6))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._unchecked = sock

    def run(self, count: int, interval: float, timeout: float, in_flight: InFlight = nowhere) -> PingResult:
        """Send all requests and collect the replies."""
        waiter = Waiter(self.socket)
        mine = {self.identifier: self}
        gap = interval or _FLOOD_GAP
        for sequence in range(1, count + 1):
            self._send_to_anybody(sequence)
            if sequence == count:
                break
            pause = monotonic() + gap
            while monotonic() < pause and (interval or sequence not in self._settled):
                if waiter.wait(pause):
                    self.receive_all(self.socket, mine)
        deadline = monotonic() + timeout
        while not self.settled or (self._own is not None and self._error is None):
            if waiter.wait(deadline):
                self.receive_all(self.socket, mine)
            elif monotonic() >= deadline:
                break
        where = None
        if not self.settled:
            where = in_flight(self._target.address, monotonic() - self._last_sent)
        if where is not None or not self.settled or count > 1:
            self.receive_all(self.socket, mine)  # duplicates of the last ones may be there already
        if not self.settled:
            self._look_for_damaged()
        return self.result(count, None if self.settled else where)

    def result(self, count: int, in_flight: str | None = None) -> PingResult:
        """What has come of ``count`` requests."""
        address = type(self._target.address)
        return PingResult(
            source=self.source,
            destination=self._target.label,
            address=self._target.address,
            sent=count,
            received=len(self._rtts),
            duplicates=self._duplicates,
            rtts=tuple(self._rtts[sequence] for sequence in sorted(self._rtts)),
            ttl=self._ttl,
            error=self._error or self._flaw,
            responders=tuple(map(address, self._responders)),
            in_flight=in_flight,
            bound_to=self._bound.source if self._bound is not None else None,
            _raw=tuple(self._raw),
        )

    def _send_to_anybody(self, sequence: int) -> None:
        """Send one request. The kernel refuses one to a broadcast address unless it is told that this is meant."""
        self.send(sequence)
        if self._error is None or self._error.errno != errno.EACCES or self._own is not None or self._version == 6:
            return
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._refusal, self._error = self._error, None
        self._settled.discard(sequence)
        self.send(sequence)
        if self._error is None:
            self.ask_everybody()
        else:  # a route that prohibits it
            self._error = self._refusal

    def send(self, sequence: int) -> None:
        """Send one request."""
        data = _request(self._version, self._size, self.identifier, sequence)
        self._last_sent = self._sent[sequence] = monotonic()
        try:
            self.socket.sendto(data, self._target.at(0))
        except OSError as error:
            self._settled.add(sequence)
            self._error = self._error or icmp.local_error(error)

    @staticmethod
    def receive_all(sock: socket.socket, exchanges: Mapping[int, Exchange]) -> None:
        """Read all that is queued, and hand it to the exchanges by identifier."""
        version = 4 if sock.family == socket.AF_INET else 6
        while True:
            try:
                data, control, _, sender = sock.recvmsg(1 << 16, 128)
            except BlockingIOError:
                return
            now = monotonic()
            if version == 4:
                message, ttl = data[(data[0] & 15) * 4 :], data[8]
                intact = icmp.checksum(message) == 0
            else:
                message, told = data, {kind: value for _, kind, value in control}
                ttl = struct.unpack("=i", told[socket.IPV6_HOPLIMIT])[0]
                intact = _is_intact6(sender[0], told, message)
            if len(message) < 8:
                continue
            if message[0] in (icmp.ECHO_REPLY, icmp.ECHO_REPLY6):
                identifier, sequence = struct.unpack_from("!HH", message, 4)
                if (exchange := exchanges.get(identifier)) is not None:
                    if intact:
                        exchange._answered(sequence, now, ttl, data, sender[0])
                    else:
                        exchange._damaged(sequence, sender[0])
                continue
            if not intact:
                continue  # the kernel drops it
            about = icmp.quoted(version, message[8:])
            echo = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
            if about is not None and about.protocol == echo:
                identifier, sequence = struct.unpack_from("!HH", about.payload, 4)
                if (exchange := exchanges.get(identifier)) is not None and about.destination == exchange._packed:
                    exchange._refused(sequence, sender[0], message)

    def _answered(self, sequence: int, now: float, ttl: int, data: bytes, sender: str) -> None:
        if sequence not in self._sent:
            return
        plain = sender.partition("%")[0]
        packed = socket.inet_pton(self.socket.family, plain)
        if self._own is not None:
            if packed in self._own:
                return
            if packed == self._packed:
                # It is the address of a host, which only the own prefix takes for everybody's. The kernel says no then.
                self._error = self._refusal
                self._settled.add(sequence)
                return
        elif packed != self._packed and not self._target.address.is_unspecified:
            sent_to = self._target.address
            self._flaw = self._flaw or ProbeError(f"the reply came from {plain}, not from {sent_to}", ip_address(plain))
            return
        answered = self._responders.setdefault(packed, set())
        if sequence in answered:
            self._duplicates += 1
            return
        answered.add(sequence)
        self._raw.append(data)
        if sequence in self._rtts:
            return
        self._rtts[sequence] = now - self._sent[sequence]
        self._settled.add(sequence)
        if self._ttl is None:
            self._ttl = ttl

    def _damaged(self, sequence: int, sender: str) -> None:
        if sequence in self._sent and sequence not in self._rtts:
            plain = sender.partition("%")[0]
            self._flaw = self._flaw or ProbeError(f"the reply of {plain} has a wrong checksum", ip_address(plain))

    def _look_for_damaged(self) -> None:
        while self._unchecked is not None:
            try:
                data, control, _, sender = self._unchecked.recvmsg(1 << 16, 64)
            except BlockingIOError:
                return
            if len(data) >= 8 and not _is_intact6(sender[0], {kind: value for _, kind, value in control}, data):
                identifier, sequence = struct.unpack_from("!HH", data, 4)
                if identifier == self.identifier:
                    self._damaged(sequence, sender[0])

    def _refused(self, sequence: int, sender: str, message: bytes) -> None:
        if sequence in self._sent and sequence not in self._rtts and self._own is None:
            self._settled.add(sequence)
            error = icmp.icmp_error(self._version, sender, message[0], message[1], message[4:8])
            self._error = self._error or error
