"""Heal: every fault and every impairment of a lab is over."""

from __future__ import annotations

from pytest_netns.topology.network import Network


def heal(lab: Network) -> None:
    """Undo every fault and every impairment that is in force, of links and of devices.

    Partitions, blocks, links that are down, crashed and frozen hosts are restored to their configured state. A node
    detached from a bridge is attached again, unless it has been attached elsewhere since. No node
    keeps stale state: path MTUs, redirects and failed neighbours are flushed, as by each ``undo()``.

    Raises:
        ExceptionGroup: the faults that could not be undone; the others are undone.

    Example:
        >>> link.down()
        >>> blue.freeze()
        >>> lab.heal()
    """
    lab._check_open()
    errors: list[Exception] = []
    try:
        with lab.faults.mending():
            errors += lab.faults.undo_all()
            errors += lab.impairments.heal_all()
    except ExceptionGroup as error:
        errors += error.exceptions
    if errors:
        raise ExceptionGroup(f"healing lab {lab.name!r}", errors)
