"""Events: what happens in labs, as typed values for whoever has subscribed: reports, the leak check, name resolution.

No event is made where nobody listens. Observers are called in the thread in which it happens, and must not raise.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec

from pytest_netns.clock import monotonic

_P = ParamSpec("_P")

_OURS = (os.path.dirname(__file__) + os.sep, contextlib.__file__)
_RUNNER = (f"{os.sep}_pytest{os.sep}", f"{os.sep}pluggy{os.sep}")
_IMPORT = "<frozen importlib._bootstrap>"


@dataclass(frozen=True, slots=True)
class Location:
    """Where the code of a test stood: the innermost that is neither ours nor pytest's.

    Attributes:
        file: its path; None if no such code stood between us and pytest.
        line: likewise.
        importing: whether a module was being imported there.
    """

    file: str | None = None
    line: int = 0
    importing: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened, or is about to.

    Attributes:
        time: seconds, on the clock of ``clock.monotonic()``.
        location: in the test.
    """

    time: float
    location: Location


@dataclass(frozen=True, slots=True)
class ResourceOpened(Event):
    """Something was opened that has to be closed: a namespace, a lab, a process, a capture."""

    resource: object


@dataclass(frozen=True, slots=True)
class ProgramStarting(Event):
    """A command is about to run in a namespace, or a background process to start."""

    namespace: object


Observer = Callable[[Event], None]


class Events:
    """Those of one lab, or of the whole process.

    Args:
        parent: is told all of them too.
    """

    def __init__(self, parent: Events | None = None) -> None:
        self._parent = parent
        self._observers: tuple[Observer, ...] = ()

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Have an observer told from now on; returns what ends that."""
        self._observers += (observer,)

        def end() -> None:
            self._observers = tuple(each for each in self._observers if each is not observer)

        return end

    def publish(
        self,
        kind: Callable[Concatenate[float, Location, _P], Event],
        /,
        *details: _P.args,
        **named_details: _P.kwargs,
    ) -> None:
        """Tell all observers, if there are any.

        Args:
            kind: of the event: a class derived from ``Event``.
            details: its attributes, after time and location.
            named_details: likewise.
        """
        observers = self._observers if self._parent is None else self._observers + self._parent._observers
        if observers:
            event = kind(monotonic(), location(), *details, **named_details)
            for observer in observers:
                observer(event)


#: Those of the whole process.
everywhere: Events = Events()


def location() -> Location:
    """Where the test stands that has called us."""
    file, line = None, 0
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == _IMPORT:
            return Location(file, line, importing=True)
        if _RUNNER[0] in name or _RUNNER[1] in name:
            break
        if file is None and not name.startswith(_OURS):
            file, line = name, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return Location(file, line)
