"""HiddenThread: a thread of ours, which the test does not see among its own.

Suites count their threads (``threading.enumerate()``), and from Python 3.12 on ``os.fork()`` warns where a process has
several. So ours are started below ``threading``, which lists what it has started itself; and none lives longer than it
has something to do. What runs in one must not ask for ``threading.current_thread()``, which would enter it in the list.
"""

from __future__ import annotations

import _thread
import os
import sys
from collections.abc import Callable

from pytest_netns.clock import monotonic

#: Seconds that the kernel is given to take away a thread whose function has returned.
_GONE = 10.0


class HiddenThread:
    """Calls a function in a thread of its own, which ends with the process (as a daemon thread does).

    Args:
        work: what it does. What it raises goes to ``sys.unraisablehook``.
    """

    __slots__ = ("_id", "_running", "_work", "ident")

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self._id = 0
        self._running = _thread.allocate_lock()
        self._running.acquire()
        try:
            self.ident: int = _thread.start_new_thread(self._run, ())
        except BaseException:
            self._running.release()
            raise

    def _run(self) -> None:
        self._id = _thread.get_native_id()
        work, self._work = self._work, None  # what it refers to goes with its end
        try:
            assert work is not None
            work()
        except BaseException as error:  # SystemExit, too, ends a thread of _thread without a word
            sys.unraisablehook(_Unraisable(error, work))
        finally:
            del work
            self._running.release()

    def is_alive(self) -> bool:
        """Whether its function has not returned yet. In a forked child it never will."""
        return self._running.locked()

    def join(self, timeout: float) -> bool:
        """Wait until its function has returned, ``timeout`` seconds at most; whether it has."""
        if not self._running.acquire(timeout=min(max(timeout, 0.0), _thread.TIMEOUT_MAX)):
            return False
        self._running.release()
        return True

    def await_gone(self, timeout: float) -> bool:
        """Wait until the kernel has no such thread any more, so that nobody counts it; whether that is so."""
        if not self.join(timeout):
            return False
        path = f"/proc/self/task/{self._id}"
        deadline = monotonic() + _GONE
        while os.path.exists(path):  # for some microseconds
            if monotonic() > deadline:
                return False
            os.sched_yield()
        return True


class _Unraisable:
    """What ``sys.unraisablehook`` is told."""

    def __init__(self, error: BaseException, work: object) -> None:
        self.exc_type: type[BaseException] = type(error)
        self.exc_value: BaseException | None = error
        self.exc_traceback = error.__traceback__
        self.err_msg: str | None = "Exception ignored in a thread of pytest-netns"
        self.object = work
