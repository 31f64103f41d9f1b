"""Open resources: what has been opened since a test began and must be closed, and where in its code it was opened.

Nothing is tracked unless somebody asks for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Iterator

_OURS = (os.path.dirname(__file__) + os.sep, contextlib.__file__)
_RUNNER = (f"{os.sep}_pytest{os.sep}", f"{os.sep}pluggy{os.sep}")
_IMPORT = "<frozen importlib._bootstrap>"

#: File and line; None if no code of the test stood between us and pytest.
Location = tuple[str, int] | None

_made: list[tuple[weakref.ref[object], Location]] | None = None


def track(thing: object) -> None:
    """Called with what has to be closed, when it is opened."""
    if _made is not None:
        location, importing = _location()
        if not importing:  # what a module makes when it is imported belongs to the module
            _made.append((weakref.ref(thing), location))


def _location() -> tuple[Location, bool]:
    """Where the innermost code stands that is neither ours nor pytest's, and whether it is being imported."""
    location: Location = None
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == _IMPORT:
            return location, True
        if _RUNNER[0] in name or _RUNNER[1] in name:
            break
        if location is None and not name.startswith(_OURS):
            location = name, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return location, False


def begin() -> None:
    """Track from now on what is opened."""
    global _made
    _made = []


def end() -> list[tuple[object, Location]]:
    """What was made since ``begin`` and is still referred to, in the order of opening. Tracks no more."""
    global _made
    found, _made = _made or [], None
    return [(thing, location) for reference, location in found if (thing := reference()) is not None]


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """What is made in this block is meant to outlive the test."""
    global _made
    kept, _made = _made, None
    try:
        yield
    finally:
        _made = kept


def disown(thing: object) -> None:
    """It is meant to outlive the test."""
    if _made is not None:
        _made[:] = [each for each in _made if each[0]() is not thing]
