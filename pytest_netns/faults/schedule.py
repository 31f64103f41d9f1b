"""Schedule: faults, or anything else, at given times while the test goes on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pytest_netns.checks import is_number
from pytest_netns.clock import monotonic, sleep
from pytest_netns.errors import NetnsError, TopologyError, WaitTimeout
from pytest_netns.kernel.interrupts import uninterrupted

_of_thread = threading.local()  # the schedule whose actions a thread carries out


def pause_until(moment: float) -> bool:
    """Sleep until a moment of ``monotonic()``, in an action that lasts; False, at once, if it is cancelled."""
    left = max(0.0, moment - monotonic())
    stop: threading.Event | None = getattr(_of_thread, "stop", None)
    if stop is not None:
        return not stop.wait(left)
    sleep(left)
    return True


#: Seconds in which an action that is under way has to end.
_DEADLINE = 60.0

Event = tuple[float, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Done:
    """An action that was run.

    Attributes:
        asked: seconds after the start at which it was due.
        began: seconds after the start at which it began.
        action: what was called.

    Example:
        >>> schedule = lab.schedule([(0.0, link.down), (0.1, link.up)])
        >>> schedule.wait(timeout=10)
        >>> [(done.asked, done.began) for done in schedule.log]
    """

    asked: float
    began: float
    action: Callable[[], object]


class Schedule:
    """Actions run at given times, one after the other, in a background thread. Created by ``Lab.schedule``.

    As a context manager it waits at the end of the block until all is done; if the block failed, the rest is cancelled.

    Example:
        >>> with lab.schedule([(0.0, link.down), (0.1, link.up)]):
        ...     red.ping(blue, timeout=0.1)
    """

    def __init__(self, lab: str, events: Iterable[Event]) -> None:
        self._lab = lab
        self._events = sorted(_checked(lab, events), key=lambda event: event[0])
        self._log: list[Done] = []
        self._error: BaseException | None = None
        self._told = False
        self._stop = threading.Event()
        self._began = monotonic()
        thread = threading.Thread(target=self._run, name=f"netns-schedule-{lab}", daemon=True)
        self._thread: threading.Thread | None = thread
        thread.start()

    def __repr__(self) -> str:
        state = "running" if not self.done else "failed" if self._error is not None else "ended"
        return f"<Schedule of lab {self._lab!r}, {state}: {len(self._log)} of {len(self._events)} done>"

    @property
    def log(self) -> tuple[Done, ...]:
        """The actions run so far."""
        return tuple(self._log)

    @property
    def done(self) -> bool:
        """Whether it has ended: by its last action, by an error or by ``cancel()``."""
        thread = self._thread  # another thread may take it away
        return thread is None or not thread.is_alive()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all is done; ``timeout`` in seconds, None: no limit.

        Raises:
            WaitTimeout: not in time.
            Exception: what an action raised; those after it were not carried out.

        Example:
            >>> schedule = lab.schedule([(0.0, link.down), (0.1, link.up)])
            >>> schedule.wait(timeout=10)
        """
        if not self._ends(timeout):
            raise WaitTimeout(f"{self!r}: waited {timeout:g} s")
        if self._error is not None:
            self._told = True
            raise self._error

    def cancel(self) -> None:
        """Cancel the remaining actions. Returns when the running action has ended.

        Raises:
            WaitTimeout: that takes longer than a minute. It is the last one all the same.

        Example:
            >>> schedule = lab.schedule([(60, link.down)])
            >>> schedule.cancel()
        """
        self._stop.set()
        if self._thread is threading.current_thread():
            return
        if not self._ends(_DEADLINE):
            raise WaitTimeout(f"{self!r}: {self._log[-1].action!r} is still under way after {_DEADLINE:g} s")

    def _ends(self, timeout: float | None) -> bool:
        """Wait for the end of its thread; False if that takes longer."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                return False
            with uninterrupted:  # threading's WeakSet runs code when a thread goes, which loses what a handler raises
                self._thread = thread = None
        return True

    def untold(self) -> Exception | None:
        """What an action raised, if nobody has been told yet.

        ``pytest.fail()`` and ``sys.exit()`` raise what is no Exception, and cannot stand among others: an error that
        tells of it does.
        """
        error = self._error
        if self._told or error is None:
            return None
        self._told = True
        if isinstance(error, Exception):
            return error
        told = NetnsError(f"{error.__notes__[-1]}: {type(error).__name__}: {error}")
        told.__cause__ = error
        return told

    def _run(self) -> None:
        _of_thread.stop = self._stop
        for due, action in self._events:
            # an event, not a sleep: cancel() is heard at once
            if self._stop.wait(max(0.0, self._began + due - monotonic())):
                return
            self._log.append(Done(due, monotonic() - self._began, action))
            try:
                action()
            except BaseException as error:  # raised by wait(), or when the lab is closed
                self._error = error
                error.add_note(f"raised by {action!r}, due {due:g} s after the start of a schedule of {self._lab!r}")
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        else:
            self.cancel()


def _checked(lab: str, events: Iterable[Event]) -> list[Event]:
    found = []
    try:
        if isinstance(events, str | bytes):
            raise TypeError
        given = list(events)
    except TypeError:
        raise TopologyError(
            f"lab {lab!r}: schedule: {events!r} are not events; expected pairs: [(0.5, link.down), (1.5, link.up)]"
        ) from None
    for event in given:
        try:
            due, action = event
        except (TypeError, ValueError):
            raise TopologyError(f"lab {lab!r}: schedule: {event!r} is not a pair of seconds and an action") from None
        if not is_number(due, 0, sys.float_info.max):
            raise TopologyError(f"lab {lab!r}: schedule: {due!r} is not a time: seconds from now, 0 or more")
        if not callable(action):
            raise TopologyError(f"lab {lab!r}: schedule: {action!r} cannot be called; write e.g. link.down, without ()")
        found.append((float(due), action))
    return found


class Schedules:
    """Those of one lab.

    Args:
        lab_name: for messages.
    """

    def __init__(self, lab_name: str) -> None:
        self._lab_name = lab_name
        self._schedules: list[Schedule] = []

    def start(self, events: Iterable[Event]) -> Schedule:
        """Carry out actions at given times from now on; see ``Lab.schedule``."""
        schedule = Schedule(self._lab_name, events)
        self._schedules.append(schedule)
        return schedule

    def cancel(self) -> list[Exception]:
        """Let none carry out anything more, and wait for the actions under way; returns what went wrong."""
        errors: list[Exception] = []
        for schedule in self._schedules:  # an action may add one meanwhile, and it is met here too
            try:
                schedule.cancel()
            except WaitTimeout as error:  # raised by close(), with all others
                errors.append(error)
        return errors

    def untold(self) -> list[Exception]:
        """What actions have raised and nobody has been told of."""
        return [error for schedule in self._schedules if (error := schedule.untold()) is not None]
