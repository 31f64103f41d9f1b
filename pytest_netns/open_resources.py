"""Open resources: what has been opened since a test began and must be closed, and where in its code it was opened.

Nothing is tracked unless somebody asks for it.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator

from pytest_netns.events import Event, Location, ResourceOpened, everywhere

_opened: list[tuple[weakref.ref[object], Location]] | None = None
_unsubscribe: Callable[[], None] | None = None


def _told(event: Event) -> None:
    # What a module opens when it is imported belongs to the module.
    if isinstance(event, ResourceOpened) and _opened is not None and not event.location.importing:
        _opened.append((weakref.ref(event.resource), event.location))


def begin() -> None:
    """Track from now on what is opened."""
    global _opened, _unsubscribe
    _opened = []
    if _unsubscribe is None:
        _unsubscribe = everywhere.subscribe(_told)


def end() -> list[tuple[object, Location]]:
    """What was opened since ``begin`` and is still referred to, in that order. Tracks no more."""
    global _opened, _unsubscribe
    opened, _opened = _opened or [], None
    if _unsubscribe is not None:
        _unsubscribe()
        _unsubscribe = None
    return [(thing, location) for reference, location in opened if (thing := reference()) is not None]


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """What is opened in this block is meant to outlive the test."""
    global _opened
    kept, _opened = _opened, None
    try:
        yield
    finally:
        _opened = kept


def disown(thing: object) -> None:
    """It is meant to outlive the test."""
    if _opened is not None:
        _opened[:] = [each for each in _opened if each[0]() is not thing]
