"""Processes by their numbers, as /proc shows them. One that has ended meanwhile is nothing to complain of."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stat:
    """A part of what proc_pid_stat(5) tells.

    Attributes:
        command: the first 15 characters of its name.
        state: one letter, ``R`` for running.
        parent: its number.
        session: number of the process that leads its session.
        started: when, in clock ticks since boot; with its number that makes a process unique.
    """

    command: str
    state: str
    parent: int
    session: int
    started: str

    @property
    def runs(self) -> bool:
        """Whether it is neither stopped (T), nor traced (t), nor dead (Z, X)."""
        return self.state not in "TtZX"


def numbers() -> list[int]:
    """Of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid: int) -> Stat | None:
    """What a process is; None if there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            before, _, after = file.read().rpartition(")")  # a name may have any character in it
    except OSError:
        return None
    fields = after.split()
    if len(fields) < 20:  # it ended while it was read
        return None
    return Stat(before.partition("(")[2], fields[0], int(fields[1]), int(fields[3]), fields[19])


def namespace_of(pid: int, kind: str) -> str | None:
    """Which namespace of a kind a process is in: ``net:[4026532177]``; None if it is gone, or dead."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended since it was seen
