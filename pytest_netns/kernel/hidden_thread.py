"""HiddenThread: a background thread of this package that is hidden from the test.

Suites count their threads (``threading.enumerate()``), and since Python 3.12 ``os.fork()`` warns if a process has
several. So these threads are started with ``_thread``, as ``threading`` lists only the threads that it started itself,
and each ends as soon as its work is done. The work must not call ``threading.current_thread()``, which would add the
thread to that list.
"""

from __future__ import annotations

import _thread
import os
import sys
from collections.abc import Callable

from pytest_netns.clock import monotonic

#: Timeout in seconds for the kernel to remove a thread whose function has returned.
_GONE = 10.0


class HiddenThread:
    """Calls a function in a new thread, which does not keep the process alive (like a daemon thread).

    Args:
        work: the function. An exception that it raises goes to ``sys.unraisablehook``.
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
        work, self._work = self._work, None  # so that its references are dropped when it ends
        try:
            assert work is not None
            work()
        except BaseException as error:  # SystemExit too: a thread of _thread would end silently
            sys.unraisablehook(_Unraisable(error, work))
        finally:
            del work
            self._running.release()

    def is_alive(self) -> bool:
        """Whether its function is still running. In a forked child this stays True."""
        return self._running.locked()

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until its function has returned; False on timeout."""
        if not self._running.acquire(timeout=min(max(timeout, 0.0), _thread.TIMEOUT_MAX)):
            return False
        self._running.release()
        return True

    def await_gone(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until the thread has ended and the kernel has removed it; False on timeout."""
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
    """The argument of ``sys.unraisablehook``."""

    def __init__(self, error: BaseException, work: object) -> None:
        self.exc_type: type[BaseException] = type(error)
        self.exc_value: BaseException | None = error
        self.exc_traceback = error.__traceback__
        self.err_msg: str | None = "Exception ignored in a thread of pytest-netns"
        self.object = work
