"""Impairment: what a link does to the frames that it carries, as a value.

Pure: no sockets, no kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from pytest_netns.errors import TopologyError
from pytest_netns.units import Quantity, bits_per_second, fraction, rate_text, seconds, time_text

Engine = Literal["auto", "netem", "tbf", "relay"]

#: Frames that wait at a rate before further ones are dropped, as at the full queue of a modem; those under way because
#: of the delay are not counted. Also the least number that may be under way.
QUEUE = 10_000
#: Frames that may be under way where no rate is set.
_UNDER_WAY = 100_000


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Impairment:
    """The impairment of frames in one direction. An immutable value, usable for any number of links.

    Numbers are seconds, fractions from 0 to 1, and bit/s; text takes the units of tc(8). The attributes are numbers.
    They have the meaning of tc-netem(8), whichever engine is used.

    Attributes:
        delay: one way: a ping takes twice as long if both directions have it.
        jitter: the delay of each frame is uniform in ``delay`` ± ``jitter``. As with netem, frames overtake each other
            if it is larger than their distance, unless there is a ``rate``.
        loss: part of the frames that is lost, each independently.
        rate: bit/s, headers of Ethernet included; each frame leaves when the one before it has been sent. Frames
            wait for that, some ten thousand at most; more are dropped, and counted.
        reorder: part of the frames that is sent at once, and so overtakes those that are delayed; needs a delay.
        duplicate: part of the frames that is sent twice.
        corrupt: part of the frames in which one random bit is flipped; a checksum fails, and the receiver drops it.
            (Some bits no checksum covers: those of IPv6's header, and with netem those of MAC addresses.)

    Raises:
        TopologyError: a value out of range or without its unit, jitter above the delay, ``reorder`` without a delay.

    Example:
        >>> slow = Impairment(delay="20ms", jitter="2ms", loss="1%")
        >>> link.impair(slow)
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: int | None = None
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0

    def __init__(
        self,
        *,
        delay: Quantity = 0.0,
        jitter: Quantity = 0.0,
        loss: Quantity = 0.0,
        rate: Quantity | None = None,
        reorder: Quantity = 0.0,
        duplicate: Quantity = 0.0,
        corrupt: Quantity = 0.0,
    ) -> None:
        put = object.__setattr__
        put(self, "delay", seconds("delay", delay))
        put(self, "jitter", seconds("jitter", jitter))
        put(self, "loss", fraction("loss", loss))
        put(self, "rate", None if rate is None else bits_per_second("rate", rate))
        put(self, "reorder", fraction("reorder", reorder))
        put(self, "duplicate", fraction("duplicate", duplicate))
        put(self, "corrupt", fraction("corrupt", corrupt))
        if self.jitter > self.delay:
            raise TopologyError(
                f"jitter={jitter!r} is more than delay={delay!r}: a frame cannot arrive before it was sent"
            )
        if self.reorder and not self.delay:
            raise TopologyError(
                f"reorder={reorder!r} needs a delay: a frame that is not delayed overtakes those that are"
            )

    def values(self) -> tuple[object, ...]:
        """All that it sets, in the order of the attributes."""
        return tuple(getattr(self, field.name) for field in fields(Impairment))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Impairment) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash(self.values())

    def __str__(self) -> str:
        """As tc(8) shows it: ``delay 20ms jitter 2ms loss 1%``."""
        words = []
        for name in ("delay", "jitter"):
            words += [f"{name} {time_text(getattr(self, name))}"] if getattr(self, name) else []
        for name in ("loss", "reorder", "duplicate", "corrupt"):
            words += [f"{name} {getattr(self, name) * 100:.6g}%"] if getattr(self, name) else []
        words += [f"rate {rate_text(self.rate)}"] if self.rate else []
        return " ".join(words) or "nothing"

    def __repr__(self) -> str:
        return f"<Impairment {self}>"

    def but(self, **changes: Quantity | None) -> Impairment:
        """The same with other values for some attributes.

        Args:
            changes: the attributes by name, e.g. ``loss="1%"``.

        Raises:
            TopologyError: a value out of range or without its unit, or they contradict each other.

        Example:
            >>> presets.LTE.but(loss="1%")
        """
        kept = {field.name: getattr(self, field.name) for field in fields(Impairment)}
        return Impairment(**{**kept, **changes})

    @property
    def is_rate_alone(self) -> bool:
        """Whether a rate is all that it sets."""
        return self.rate is not None and self == Impairment(rate=self.rate)

    @property
    def limit(self) -> int:
        """How many frames may be under way; more are dropped and counted."""
        if self.rate is None:
            return _UNDER_WAY
        smallest = 60 * 8  # bits of the smallest frame
        return min(_UNDER_WAY, QUEUE + math.ceil((self.delay + self.jitter) * self.rate / smallest))


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of an impairment, in frames. netem counts lost frames only, queue overflows
    included; tbf counts overflows only.

    Attributes:
        passed: sent on.
        lost: lost because of ``loss``.
        duplicated: sent twice.
        corrupted: sent with a bit flipped.
        reordered: sent before their turn.
        overflowed: dropped because too many were under way (see ``rate``), or came faster than the relay can read.
        refused: frames that the interface did not accept, e.g. because it was down.

    Example:
        >>> active = red.interfaces["eth0"].impair(loss="1%")
        >>> active.counters.lost
    """

    passed: int = 0
    lost: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    overflowed: int = 0
    refused: int = 0

    def __str__(self) -> str:
        shown = [f"{getattr(self, field.name)} {field.name}" for field in fields(self) if getattr(self, field.name)]
        return ", ".join(shown)


class ActiveImpairment(Impairment):
    """An impairment in force, as read back from its engine. Equal to an ``Impairment`` with the same values.

    Attributes:
        delay: one way, in seconds.
        jitter: by how much the delay varies, in seconds.
        loss: part of the frames that is lost, 0 to 1.
        rate: bit/s, headers of Ethernet included; None for no limit.
        reorder: part of the frames that is sent at once, 0 to 1.
        duplicate: part of the frames that is sent twice, 0 to 1.
        corrupt: part of the frames in which one bit is flipped, 0 to 1.
        engine: ``netem``, ``tbf`` or ``relay``.
        seed: of its random numbers; None if chosen at random.
        counters: what it has done so far.

    Example:
        >>> active = red.interfaces["eth0"].impair(delay="20ms")
        >>> print(active.engine, active.delay, active.counters.passed)
    """

    engine: str
    seed: int | None
    counters: Counters

    def __init__(
        self, impairment: Impairment, engine: str, seed: int | None = None, counters: Counters | None = None
    ) -> None:
        for field, value in zip(fields(Impairment), impairment.values(), strict=True):
            object.__setattr__(self, field.name, value)
        object.__setattr__(self, "engine", engine)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "counters", counters or Counters())

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        counted = f": {self.counters}" if str(self.counters) else ""
        return f"<Impairment {self} by {self.engine}{seed}{counted}>"


def of_both(there: ActiveImpairment, back: ActiveImpairment) -> ActiveImpairment:
    """One of both directions, which are the same, with the counters of both together."""
    counted = {
        field.name: getattr(there.counters, field.name) + getattr(back.counters, field.name)
        for field in fields(Counters)
    }
    return ActiveImpairment(there, there.engine, there.seed, Counters(**counted))
