"""The clocks that all waiting here is measured by, and the one that the kernel stamps frames with.

Tests stop and shift the clocks of ``time``, by freezegun, time-machine or monkeypatch, and a wait of ours that asked a
clock which stands still would never end. freezegun also replaces ``monotonic`` wherever a module holds it, and
time-machine changes it in place, so not even what was imported before is safe. Both leave ``clock_gettime`` alone, as
far as the monotonic clock is asked.
"""

from __future__ import annotations

import select
import sys
from functools import cache
from time import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, clock_gettime_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def monotonic() -> float:
    """Seconds since some moment in the past; goes on whatever a test does to its clocks."""
    return clock_gettime(CLOCK_MONOTONIC)


def monotonic_ns() -> int:
    """The same in nanoseconds."""
    return clock_gettime_ns(CLOCK_MONOTONIC)


def wall_ns() -> int:
    """Nanoseconds since 1970 by the clock of the kernel, which stamps frames by it; not what a test says it is."""
    # time-machine answers for the wall clock wherever Python asks.
    return _kernel_clock()() if "time_machine" in sys.modules else clock_gettime_ns(CLOCK_REALTIME)


def sleep(seconds: float) -> None:
    """Wait that long, even where ``time.sleep`` is replaced by something that does not."""
    select.select((), (), (), max(0.0, seconds))


@cache
def _kernel_clock() -> Callable[[], int]:
    import ctypes  # C is asked: clock_gettime(2)

    class Timespec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    ask = ctypes.CDLL(None).clock_gettime
    ask.argtypes = [ctypes.c_int, ctypes.POINTER(Timespec)]

    def now() -> int:
        stamp = Timespec()
        ask(CLOCK_REALTIME, stamp)
        return int(stamp.seconds) * 1_000_000_000 + int(stamp.nanoseconds)

    return now
