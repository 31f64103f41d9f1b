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
from pytest_netns.kernel.hidden_thread import HiddenThread
from pytest_netns.kernel.locks import Lock

#: Descriptors are few: 1,024 is a usual limit.
_MANY = 100
#: Seconds in which what was handed over is closed.
_DEADLINE = 30.0

_doomed: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
_thread: HiddenThread | None = None
_owner = 0
_lock = Lock("closing sockets in a thread")


def _reap() -> None:
    """Close what there is. Nothing waits for more: a thread that idles would be seen by whoever forks."""
    global _thread
    while True:
        with _lock:
            if _doomed.empty():
                _thread = None
                return
            close = _doomed.get_nowait()
        close()
        del close


def _is_at_work() -> bool:
    return _thread is not None and _owner == os.getpid()  # threads do not survive a fork


def waiting() -> int:
    """How many things are not being closed yet. Their descriptors are open; that of the one in hand is not."""
    return _doomed.qsize()


def settle() -> None:
    """Return when all that was handed over before is closed. Raises WaitTimeout."""
    if _is_at_work():
        closed = threading.Event()
        _hand_over(closed.set)
        if not closed.wait(_DEADLINE):
            raise WaitTimeout(f"sockets that were left to a thread to close are still open after {_DEADLINE:g} s")


def later(close: Callable[[], object]) -> None:
    """Call ``close`` soon, in another thread. It must not raise. Where many wait, this waits for them."""
    if sys.is_finalizing():  # a thread cannot start any more
        close()
        return
    by_itself = _hand_over(close)
    if waiting() > _MANY and not by_itself:
        settle()


def _hand_over(close: Callable[[], object]) -> bool:
    """Put it into the queue, and see that a thread works on that. Returns whether it is that thread that asks."""
    global _thread, _owner
    with _lock:
        _doomed.put(close)
        if not _is_at_work():
            _owner = os.getpid()
            _thread = HiddenThread(_reap)
        return _thread is not None and threading.get_ident() == _thread.ident
