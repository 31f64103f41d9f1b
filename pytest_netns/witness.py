"""Witness: somebody who is told what becomes of labs, such as the plugin. Labs do not know who that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.nodes import Node


class Witness(Protocol):
    """What one is told. None of it may raise."""

    def added(self, node: Node) -> None:
        """A node was made; it has no links yet."""

    def failing(self, lab: Lab, error: BaseException) -> None:
        """An exception passes through the ``with`` statement of a lab, which is still as it was."""

    def closing(self, lab: Lab) -> None:
        """A lab is about to close."""


#: All of them; who comes also goes.
witnesses: list[Witness] = []
