"""netem as an engine: the impairment of one interface by the kernel. See tc-netem(8)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError, TopologyError, UnsupportedError
from pytest_netns.impair.impairment import ActiveImpairment, Counters, Engine, Impairment
from pytest_netns.kernel import traffic
from pytest_netns.kernel.netlink import attribute, attributes
from pytest_netns.kernel.traffic import TC_H_ROOT, Qdisc

if TYPE_CHECKING:
    from pytest_netns.interface import Interface

_CORRELATION, _REORDER, _CORRUPT, _RATE, _RATE64, _LATENCY64, _JITTER64, _PRNG_SEED = 1, 3, 4, 6, 8, 10, 11, 14
#: struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
_OPTIONS = struct.Struct("=IIIIII")
_ALL = 0xFFFFFFFF
#: Nanoseconds of a tick of the packet scheduler, since Linux 2.6.31 (PSCHED_SHIFT).
_TICK = 64
#: By how much a time read back may differ, in seconds: a tick, where the kernel has no attributes of 64 bits.
_ROUNDING = 2 * _TICK * 1e-9


def _probability(value: float) -> int:
    return min(_ALL, round(value * _ALL))


def encode(impairment: Impairment, seed: int | None) -> bytes:
    """The options of a netem qdisc. All are given: what is left out would stay as it was."""
    delay, jitter = round(impairment.delay * 1e9), round(impairment.jitter * 1e9)
    rate = 0 if impairment.rate is None else max(1, round(impairment.rate / 8))
    data = _OPTIONS.pack(
        min(delay // _TICK, _ALL),
        impairment.limit,
        _probability(impairment.loss),
        1 if impairment.reorder else 0,
        _probability(impairment.duplicate),
        min(jitter // _TICK, _ALL),
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
    delay, spread = first(_LATENCY64, "=q", latency * _TICK), first(_JITTER64, "=q", jitter * _TICK)
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


def differences(asked: Impairment, found: Impairment) -> list[str]:
    """What the kernel has not taken, in words; rounding apart."""
    wrong = []
    for name in ("delay", "jitter", "loss", "reorder", "duplicate", "corrupt"):
        wanted, got = getattr(asked, name), getattr(found, name)
        if abs(wanted - got) > (_ROUNDING if name in ("delay", "jitter") else 1e-9):
            wrong.append(f"{name} is {got:g} instead of {wanted:g}")
    if abs((asked.rate or 0) - (found.rate or 0)) > 8:
        wrong.append(f"rate is {found.rate} instead of {asked.rate} bit/s")
    return wrong


class Netem:
    """What one interface sends, impaired by the kernel."""

    engine: Engine = "netem"
    usable = True

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.seed: int | None = None
        self.last: Impairment = Impairment()

    def apply(self, impairment: Impairment, seed: int | None) -> ActiveImpairment:
        """Have it in force, instead of what was, and read it back. Frames under way keep what they were given.

        Raises:
            UnsupportedError: the kernel has no netem, or cannot do what was asked.
            TopologyError: somebody else has given the interface a queueing discipline, which this would replace.
            KernelError: the kernel refused.
        """
        interface = self.interface
        there = self._root()
        if there is not None and there.handle and there.kind != "netem":
            raise TopologyError(
                f"{interface} has the queueing discipline {there.kind!r}, which netem would replace; remove it "
                f"(tc qdisc delete dev {interface.name} root), or use engine='relay'"
            )
        request = traffic.qdisc_replace(
            interface.index, interface.name, "netem", encode(impairment, seed), str(impairment)
        )
        try:
            interface.node.rtnl.batch([request])
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise UnsupportedError(
                    f"netem cannot impair {interface}: this kernel lacks it; try as root: modprobe sch_netem; or use "
                    "engine='relay'"
                ) from None
            raise
        found, got = decode(self._there().options)
        wrong = differences(impairment, found)
        if seed is not None and got != seed & 0xFFFFFFFFFFFFFFFF:
            wrong.append(f"seed is {got} instead of {seed} (needs Linux 6.6)")
        if wrong:
            self.heal()
            raise UnsupportedError(
                f"netem cannot impair {interface}: the kernel has taken the values but not kept them: "
                f"{', '.join(wrong)}; use engine='relay'"
            )
        self.seed = seed
        self.last = impairment
        return self.read()

    def read(self) -> ActiveImpairment:
        """What is in force now. Raises KernelError if somebody has removed it."""
        there = self._there()
        found, _ = decode(there.options)
        # Rounding of the kernel's is no news.
        shown = self.last if not differences(self.last, found) else found
        return ActiveImpairment(shown, self.engine, self.seed, Counters(lost=there.dropped))

    def heal(self) -> None:
        """Impair nothing any more.

        The kernel throws away what is queued in a qdisc that is removed. So one with frames under way stays, and does
        nothing to those that follow.
        """
        interface = self.interface
        there = self._root()
        if there is None or there.kind != "netem":
            return
        if there.queued:
            options = encode(Impairment(), None)
            request = traffic.qdisc_replace(interface.index, interface.name, "netem", options, "delay 0")
        else:
            request = traffic.qdisc_delete(interface.index, interface.name)
        try:
            interface.node.rtnl.batch([request])
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # it went, with its interface or by another hand
                raise

    def abandon(self) -> None:
        """The interface, or its namespace, goes, and the qdisc with it."""

    def _root(self) -> Qdisc | None:
        interface = self.interface
        bodies = interface.node.rtnl.dump(traffic.qdisc_dump(interface.index, interface.name))
        every = [traffic.decode_qdisc(body) for body in bodies]
        return next((q for q in every if q.index == interface.index and q.parent == TC_H_ROOT), None)

    def _there(self) -> Qdisc:
        there = self._root()
        if there is None or there.kind != "netem":
            where = self.interface
            raise KernelError(
                errno.ENOENT, f"tc qdisc show dev {where.name}", where.node.name, "somebody has removed netem"
            )
        return there


def seedable() -> bool:
    """Whether the kernel lets netem be seeded (since Linux 6.6), found out in a namespace made for the purpose."""
    from pytest_netns.namespace import Namespace

    probe = Namespace("probe")
    try:
        Netem(probe.interface("lo")).apply(Impairment(), 1)
    except (UnsupportedError, KernelError):
        return False
    finally:
        probe.close()
    return True
