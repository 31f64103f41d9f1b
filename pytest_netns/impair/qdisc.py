"""A queueing discipline as an engine: the impairment of one interface by the kernel, at its root. See tc(8)."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pytest_netns.clock import monotonic
from pytest_netns.errors import KernelError, TopologyError, UnsupportedError
from pytest_netns.impair.impairment import ActiveImpairment, Counters, Impairment
from pytest_netns.kernel.netlink import tc as traffic
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.kernel.netlink.tc import TC_H_ROOT, Qdisc

if TYPE_CHECKING:
    from pytest_netns.impair.target import Target

#: The scheduler's nanoseconds in a tick, since Linux 2.6.31 (PSCHED_SHIFT).
TICK = 64
#: By how much a time read back may differ, in seconds: a tick, where the kernel has no attributes of 64 bits.
_ROUNDING = 2 * TICK * 1e-9
#: Seconds at most until a queue has emptied itself, when the relay is to come in its place.
_DRAINED = 1.0


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


class RootQdisc(ABC):
    """What one interface sends, impaired by the queueing discipline at its root.

    Args:
        interface: whose frames.
        before: the engine that impairs it until now. If that is another such queueing discipline it is replaced, and
            the frames that wait in it are lost: the kernel keeps them only within one kind.
    """

    #: Its name, which is that of the qdisc.
    engine: ClassVar[Literal["netem", "tbf"]]
    usable = True
    added_clsact: bool = False

    def __init__(self, interface: Target, before: object = None) -> None:
        self.interface = interface
        self.seed: int | None = None
        self.last: Impairment = Impairment()
        self._ours = {self.engine, before.engine} if isinstance(before, RootQdisc) else {self.engine}

    @abstractmethod
    def encode(self, impairment: Impairment, seed: int | None) -> bytes:
        """The options for an impairment. Raises UnsupportedError if it cannot do that."""

    @abstractmethod
    def decode(self, options: bytes) -> tuple[Impairment, int | None]:
        """The impairment that the kernel's options stand for, and the seed if it tells one."""

    @abstractmethod
    def harmless(self) -> bytes:
        """The options with which it lets everything pass."""

    @abstractmethod
    def counted(self, dropped: int) -> Counters:
        """What it means that so many frames were dropped."""

    def apply(self, impairment: Impairment, seed: int | None) -> ActiveImpairment:
        """Have it in force, instead of what was, and read it back. Frames under way keep what they were given.

        Raises:
            UnsupportedError: the kernel lacks the qdisc, or cannot do what was asked.
            TopologyError: somebody else has given the interface a queueing discipline, which this would replace.
            KernelError: the kernel refused.
        """
        interface, kind = self.interface, self.engine
        options = self.encode(impairment, seed)
        there = self._root()
        if there is not None and there.handle and there.kind not in self._ours:
            raise TopologyError(
                f"{interface} has the queueing discipline {there.kind!r}, which {kind} would replace; remove it "
                f"(tc qdisc delete dev {interface.name} root), or use engine='relay'"
            )
        try:
            interface.node.rtnl.batch([self._replace(options, str(impairment))])
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise UnsupportedError(
                    f"{kind} cannot impair {interface}: this kernel lacks it; try as root: modprobe sch_{kind}; or use "
                    "engine='relay'"
                ) from None
            raise
        self._ours = {kind}
        found, got = self.decode(self._there().options)
        wrong = differences(impairment, found)
        if seed is not None and got != seed & 0xFFFFFFFFFFFFFFFF:
            wrong.append(f"seed is {got} instead of {seed} (needs Linux 6.6)")
        if wrong:
            self.heal()
            raise UnsupportedError(
                f"{kind} cannot impair {interface}: the kernel has taken the values but not kept them: "
                f"{', '.join(wrong)}; use engine='relay'"
            )
        self.seed = seed
        self.last = impairment
        return self.read()

    def read(self) -> ActiveImpairment:
        """What is in force now. Raises KernelError if it was removed by other means."""
        there = self._there()
        found, _ = self.decode(there.options)
        # Rounding of the kernel's is no news.
        shown = self.last if not differences(self.last, found) else found
        return ActiveImpairment(shown, self.engine, self.seed, self.counted(there.dropped))

    def waiting(self) -> int:
        """Frames that are under way now. Raises KernelError."""
        there = self._root()
        return there.queued if there is not None and there.kind == self.engine else 0

    def heal(self) -> None:
        """Impair nothing any more.

        The kernel throws away what is queued in a qdisc that is removed. So one with frames under way stays, and does
        nothing to those that follow.
        """
        interface = self.interface
        there = self._root()
        if there is None or there.kind != self.engine:
            return
        if there.queued:
            request = self._replace(self.harmless(), "...")
        else:
            request = traffic.qdisc_delete(interface.index, interface.name)
        try:
            interface.node.rtnl.batch([request])
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # it went, with its interface or by another hand
                raise

    def drain(self) -> None:
        """Impair nothing any more, and wait for a while until what is queued has gone."""
        self.heal()
        deadline = monotonic() + _DRAINED
        while (there := self._root()) is not None and there.kind == self.engine and there.queued:
            if monotonic() > deadline:
                return
            os.sched_yield()

    def abandon(self) -> None:  # noqa: B027 - not every one has something left to do
        """The interface, or its namespace, goes, and the qdisc with it."""

    def _replace(self, options: bytes, words: str) -> Request:
        return traffic.qdisc_replace(self.interface.index, self.interface.name, self.engine, options, words)

    def _root(self) -> Qdisc | None:
        interface = self.interface
        bodies = interface.node.rtnl.dump(traffic.qdisc_dump(interface.index, interface.name))
        every = [traffic.decode_qdisc(body) for body in bodies]
        return next((q for q in every if q.index == interface.index and q.parent == TC_H_ROOT), None)

    def _there(self) -> Qdisc:
        there = self._root()
        if there is None or there.kind != self.engine:
            where = self.interface
            _ = where.state  # so that its removal is told as such
            raise KernelError(
                errno.ENOENT,
                f"tc qdisc show dev {where.name}",
                where.node.name,
                f"{self.engine} was removed by other means",
            )
        return there
