"""netem as an engine: impairs in every way that we know of. See tc-netem(8)."""

from __future__ import annotations

import struct
from typing import ClassVar, Literal

from pytest_netns.errors import KernelError
from pytest_netns.impair.impairment import Counters, Impairment
from pytest_netns.impair.qdisc import TICK, RootQdisc
from pytest_netns.kernel.netlink import tc
from pytest_netns.kernel.netlink.rtnetlink import LOOPBACK_INDEX
from pytest_netns.kernel.netlink.socket import NetlinkSocket, attribute, attributes
from pytest_netns.kernel.netns.throwaway import throwaway

_CORRELATION, _REORDER, _CORRUPT, _RATE, _RATE64, _LATENCY64, _JITTER64, _PRNG_SEED = 1, 3, 4, 6, 8, 10, 11, 14
#: struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
_OPTIONS = struct.Struct("=IIIIII")
_ALL = 0xFFFFFFFF


def _probability(value: float) -> int:
    return min(_ALL, round(value * _ALL))


def encode(impairment: Impairment, seed: int | None) -> bytes:
    """The options of a netem qdisc. All are given: what is left out would stay as it was."""
    delay, jitter = round(impairment.delay * 1e9), round(impairment.jitter * 1e9)
    rate = 0 if impairment.rate is None else max(1, round(impairment.rate / 8))
    data = _OPTIONS.pack(
        min(delay // TICK, _ALL),
        impairment.limit,
        _probability(impairment.loss),
        1 if impairment.reorder else 0,
        _probability(impairment.duplicate),
        min(jitter // TICK, _ALL),
    )
    data += attribute(_CORRELATION, struct.pack("=III", 0, 0, 0))
    data += attribute(_REORDER, struct.pack("=II", _probability(impairment.reorder), 0))
    data += attribute(_CORRUPT, struct.pack("=II", _probability(impairment.corrupt), 0))
    if rate > _ALL:
        data += attribute(_RATE64, struct.pack("=Q", rate))
    data += attribute(_RATE, struct.pack("=IiIi", min(rate, _ALL), 0, 0, 0))
    data += attribute(_LATENCY64, struct.pack("=q", delay)) + attribute(_JITTER64, struct.pack("=q", jitter))
    if seed is not None:
        data += attribute(_PRNG_SEED, struct.pack("=Q", seed & 0xFFFFFFFFFFFFFFFF))
    return data


def decode(options: bytes) -> tuple[Impairment, int | None]:
    """What a netem qdisc does, and its seed if the kernel tells it (since Linux 6.6)."""
    latency, _, loss, _, duplicate, jitter = _OPTIONS.unpack_from(options)
    found = attributes(options, _OPTIONS.size)

    def first(kind: int, layout: str, otherwise: int) -> int:
        return int(struct.unpack_from(layout, found[kind])[0]) if kind in found else otherwise

    rate = first(_RATE64, "=Q", first(_RATE, "=I", 0))
    delay, spread = first(_LATENCY64, "=q", latency * TICK), first(_JITTER64, "=q", jitter * TICK)
    impairment = Impairment(
        delay=delay / 1e9,
        jitter=min(delay, spread) / 1e9,
        loss=loss / _ALL,
        rate=rate * 8 or None,
        reorder=first(_REORDER, "=I", 0) / _ALL if delay else 0.0,
        duplicate=duplicate / _ALL,
        corrupt=first(_CORRUPT, "=I", 0) / _ALL,
    )
    return impairment, first(_PRNG_SEED, "=Q", 0) if _PRNG_SEED in found else None


class Netem(RootQdisc):
    """What one interface sends, impaired by netem."""

    engine: ClassVar[Literal["netem", "tbf"]] = "netem"

    def encode(self, impairment: Impairment, seed: int | None) -> bytes:
        """See ``encode``."""
        return encode(impairment, seed)

    def decode(self, options: bytes) -> tuple[Impairment, int | None]:
        """See ``decode``."""
        return decode(options)

    def harmless(self) -> bytes:
        """Delays nothing."""
        return encode(Impairment(), None)

    def counted(self, dropped: int) -> Counters:
        """It counts what it loses and what has no room together."""
        return Counters(lost=dropped)


def seedable() -> bool:
    """Whether the kernel lets netem be seeded (since Linux 6.6), found out in a namespace made for the purpose."""
    with throwaway():
        link = NetlinkSocket("probe")
        try:
            link.batch([tc.qdisc_replace(LOOPBACK_INDEX, "lo", "netem", encode(Impairment(), 1), "seed 1")])
            qdiscs = [tc.decode_qdisc(body) for body in link.dump(tc.qdisc_dump(LOOPBACK_INDEX, "lo"))]
        except KernelError:
            return False
        finally:
            link.close()
    # Kernels that do not know the attribute ignore it, so what counts is what they tell of it.
    return any(decode(qdisc.options)[1] == 1 for qdisc in qdiscs if qdisc.kind == "netem")
