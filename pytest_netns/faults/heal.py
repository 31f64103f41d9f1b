"""Heal: every fault and every impairment of a lab is over."""

from __future__ import annotations

from pytest_netns.errors import NetnsError
from pytest_netns.topology.network import Network


def heal(lab: Network) -> None:
    """Undo every fault that is in force, and every impairment, of links and of devices.

    Partitions, blocks, links that are down, crashed and frozen hosts: all is as its author has built it. Who was
    detached from a bridge is plugged in again; who has been attached to another one since then stays there. No node
    remembers anything of it: path MTUs, redirects and failed neighbours are forgotten, as by each ``undo()``.

    Raises:
        ExceptionGroup: what could not be undone; the others are.

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


def undo_in_adopted(lab: Network) -> list[Exception]:
    """Undo what would outlive the lab: faults in namespaces that were adopted. Returns what went wrong."""
    errors: list[Exception] = []
    for fault in reversed(list(lab.faults)):
        if any(lab._is_adopted(node) for node in fault.nodes):
            try:
                fault.undo()
            except NetnsError as error:  # raised by close(), with all others
                errors.append(error)
    return errors
