"""Interrupts: exceptions that signal handlers raise, kept out of what has to be done as a whole.

Ctrl-C raises KeyboardInterrupt and pytest-timeout's method "signal" raises its own exception, in the main thread, after
whatever function it has just called, be it a ``finally`` that brings the thread back from another network namespace. In
a block of ``uninterrupted`` the handlers written in Python are replaced by one that only notes the signal, and
what was noted is delivered when the outermost block ends. (To block signals would not do: the kernel gives them to
another thread then, and Python still runs the handler in the main one.)

What takes long inside of a block calls ``checkpoint()`` where it may be interrupted.
"""

from __future__ import annotations

import os
import select
import signal
import sys

# Those of ``signal`` look for an enumeration member for each handler, which would take most of the time.
from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
from _signal import signal as _setsignal
from collections.abc import Callable
from threading import get_ident, main_thread
from types import FrameType

from pytest_netns.clock import monotonic

Handler = Callable[[int, FrameType | None], object]

#: Real-time signals are left out: each takes time, and what raises exceptions is not one of them.
_SIGNALS = tuple(sorted(int(number) for number in signal.valid_signals() if number < 32))

#: Seconds between two looks whether a wait was interrupted.
_SLICE = 0.02


class _Uninterrupted:
    """A block in which no signal handler runs; blocks nest. In other threads than the main one, none ever does."""

    def __init__(self) -> None:
        self._main = main_thread().ident
        self._depth = 0
        self._replaced: dict[int, Handler] = {}
        self._noted: list[tuple[int, Handler]] = []

    # The interpreter looks for signals when a Python function is entered, after one in C has returned, and when a loop
    # turns. The statements below are in an order in which an exception at any of these places does no harm. (No loop
    # with an ``if`` stands in a ``try`` or ``with`` that must not be left out: Python 3.12 and 3.13 put the turn after
    # a condition that was false outside of it, and neither ``except`` nor ``__exit__`` hears of the signal.)

    def __enter__(self) -> None:
        if get_ident() != self._main:
            return
        self._depth += 1
        if self._depth > 1:
            return
        try:
            self._replace()
        except BaseException:  # of a handler that is not replaced yet
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
        """The handler in force."""
        handler = self._replaced[number]
        if self._depth:
            if (number, handler) not in self._noted:
                self._noted.append((number, handler))
            return
        _setsignal(number, handler)  # it came while handlers were being restored
        handler(number, frame)

    @property
    def noted(self) -> bool:
        """Whether a signal has come that was not delivered yet."""
        return bool(self._noted)

    def deliver(self) -> None:
        """See ``checkpoint``."""
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
        """The thread that has forked is the main one of the child."""
        if get_ident() != self._main:  # the block of the one so far has gone with it
            self._main = get_ident()
            self._depth = 0
            self._noted.clear()
            self._restore()


uninterrupted: _Uninterrupted = _Uninterrupted()
#: One and the same object, to be compared by ``is``.
_note: Handler = uninterrupted.note


def checkpoint() -> None:
    """Here, inside of a block of ``uninterrupted``, what has waited may happen: raises what the handlers raise."""
    uninterrupted.deliver()


def readable(fd: int, seconds: float) -> bool:
    """Wait until something can be read from a descriptor, or its process has ended; False if that takes longer.

    May be interrupted, inside of a block of ``uninterrupted`` too.
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
