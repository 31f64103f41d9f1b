"""tbf as an engine: a rate and nothing else, as fast as the kernel. See tc-tbf(8)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar, Literal

from pytest_netns.errors import UnsupportedError
from pytest_netns.impair.impairment import QUEUE, Counters, Impairment
from pytest_netns.impair.qdisc import RootQdisc
from pytest_netns.kernel.netlink.socket import attribute, attributes

if TYPE_CHECKING:
    from pytest_netns.impair.target import Target

# From <linux/pkt_sched.h>.
_PARMS, _RATE64, _PEAK64, _BURST, _PEAK_BURST = 1, 4, 5, 6, 7
#: struct tc_tbf_qopt: the rate and the peak rate as struct tc_ratespec (cell_log, linklayer, overhead, cell_align, mpu,
#: rate), limit, buffer, mtu.
_OPTIONS = struct.Struct("=BBHhHI BBHhHI III")
_LINKLAYER_ETHERNET = 1
_ALL = 0xFFFFFFFF
#: Bytes that Ethernet and a VLAN tag add to the mtu.
_HEADERS = 18
#: Seconds by which the kernel's timer may be late before the rate suffers. Where nothing was sent for as long, so much
#: goes out at once: at 10 Mbit/s four full frames.
_LATE = 0.005
#: Bytes a second at which nothing waits. As a peak rate it is none; it must be above the rate.
_UNLIMITED = 1 << 40


def encode(rate: int, mtu: int) -> bytes:
    """The options of a tbf qdisc.

    What is longer than one of its two buckets is cut into frames before it waits (tbf_enqueue()), and what waits for
    more than a bucket holds waits for ever, with all behind it. So the bucket of the peak rate holds one frame: nothing
    waits for which another rate, however low, has too small a bucket. TCP's chunks of 64 KiB, let through whole, did.

    Args:
        rate: bytes a second.
        mtu: of the interface, the largest that it has had: the buckets must hold a frame.
    """
    frame = mtu + _HEADERS
    burst = min(_ALL, max(frame, round(rate * _LATE)))
    spec = 0, _LINKLAYER_ETHERNET, 0, 0, 0
    none = 0, 0, 0, 0, 0, 0
    limit = min(_ALL, QUEUE * frame)
    cut = rate < _UNLIMITED
    data = _OPTIONS.pack(*spec, min(rate, _ALL), *((*spec, _ALL) if cut else none), limit, 0, 0)
    options = attribute(_PARMS, data) + attribute(_BURST, struct.pack("=I", burst))
    if rate > _ALL:
        options += attribute(_RATE64, struct.pack("=Q", rate))
    if cut:
        options += attribute(_PEAK64, struct.pack("=Q", _UNLIMITED)) + attribute(_PEAK_BURST, struct.pack("=I", frame))
    return options


def decode(options: bytes) -> int:
    """The rate of a tbf qdisc in bytes a second."""
    found = attributes(options)
    if _RATE64 in found:
        return int(struct.unpack("=Q", found[_RATE64])[0])
    return int(_OPTIONS.unpack_from(found[_PARMS])[5])


class Tbf(RootQdisc):
    """What one interface sends, held to a rate by tbf."""

    engine: ClassVar[Literal["netem", "tbf"]] = "tbf"

    def __init__(self, interface: Target, before: object = None) -> None:
        super().__init__(interface, before)
        self._largest = 0

    def _mtu(self) -> int:
        """The largest that the interface has had: a frame of that time may still wait."""
        self._largest = max(self._largest, self.interface.mtu)
        return self._largest

    def encode(self, impairment: Impairment, seed: int | None) -> bytes:
        """See ``encode``."""
        if seed is not None:
            raise UnsupportedError(f"tbf leaves nothing to chance at {self.interface}, so there is no use for a seed")
        if not impairment.is_rate_alone:
            raise UnsupportedError(
                f"tbf cannot impair {self.interface}: it limits a rate and does nothing else, and this was asked: "
                f"{impairment}; use engine='netem' or engine='relay'"
            )
        assert impairment.rate is not None
        return encode(max(1, round(impairment.rate / 8)), self._mtu())

    def decode(self, options: bytes) -> tuple[Impairment, int | None]:
        """See ``decode``."""
        return Impairment(rate=decode(options) * 8), None

    def harmless(self) -> bytes:
        """What waits goes at once."""
        return encode(_UNLIMITED, self._mtu())

    def counted(self, dropped: int) -> Counters:
        """It drops what has no room."""
        return Counters(overflowed=dropped)
