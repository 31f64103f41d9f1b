"""Closing things that take long to close, in a thread of its own.

The kernel makes whoever closes a packet socket, or an nf_tables socket after a deletion, wait for an RCU grace period
of 8 to 24 ms. Nobody needs to wait for that.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable

from pytest_netns.errors import WaitTimeout
from pytest_netns.kernel.locks import Lock

#: Descriptors are few: 1,024 is a usual limit.
_MANY = 100
#: Seconds in which what was handed over is closed.
_DEADLINE = 30.0

_doomed: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
_thread: threading.Thread | None = None
_owner = 0
_lock = Lock("closing sockets in a thread")


def _reap() -> None:
    while True:
        _doomed.get()()


def waiting() -> int:
    """How many things are not being closed yet. Their descriptors are open; that of the one in hand is not."""
    return _doomed.qsize()


def settle() -> None:
    """Return when all that was handed over before is closed. Raises WaitTimeout."""
    if _thread is not None and _thread.is_alive() and _owner == os.getpid():
        closed = threading.Event()
        _doomed.put(closed.set)
        if not closed.wait(_DEADLINE):
            raise WaitTimeout(f"sockets that were left to a thread to close are still open after {_DEADLINE:g} s")


def later(close: Callable[[], object]) -> None:
    """Call ``close`` soon, in another thread. It must not raise. Where many wait, this waits for them."""
    global _thread, _owner
    if sys.is_finalizing():  # a thread cannot start any more, and Thread.start() would hang
        close()
        return
    with _lock:
        if _thread is None or not _thread.is_alive() or _owner != os.getpid():  # threads do not survive a fork
            _thread = threading.Thread(target=_reap, daemon=True, name="netns-reaper")
            _owner = os.getpid()
            _thread.start()
    _doomed.put(close)
    if waiting() > _MANY and threading.current_thread() is not _thread:
        settle()
