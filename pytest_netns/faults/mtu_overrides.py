"""MtuOverrides: mtus asked of the ends of a link for a while, several at a time perhaps, and what was before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_netns.kernel.locks import Lock

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.topology.cable import Cable


@dataclass(slots=True)
class _Side:
    """One end of a link, which may be another interface by and by: see ``Bridge.attach``."""

    base: int = 0
    asked: list[tuple[object, int]] = field(default_factory=list)


class MtuOverrides:
    """Those of one link.

    Args:
        link: whose ends.
    """

    def __init__(self, link: Cable) -> None:
        self._link = link
        self._lock = Lock("changing an mtu")  # a schedule changes them in its thread
        self._sides = _Side(), _Side()

    def ask(self, end: Interface, mtu: int) -> Callable[[], None]:
        """Give an end an mtu; returns what takes that back, in whatever order.

        Raises:
            KernelError: it is out of range.
        """
        number = self._link.interfaces.index(end)
        side, token = self._sides[number], object()
        with self._lock:
            if not side.asked:
                side.base = end.mtu
            self._set(number, mtu)
            side.asked.append((token, mtu))
        return lambda: self._take_back(number, token)

    def _take_back(self, number: int, token: object) -> None:
        side = self._sides[number]
        with self._lock:
            side.asked = [each for each in side.asked if each[0] is not token]
            if not self._link._is_gone:
                self._set(number, side.asked[-1][1] if side.asked else side.base)

    def _set(self, number: int, mtu: int) -> None:
        saved = self._link.nodes[number].saved_config
        with saved.saving():  # IPv6, if that is too little for it
            self._link.interfaces[number].mtu = mtu
        saved.restore()
