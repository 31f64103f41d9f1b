"""InterfaceAllocator: which interface indexes and names are still free in a network namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

# Some kernel modules put devices of their own into every new namespace, at index 2 and above.
_FIRST_INDEX = 1000


class InterfaceAllocator:
    """Shared by all nodes that share a network namespace.

    Args:
        names: of interfaces that are there already.
        indexes: likewise.
    """

    def __init__(self, names: Iterable[str] = (), indexes: Iterable[int] = ()) -> None:
        self._names = set(names)
        self._last_index = max(_FIRST_INDEX - 1, *indexes, 0)
        self._chosen: set[int] = set()
        #: The names that are there now, by index; only for a namespace in which others make interfaces as well, such
        #: as one that two labs have adopted, as this costs a question to the kernel each time.
        self.present: Callable[[], Mapping[int, str]] | None = None

    def next_index(self) -> int:
        """An interface index that is free."""
        taken = self._chosen if self.present is None else self._chosen.union(self.present())
        self._last_index += 1
        while self._last_index in taken:
            self._last_index += 1
        return self._last_index

    def reserve_index(self, index: int) -> int:
        """Note that an index was chosen by hand; if it is taken already, the kernel will say so."""
        self._chosen.add(index)
        return index

    def next_ethernet(self) -> str:
        """``eth0``, ``eth1``, ...: the first that is free."""
        taken = self._names if self.present is None else self._names.union(self.present().values())
        number = 0
        while (name := f"eth{number}") in taken:
            number += 1
        self._names.add(name)
        return name

    def reserve(self, name: str) -> bool:
        """Note that a name was chosen by hand; False if it is taken already, which the kernel will say."""
        fresh = name not in self._names
        self._names.add(name)
        return fresh

    def release(self, name: str) -> None:
        """Give a name back."""
        self._names.discard(name)
