"""Processes by PID, from /proc. A process that has exited meanwhile is not an error."""

from __future__ import annotations

import os
import signal
from collections.abc import Set
from dataclasses import dataclass

#: Bytes of a command line that are read: a process can make it as long as it likes.
_COMMAND = 4096
_PF_EXITING = 0x4


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of proc_pid_stat(5) that are used here.

    Attributes:
        command: the first 15 characters of the process's name.
        state: one letter, e.g. ``R`` for running.
        parent: PID of the parent.
        session: session ID, i.e. the PID of the session leader.
        flags: PF_... flags of the kernel's <linux/sched.h>.
        started: start time in clock ticks since boot; together with the PID it identifies a process.
    """

    command: str
    state: str
    parent: int
    session: int
    flags: int
    started: str

    @property
    def runs(self) -> bool:
        """Whether it is not stopped (T), traced (t) or dead (Z, X)."""
        return self.state not in "TtZX"

    @property
    def ending(self) -> bool:
        """Whether it is dead or exiting: process 1 of a PID namespace waits until all others are reaped."""
        return self.state in "ZX" or bool(self.flags & _PF_EXITING)


def numbers() -> list[int]:
    """The PIDs of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid: int) -> Stat | None:
    """The state of a process; None if there is no such PID."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            before, _, after = file.read().rpartition(")")  # the name can contain any character
    except OSError:
        return None
    fields = after.split()
    if len(fields) < 20:  # it exited during the read
        return None
    return Stat(before.partition("(")[2], fields[0], int(fields[1]), int(fields[3]), int(fields[6]), fields[19])


def namespace_of(pid: int, kind: str) -> str | None:
    """The namespace of a given kind that a process is in: ``net:[4026532177]``; None if it is gone or dead."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def sockets_of(pid: int) -> set[int] | None:
    """The inodes of a process's open sockets; None if there is no permission to read them.

    An exiting process has none: its /proc directory belongs to root from then on, whichever user ran it.
    """
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        names = os.listdir(folder)
    except PermissionError:
        seen = stat(pid)  # afterwards, so that an exit between the two is noticed
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
    """A description of the process that has one of these sockets open."""
    for pid in numbers():
        if inodes & (sockets_of(pid) or set()):
            return "this test itself" if pid == os.getpid() else f"process {pid} ({command_of(pid)[:80]!r})"
    return "somebody else"


def command_of(pid: int) -> str:
    """The beginning of a process's command line, printable characters only; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read(_COMMAND)
    except OSError:
        return ""
    text = raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return "".join(character if character.isprintable() else "?" for character in text)


def tree(root: int, began: int, orphanage: int) -> list[int]:
    """The PIDs of a process and its descendants; the process comes first, even if it is gone.

    Args:
        root: PID of the process.
        began: its start time, in clock ticks since boot.
        orphanage: process 1 of its PID namespace, which adopts its grandchildren when their parents exit. Children that
            are older than ``root`` are left out. (Which process started a younger one cannot be determined.)
    """
    children: dict[int, list[int]] = {}
    found = [root]
    for number in numbers():
        if number == root or (each := stat(number)) is None:
            continue
        children.setdefault(each.parent, []).append(number)
        if each.parent == orphanage and (int(each.started), number) > (began, root):  # within one tick, compare PIDs
            found.append(number)
    for number in found:
        found += children.get(number, ())
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has exited meanwhile
