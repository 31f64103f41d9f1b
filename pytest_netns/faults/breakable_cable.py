"""BreakableCable: a cable, and what the faults upon it have to remember."""

from __future__ import annotations

from pytest_netns.faults.mtu_overrides import MtuOverrides
from pytest_netns.faults.segmentation import Segmentation
from pytest_netns.kernel.locks import Lock
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.fault import Fault
from pytest_netns.topology.network import Network


class BreakableCable(Cable):
    """A cable that can fail. Its faults are functions, each in a module of this folder; a link lists them.

    Args:
        lab: the lab that it is part of.
        a: one end.
        b: the other end.
    """

    lab: Network

    def __init__(self, lab: Network, a: Interface, b: Interface) -> None:
        super().__init__(lab, a, b)
        self._mtus = MtuOverrides(self)
        self._segmentation = Segmentation(self)
        self._lock = Lock("cutting a link")  # a schedule cuts and mends in its thread
        self._cuts: list[Fault] = []

    def _forget_cuts(self) -> None:
        """End those in force without a change: the link is up, or has gone."""
        for cut in self._cuts:
            cut._forget()
        self._cuts.clear()
