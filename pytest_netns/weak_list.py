"""A list of what somebody else keeps.

``weakref.WeakSet`` runs Python code whenever one of them goes, and what a signal handler raises in such a callback, as
Ctrl-C does, is lost.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class WeakList(Generic[_T]):
    """Those that are still there, in the order of their coming."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[_T]] = []

    def add(self, thing: _T) -> None:
        """Take one in, unless it is."""
        self._references = [reference for reference in self._references if reference() is not None]
        if thing not in self:
            self._references.append(weakref.ref(thing))

    def __iter__(self) -> Iterator[_T]:
        return iter([thing for reference in self._references if (thing := reference()) is not None])

    def __contains__(self, thing: object) -> bool:
        return any(each is thing for each in self)
