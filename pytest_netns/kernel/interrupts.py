"""Interrupts: keep exceptions from signal handlers out of blocks that must not be left half done.

Ctrl-C raises KeyboardInterrupt and pytest-timeout's method "signal" raises its own exception in the main thread, at any
point, even in a ``finally`` that moves the thread back from another network namespace. During an ``uninterrupted``
block, a handler that only records the signal replaces the Python handlers; recorded signals are delivered when the
outermost block ends. (Blocking the signals would not help: the kernel would deliver them to another thread, and Python
would still run the handler in the main one.)

Code in such a block that takes long calls ``checkpoint()`` where it may be interrupted.
"""

from __future__ import annotations

import os
import select
import signal
import sys

# The functions of ``signal`` look up an enumeration member for each handler, which would take most of the time.
from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
from _signal import signal as _setsignal
from collections.abc import Callable
from threading import get_ident, main_thread
from types import FrameType

from pytest_netns.clock import monotonic

Handler = Callable[[int, FrameType | None], object]

#: Real-time signals are left out: each costs time, and none is used to raise exceptions.
_SIGNALS = tuple(sorted(int(number) for number in signal.valid_signals() if number < 32))

#: Polling interval in seconds for checking whether a wait was interrupted.
_SLICE = 0.02


class _Uninterrupted:
    """A block in which no signal handler runs. Blocks nest. Handlers only ever run in the main thread."""

    def __init__(self) -> None:
        self._main = main_thread().ident
        self._depth = 0
        self._replaced: dict[int, Handler] = {}
        self._noted: list[tuple[int, Handler]] = []

    # The interpreter checks for signals when it enters a Python function, after a C function returns, and when a loop
    # jumps back. The statements below are ordered so that an exception at any of these points does no harm. (No loop
    # with an ``if`` is in a ``try`` or ``with`` that must run: Python 3.12 and 3.13 place the jump back after a false
    # condition outside of its range, so that neither ``except`` nor ``__exit__`` sees the exception.)

    def __enter__(self) -> None:
        if get_ident() != self._main:
            return
        self._depth += 1
        if self._depth > 1:
            return
        try:
            self._replace()
        except BaseException:  # from a handler that is not replaced yet
            self._depth = 0
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        if get_ident() != self._main:
            return
        if self._depth > 1:
            self._depth -= 1
            return
        self._depth = 0
        try:
            self._restore()
        finally:
            if self._noted:
                self._deliver(sys._getframe(1))

    def _replace(self) -> None:
        for number in _SIGNALS:
            handler = _getsignal(number)
            if callable(handler) and handler is not _note:
                self._replaced[number] = handler
                _setsignal(number, _note)

    def _restore(self) -> None:
        for number, handler in list(self._replaced.items()):
            if _getsignal(number) is _note:
                _setsignal(number, handler)
        self._replaced.clear()

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler that is installed during a block: record the signal."""
        handler = self._replaced[number]
        if self._depth:
            if (number, handler) not in self._noted:
                self._noted.append((number, handler))
            return
        _setsignal(number, handler)  # the signal came while handlers were being restored
        handler(number, frame)

    @property
    def noted(self) -> bool:
        """Whether a recorded signal is waiting to be delivered."""
        return bool(self._noted)

    def deliver(self) -> None:
        """Deliver the recorded signals, see ``checkpoint``."""
        if self._noted and get_ident() == self._main:
            self._deliver(sys._getframe(2))

    def _deliver(self, frame: FrameType) -> None:
        number, handler = self._noted.pop(0)
        try:
            handler(number, frame)
        finally:
            if self._noted:
                self._deliver(frame)

    def begin_in_child(self) -> None:
        """Reset the state in a forked child, whose main thread is the thread that called fork()."""
        if get_ident() != self._main:  # the previous main thread and its block do not exist in the child
            self._main = get_ident()
            self._depth = 0
            self._noted.clear()
            self._restore()


uninterrupted: _Uninterrupted = _Uninterrupted()
#: A single bound method object, so that it can be compared with ``is``.
_note: Handler = uninterrupted.note


def checkpoint() -> None:
    """Deliver recorded signals now, within an ``uninterrupted`` block. Raises what their handlers raise."""
    uninterrupted.deliver()


def readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor is readable, or the process of a pidfd has exited; False on timeout.

    Can be interrupted, even within an ``uninterrupted`` block.
    """
    deadline = monotonic() + seconds
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        left = max(0.0, deadline - monotonic())
        if poll.poll(min(left, _SLICE) * 1000):
            return True
        checkpoint()
        if not left:
            return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=uninterrupted.begin_in_child)
