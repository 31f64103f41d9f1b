"""Plain processes in namespaces of ours: the test has started them without us, so they end with nothing of ours.

That a namespace is one of ours does not suffice: its number may be another's already, in another session beside this
one. A process is a test's own if it descends from this one, or if it has inherited the test's name from it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from pytest_netns.kernel import procfs

#: Children of the calling thread only; and of threads that have ended, which the main thread inherits. <linux/wait.h>
_NO_THREAD = 0x20000000
#: What multiprocessing starts once, for all the session, in whatever test happens to be the first that needs it.
_SHARED = ("from multiprocessing.resource_tracker import", "from multiprocessing.forkserver import")
#: pytest sets it for each test, and children inherit it.
_TEST = "PYTEST_CURRENT_TEST"


class PlainProcesses:
    """Those that have been met, so that each is told of once."""

    def __init__(self) -> None:
        self._known: set[tuple[int, str]] = set()
        self._reaped = -1, -1
        self._threads = 0

    def begin(self) -> None:
        """A test begins."""
        if _used():
            from pytest_netns.stack.handle import forget_closed

            forget_closed()
        self._reaped, self._threads = _reaped(), threading.active_count()

    def forgive(self) -> None:
        """Those that are there are no test's."""
        self._known |= {(pid, started) for pid, (started, _) in self._found("").items()}

    def left(self, test: str, ended: Callable[[int], bool]) -> list[str]:
        """In words, what the test has left; it is ended.

        Args:
            test: node ID of the test.
            ended: called with the number of each; says whether it had not ended by itself.
        """
        if not self._may_be_any():
            return []
        lines = []
        for pid, (started, node) in self._found(test).items():
            command = procfs.command_of(pid)
            if (pid, started) in self._known or any(word in command for word in _SHARED):
                continue
            self._known.add((pid, started))
            if ended(pid):
                lines.append(f"process {command[:80]!r} in {node!r}, pid {pid}, which it has started by itself")
        return lines

    def _may_be_any(self) -> bool:
        """Whether anything was started at all; it is cheap to say no."""
        return _reaped() != self._reaped or threading.active_count() > self._threads or _has_children()

    def _found(self, test: str) -> dict[int, tuple[str, str]]:
        """When they have started, and the node, by number."""
        if not _used():
            return {}
        from pytest_netns.stack.handle import made_namespaces

        inside = {f"net:[{inode}]": name for inode, name in made_namespaces().items()}
        # What we have started lives in PID namespaces of ours.
        ours = procfs.namespace_of(os.getpid(), "pid")
        found = {}
        for pid in procfs.numbers():
            node = inside.get(procfs.namespace_of(pid, "net") or "")
            if node is None or pid == os.getpid() or procfs.namespace_of(pid, "pid") != ours:
                continue
            if (_descends(pid) or (test and _inherits(pid, test))) and (stat := procfs.stat(pid)) is not None:
                found[pid] = stat.started, node
        return found


def _used() -> bool:
    return "pytest_netns.stack.namespace" in sys.modules


def _reaped() -> tuple[int, int]:
    """Changes whenever a child, which may have had children of its own, was waited for."""
    import resource  # not on Windows, where this module must still import

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_minflt, usage.ru_nvcsw


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _NO_THREAD)
    except ChildProcessError:
        return False
    return True


def _descends(pid: int) -> bool:
    """Whether it is a child of this process, or one of its children's."""
    while pid > 1 and (stat := procfs.stat(pid)) is not None:
        if stat.parent == os.getpid():
            return True
        pid = stat.parent
    return False


def _inherits(pid: int, test: str) -> bool:
    """Whether the test's name is in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read(1 << 20)
    except OSError:
        return False
    return (b"\0" + environment).find(os.fsencode(f"\0{_TEST}={test} (")) >= 0
