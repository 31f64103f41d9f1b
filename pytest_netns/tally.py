"""Tally: what was made since a test began, and where in its code. Nothing is noted where nobody asks."""

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
Place = tuple[str, int] | None

_made: list[tuple[weakref.ref[object], Place]] | None = None


def note(thing: object) -> None:
    """Called by what has to be closed, when it is opened."""
    if _made is not None:
        place, importing = _place()
        if not importing:  # what a module makes when it is imported belongs to the module
            _made.append((weakref.ref(thing), place))


def _place() -> tuple[Place, bool]:
    """Where the innermost code stands that is neither ours nor pytest's, and whether it is being imported."""
    place: Place = None
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == _IMPORT:
            return place, True
        if _RUNNER[0] in name or _RUNNER[1] in name:
            break
        if place is None and not name.startswith(_OURS):
            place = name, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return place, False


def begin() -> None:
    """Note from now on what is made."""
    global _made
    _made = []


def end() -> list[tuple[object, Place]]:
    """What was made since ``begin`` and is still referred to, in the order of its making. Notes no more."""
    global _made
    found, _made = _made or [], None
    return [(thing, place) for reference, place in found if (thing := reference()) is not None]


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
