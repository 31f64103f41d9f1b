"""Troubled: the faults that can be put upon a lab as a whole. Each is told in a module of ``pytest_netns.faults``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_netns.errors import NetnsError, WaitTimeout
from pytest_netns.faults.schedule import Event, Schedule
from pytest_netns.topology.network import Network

if TYPE_CHECKING:
    from pytest_netns.faults.partition import Group, Partition
    from pytest_netns.impair.engine import Impairments


class Troubled(Network):
    """A lab in which things can go wrong.

    Attributes:
        faults: those in force; iterating gives each.
        impairments: likewise.
    """

    impairments: Impairments

    def __init__(self) -> None:
        super().__init__()
        self._schedules: list[Schedule] = []

    def partition(self, *groups: Group, one_way: bool = False) -> Partition:
        """Let no frame through from any node of a group to any node of another one; within each all goes on.

        What comes over a link from a node of another group is dropped on arrival, and so is whatever has its MAC or IP
        address, as they are now. (A source address that a router has translated is the router's.) ARP and neighbour
        discovery are cut too, and the kernel of the sender sees nothing but silence.

        Args:
            groups: two or more, each a node or several. Nodes in none of them hear everybody. A bridge stands for
                itself, and not for what is attached to it.
            one_way: of two groups, the second does not hear the first, but the first hears the second.

        Returns:
            The fault: as a context manager it ends with its block; ``packets`` counts what it has stopped.

        Raises:
            TopologyError: fewer than two groups, an empty one, a node in two of them, or bridges that nothing could be
                dropped between.
            UnsupportedError: neither libnftables nor the nft program is installed.
        """
        from pytest_netns.faults.partition import partition

        with self._lock:
            self.check_open()
            return partition(self, groups, one_way)

    def heal(self) -> None:
        """Undo every fault that is in force, and every impairment, of links and of devices.

        Partitions, blocks, links that are down, crashed and frozen hosts: all is as its author has built it. Who was
        detached from a bridge is plugged in again; who has been attached to another one since then stays there. No node
        remembers anything of it: path MTUs, redirects and failed neighbours are forgotten, as by each ``undo()``.

        Raises:
            ExceptionGroup: what could not be undone; the others are.
        """
        self.check_open()
        errors: list[Exception] = []
        try:
            with self.faults.mending():
                errors += self.faults.undo_all()
                errors += self.impairments.heal_all()
        except ExceptionGroup as error:
            errors += error.exceptions
        if errors:
            raise ExceptionGroup(f"healing lab {self.name!r}", errors)

    def schedule(self, events: Iterable[Event]) -> Schedule:
        """Carry out actions at given times, in the background, one after the other.

        Args:
            events: pairs of seconds from now and something to call without arguments:
                ``[(0.5, link.down), (1.5, link.up)]``. In any order. The wall clock plays no part (CLOCK_MONOTONIC).

        Returns:
            The schedule: ``wait()`` for its end, or use it as a context manager. What an action raises is raised there,
            or else when the lab is closed, which also cancels what is not due yet.

        Raises:
            TopologyError: no pairs, a time that is none, or an action that cannot be called.
        """
        with self._lock:
            self.check_open()
            schedule = Schedule(self.name, events)
            self._schedules.append(schedule)
            return schedule

    def _cancel_schedules(self) -> list[Exception]:
        """Let no schedule carry out anything more, and wait for the actions under way; returns what went wrong."""
        errors: list[Exception] = []
        for schedule in self._schedules:  # an action may add one meanwhile, and it is met here too
            try:
                schedule.cancel()
            except WaitTimeout as error:  # raised by close(), with all others
                errors.append(error)
        return errors

    def _end_faults(self) -> list[Exception]:
        """Tell what schedules could not do, and mend what outlives the lab: faults in namespaces that were adopted."""
        errors: list[Exception] = []
        for schedule in self._schedules:
            if (untold := schedule.untold()) is not None:
                errors.append(untold)
        for fault in reversed(list(self.faults)):
            if any(self.is_adopted(node) for node in fault.nodes):
                try:
                    fault.undo()
                except NetnsError as error:  # raised by close(), with all others
                    errors.append(error)
        return errors
