"""Echo requests and replies (RFC 792, RFC 4443): how they are made, sent, and told from what is not theirs."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pytest_netns.clock import monotonic
from pytest_netns.probe import icmp
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.probe_sockets import (
    IP_MTU_DISCOVER,
    IPV6_DONTFRAG,
    IPV6_MTU_DISCOVER,
    PMTUDISC_DO,
    PMTUDISC_DONT,
    Waiter,
    set_ttl,
)
from pytest_netns.stack.destination import Target
from pytest_netns.stack.source import Origin

if TYPE_CHECKING:
    pass
from pytest_netns.probe.ping_result import PingResult

#: With interval=0, the next request goes out after this many seconds at the latest, as with ``ping -f``.
_FLOOD_GAP = 0.01
#: Bytes of payload in one echo request, by version of IP.
LARGEST_PAYLOAD = {4: 65507, 6: 65527}
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_IPV6_CHECKSUM = 7

# Identifiers tell concurrent probes apart.
_identifiers = itertools.count(os.getpid())


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
