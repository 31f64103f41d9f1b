"""PingResult: what came of echo requests to one destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_netns.addresses import Address
from pytest_netns.kernel.scapy_import import prepare_scapy
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.stack.source import Source

if TYPE_CHECKING:
    from scapy.packet import Packet


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

    Example:
        >>> red.ping(blue, count=5).rtt.median
    """

    count: int
    min: float
    avg: float
    max: float
    mdev: float
    median: float

    @classmethod
    def of(cls, rtts: Sequence[float]) -> RttStatistics:
        """Sum up ``rtts``, at least one round-trip time in seconds.

        Example:
            >>> RttStatistics.of([0.010, 0.012, 0.011]).median
        """
        from statistics import fmean, median, pstdev  # takes longer to import than many labs live

        return cls(len(rtts), min(rtts), fmean(rtts), max(rtts), pstdev(rtts), median(rtts))

    def __str__(self) -> str:
        shown = "/".join(f"{1000 * value:.3f}" for value in (self.min, self.avg, self.max, self.mdev))
        return f"rtt min/avg/max/mdev = {shown} ms, median {1000 * self.median:.3f} ms of {self.count}"


@dataclass(frozen=True, slots=True)
class PingResult:
    """The result of a ping. Truthy if every request was answered.

    Attributes:
        source: name of the node that sent the probe.
        destination: name and address of the destination.
        address: that address.
        sent: requests sent.
        received: requests answered.
        duplicates: further replies to requests that had been answered.
        rtts: round-trip times in seconds, of each answered request in order.
        ttl: time to live (hop limit) left in the first reply; None without one.
        error: the first ICMP error that came back, or what the node's own kernel said; else what was wrong with a reply
            that does not count: it came from another address, or its checksum is wrong; None if there was none of it.
        responders: the addresses that answered, each once; for a broadcast or multicast destination all that did in
            time, except the sending node itself.
        in_flight: where a request or reply may still have been at the timeout; else None.
        bound_to: the source address or interface given; None: chosen by the routes.

    Example:
        >>> result = red.ping(blue, count=3)
        >>> result.received, result.rtts
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
            text += f", rtt {sum(self.rtts) / len(self.rtts) * 1000:.3f} ms, ttl {self.ttl}"
        if self.error is not None:
            text += f": {self.error}"
        elif self.in_flight is not None:
            text += f": inconclusive, {self.in_flight}"
        elif not self.received:
            text += ": no answer"
        return f"<PingResult {text}>"


def _dissect(version: int, raw: bytes) -> Packet:
    prepare_scapy()
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import ICMPv6EchoReply

    return IP(raw) if version == 4 else ICMPv6EchoReply(raw)
