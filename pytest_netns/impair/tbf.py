"""tbf as an engine: a rate and nothing else, as fast as the kernel. See tc-tbf(8)."""

from __future__ import annotations

import struct
from typing import ClassVar, Literal

from pytest_netns.errors import UnsupportedError
from pytest_netns.impair.impairment import QUEUE, Counters, Impairment
from pytest_netns.impair.qdisc import RootQdisc
from pytest_netns.kernel.netlink import attribute, attributes

# From <linux/pkt_sched.h>.
_PARMS, _RATE64, _BURST = 1, 4, 6
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
#: Bytes a second at which nothing waits.
_UNLIMITED = 1 << 40


def encode(rate: int, mtu: int) -> bytes:
    """The options of a tbf qdisc.

    Args:
        rate: bytes a second.
        mtu: of the interface: the bucket must hold a frame.
    """
    burst = min(_ALL, max(mtu + _HEADERS, round(rate * _LATE)))
    spec = 0, _LINKLAYER_ETHERNET, 0, 0, 0
    limit = min(_ALL, QUEUE * (mtu + _HEADERS))
    data = _OPTIONS.pack(*spec, min(rate, _ALL), *(0, 0, 0, 0, 0, 0), limit, 0, 0)
    wide = attribute(_RATE64, struct.pack("=Q", rate)) if rate > _ALL else b""
    return attribute(_PARMS, data) + wide + attribute(_BURST, struct.pack("=I", burst))


def decode(options: bytes) -> int:
    """The rate of a tbf qdisc in bytes a second."""
    found = attributes(options)
    if _RATE64 in found:
        return int(struct.unpack("=Q", found[_RATE64])[0])
    return int(_OPTIONS.unpack_from(found[_PARMS])[5])


class Tbf(RootQdisc):
    """What one interface sends, held to a rate by tbf."""

    engine: ClassVar[Literal["netem", "tbf"]] = "tbf"

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
        return encode(max(1, round(impairment.rate / 8)), self.interface.mtu)

    def decode(self, options: bytes) -> tuple[Impairment, int | None]:
        """See ``decode``."""
        return Impairment(rate=decode(options) * 8), None

    def harmless(self) -> bytes:
        """What waits goes at once."""
        return encode(_UNLIMITED, self.interface.mtu)

    def counted(self, dropped: int) -> Counters:
        """It drops what has no room."""
        return Counters(overflowed=dropped)
