"""Locks that are waited for until a deadline, and whose holder is not interrupted."""

from __future__ import annotations

import os
import sys
import threading
import traceback

from pytest_netns.clock import monotonic
from pytest_netns.errors import WaitTimeout
from pytest_netns.kernel.interrupts import checkpoint, uninterrupted

#: Seconds after which whoever holds a lock is named instead of awaited. What is done under one takes milliseconds, or
#: some seconds where a process or a link has a deadline of its own.
DEADLINE = 60.0
#: Seconds between two looks whether the wait was interrupted.
_SLICE = 0.05


class Lock:
    """A lock that a thread may take several times (as ``threading.RLock``); to be used by ``with``.

    While the main thread has it, what signal handlers raise waits (``interrupts.uninterrupted``). A forked child does
    not wait for threads of its parent.

    Args:
        what: is done under it, for the error of who waits in vain: ``"connecting nodes of a lab"``.
    """

    __slots__ = ("_holder", "_lock", "_owner", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.RLock()
        self._holder = 0
        self._owner = os.getpid()

    def __enter__(self) -> None:
        uninterrupted.__enter__()
        if not self._lock.acquire(blocking=False):
            self._wait()
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        uninterrupted.__exit__()

    def _wait(self) -> None:
        deadline = monotonic() + DEADLINE
        try:
            while not self._lock.acquire(timeout=_SLICE):
                checkpoint()
                if self._owner != os.getpid() and self._holder not in sys._current_frames():
                    self._lock, self._owner = threading.RLock(), os.getpid()  # its holder is not in this forked child
                if monotonic() > deadline:
                    raise WaitTimeout(f"{self._what}: waited {DEADLINE:g} s for {self._shown_holder()}")
        except BaseException:
            uninterrupted.__exit__()
            raise

    def _shown_holder(self) -> str:
        """The thread that has it, and where that is now."""
        name = next((t.name for t in threading.enumerate() if t.ident == self._holder), "(ended)")
        frame = sys._current_frames().get(self._holder)
        where = "" if frame is None else ", which is at\n" + "".join(traceback.format_stack(frame)[-4:]).rstrip()
        return f"thread {name!r} that is doing the same{where}"
