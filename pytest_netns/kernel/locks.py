"""Locks with a timeout, whose holder is not interrupted."""

from __future__ import annotations

import os
import sys
import threading
import traceback

from pytest_netns.clock import monotonic
from pytest_netns.errors import WaitTimeout
from pytest_netns.kernel.interrupts import checkpoint, uninterrupted

#: Timeout in seconds; the error then names the holder. Work under a lock takes milliseconds, or some seconds where a
#: process or a link has a timeout of its own.
DEADLINE = 60.0
#: Polling interval in seconds for checking whether the wait was interrupted.
_SLICE = 0.05


class Lock:
    """A reentrant lock (as ``threading.RLock``), to be used with ``with``.

    While the main thread holds it, signal handlers are deferred (``interrupts.uninterrupted``). A forked child does not
    wait for threads of its parent.

    Args:
        what: the work done under the lock, for the error after a timeout: ``"connecting nodes of a lab"``.
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
                    self._lock, self._owner = threading.RLock(), os.getpid()  # the holder is not in this child process
                if monotonic() > deadline:
                    raise WaitTimeout(f"{self._what}: waited {DEADLINE:g} s for {self._shown_holder()}")
        except BaseException:
            uninterrupted.__exit__()
            raise

    def _shown_holder(self) -> str:
        """A description of the thread that holds the lock, and where in the code it is."""
        name = next((t.name for t in threading.enumerate() if t.ident == self._holder), "(ended)")
        frame = sys._current_frames().get(self._holder)
        where = "" if frame is None else ", which is at\n" + "".join(traceback.format_stack(frame)[-4:]).rstrip()
        return f"thread {name!r} that is doing the same{where}"
