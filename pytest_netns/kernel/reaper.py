"""Closing slow resources in a background thread.

close() on a packet socket, or on an nf_tables socket after a deletion, waits in the kernel for an RCU grace period of 8
to 24 ms. A background thread does that waiting.
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

#: Maximum number of waiting closes: descriptors are limited, often to 1,024.
_MANY = 100
#: Timeout in seconds for closing everything that was handed over.
_DEADLINE = 30.0

_doomed: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
_thread: HiddenThread | None = None
_owner = 0
_lock = Lock("closing sockets in a thread")


def _reap() -> None:
    """Close everything in the queue, then end: an idle thread would be noticed, e.g. by os.fork()."""
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
    """How many resources wait to be closed, not counting the one being closed. Their descriptors are still open."""
    return _doomed.qsize()


def settle() -> None:
    """Wait until everything handed over before is closed. Raises WaitTimeout."""
    if _is_at_work():
        closed = threading.Event()
        _hand_over(closed.set)
        if not closed.wait(_DEADLINE):
            raise WaitTimeout(f"sockets that were left to a thread to close are still open after {_DEADLINE:g} s")


def later(close: Callable[[], object]) -> None:
    """Call ``close`` soon, in another thread. It must not raise. If the queue is full, this call waits."""
    if sys.is_finalizing():  # no thread can be started any more
        close()
        return
    by_itself = _hand_over(close)
    if waiting() > _MANY and not by_itself:
        settle()


def _hand_over(close: Callable[[], object]) -> bool:
    """Queue ``close`` and make sure that a thread is running. Returns whether the caller is that thread."""
    global _thread, _owner
    with _lock:
        _doomed.put(close)
        if not _is_at_work():
            _owner = os.getpid()
            _thread = HiddenThread(_reap)
        return _thread is not None and threading.get_ident() == _thread.ident
