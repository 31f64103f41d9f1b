"""Processes by their numbers, as /proc shows them. One that has ended meanwhile is nothing to complain of."""

from __future__ import annotations

import os
import signal
from collections.abc import Set
from dataclasses import dataclass

#: Bytes of a command line that are looked at: it may be as long as its process wants.
_COMMAND = 4096
_PF_EXITING = 0x4


@dataclass(frozen=True, slots=True)
class Stat:
    """A part of what proc_pid_stat(5) tells.

    Attributes:
        command: the first 15 characters of its name.
        state: one letter, ``R`` for running.
        parent: its number.
        session: number of the process that leads its session.
        flags: PF_... of the kernel's <linux/sched.h>.
        started: when, in clock ticks since boot; with its number that makes a process unique.
    """

    command: str
    state: str
    parent: int
    session: int
    flags: int
    started: str

    @property
    def runs(self) -> bool:
        """Whether it is neither stopped (T), nor traced (t), nor dead (Z, X)."""
        return self.state not in "TtZX"

    @property
    def ending(self) -> bool:
        """Whether it is dead, or about to be: process 1 of a PID namespace waits for all others to be reaped first."""
        return self.state in "ZX" or bool(self.flags & _PF_EXITING)


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
    return Stat(before.partition("(")[2], fields[0], int(fields[1]), int(fields[3]), int(fields[6]), fields[19])


def namespace_of(pid: int, kind: str) -> str | None:
    """Which namespace of a kind a process is in: ``net:[4026532177]``; None if it is gone, or dead."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def sockets_of(pid: int) -> set[int] | None:
    """The inodes of the sockets that a process has open; None if it may not be looked at.

    One that is about to end has none: its folder in /proc belongs to root from then on, whoever it was.
    """
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        names = os.listdir(folder)
    except PermissionError:
        seen = stat(pid)  # afterwards: an end that begins between the two is seen here
        return set() if seen is None or seen.ending else None
    except OSError:
        return set()
    for name in names:
        try:
            shown = os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # closed in between
        if shown.startswith("socket:["):
            found.add(int(shown[8:-1]))
    return found


def holder_of(inodes: Set[int]) -> str:
    """In words, the process that has one of these sockets open."""
    for pid in numbers():
        if inodes & (sockets_of(pid) or set()):
            return "this test itself" if pid == os.getpid() else f"process {pid} ({command_of(pid)[:80]!r})"
    return "somebody else"


def command_of(pid: int) -> str:
    """The beginning of a process's command line, of printable characters; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read(_COMMAND)
    except OSError:
        return ""
    text = raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in text)


def tree(root: int, began: int, orphanage: int) -> list[int]:
    """A process and all that it has started; it comes first, whether it is still there or not.

    Args:
        root: its number.
        began: its start, in clock ticks since boot.
        orphanage: process 1 of its PID namespace, to which its grandchildren go when their parents end. Those that are
            older than ``root`` are not its own. (Of younger ones nobody can tell who started them.)
    """
    children: dict[int, list[int]] = {}
    found = [root]
    for number in numbers():
        if number == root or (each := stat(number)) is None:
            continue
        children.setdefault(each.parent, []).append(number)
        if each.parent == orphanage and (int(each.started), number) > (began, root):  # in one tick the numbers tell
            found.append(number)
    for number in found:
        found += children.get(number, ())
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended since it was seen
