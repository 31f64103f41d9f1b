"""The leak check: what a test left alive is an error at its teardown, which names it; and it is closed then.

What a fixture of wider scope made, ``lab_factory``, ``netns_factory`` or a module when it was imported, is meant to
outlive the test.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_netns import open_resources
from pytest_netns.events import Location
from pytest_netns.plugin import session as _session
from pytest_netns.plugin.descriptor_owner import owner_of
from pytest_netns.plugin.plain_processes import PlainProcesses
from pytest_netns.plugin.settings import Leaks

if TYPE_CHECKING:
    from pytest_netns.process.spawner import Spawner

#: Threads that serve all tests, and that live as long as what they belong to, which is looked at itself.
_SERVANTS = frozenset({"netns-clock"})
#: Seconds that what is about to end by itself is given. A test that leaves nothing waits for nothing.
_GRACE = 0.2
#: Seconds that the start of a program may take on a busy machine.
_START = 5.0
_ADVICE = (
    "close it, best by a with statement; what is meant to outlive a test is made in a fixture of wider scope, or by "
    "lab_factory or netns_factory. What is ours of it is closed now. "
    "(--netns-leaks=warn makes it a warning, off leaves this check out.)"
)


def register(config: pytest.Config) -> None:
    """Check every test of the session, unless told not to."""
    if _session.of(config).settings.leaks is not Leaks.OFF and sys.platform.startswith("linux"):
        config.pluginmanager.register(Checker(config), "netns-leaks")


def _used() -> bool:
    return "pytest_netns.stack.namespace" in sys.modules


class LeakWarning(pytest.PytestWarning):
    """A test left something alive, and ``--netns-leaks=warn``."""


@dataclass(slots=True)
class _Before:
    """What was there when a test began."""

    descriptors: int
    threads: int
    names: set[int] = field(default_factory=set)
    orphans: set[int] = field(default_factory=set)


class Checker:
    """The hooks of the check."""

    def __init__(self, config: pytest.Config) -> None:
        self._root = str(config.rootpath)
        self._warns = _session.of(config).settings.leaks is Leaks.WARN
        self._before: _Before | None = None
        self._failed = False
        self._plain = PlainProcesses()
        #: Inodes of namespaces that something holds which no test is to blame for.
        self._tolerated: set[int] | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin."""
        self._failed = False
        self._before = self._census() if _used() or _session.needs_networks(item) else None
        self._plain.begin()
        open_resources.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """What a fixture of wider scope makes is no test's."""
        if fixturedef.scope == "function":
            return (yield)
        with open_resources.paused():
            try:
                return (yield)
            finally:
                if _used():
                    self._forgive()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A failure is kept by pytest, with all that the variables of the test refer to."""
        self._failed = self._failed or report.failed

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Look, after everything else; an error of the teardown itself comes first."""
        try:
            result = yield
        except BaseException as error:
            if self._warns:
                self._warn(item)
                raise
            if text := self._found(item):
                if isinstance(error, pytest.fail.Exception):
                    pytest.fail(f"{error.msg}\n{text}", pytrace=False)
                error.add_note(text)
            raise
        if self._warns:
            self._warn(item)
        elif text := self._found(item):
            pytest.fail(text, pytrace=False)
        return result

    def _warn(self, item: pytest.Item) -> None:
        if text := self._found(item):
            item.warn(LeakWarning(text))

    def _found(self, item: pytest.Item) -> str:
        """What is left of the test, which is closed; empty if nothing is."""
        made = open_resources.end()
        before, self._before = self._before, None
        if not _used():
            return ""
        lines = self._things(made) + self._plain.left(item.nodeid, _stays)
        if before is not None:
            lines += self._orphans(before) + self._threads(before) + self._descriptors(before)
        elif self._tolerated is None:
            self._tolerate()
        if not lines:
            return ""
        return "\n".join([f"{item.nodeid} left alive:", *(f"  {line}" for line in lines), _ADVICE])

    # ------------------------------------------------------------------ things

    def _things(self, made: list[tuple[object, Location]]) -> list[str]:
        from pytest_netns.lab.lab import Lab
        from pytest_netns.process.process import Process
        from pytest_netns.stack.namespace import Namespace

        capture = sys.modules.get("pytest_netns.capture.capture")
        lines: list[str] = []
        # The wider ones first: with a lab its processes end.
        for thing, place in made:
            if isinstance(thing, Lab) and not thing.closed:
                nodes = ", ".join(node.name for node in thing) or "none"
                running = [process for process in thing.supervisor.processes if process.returncode is None]
                lines.append(self._line(f"lab {thing.name!r} (nodes: {nodes}){_and(running)}", "made", place))
                lines += _closing(thing.close)
            elif isinstance(thing, Namespace) and not thing.closed:
                running = [process for process in thing.processes if process.returncode is None]
                lines.append(self._line(f"namespace {thing.name!r}{_and(running)}", "made", place))
                lines += _closing(thing.close)
        for thing, place in made:
            if isinstance(thing, Process) and thing.returncode is None:
                what = f"process {' '.join(thing.argv)[:80]!r} in {thing.node!r}, pid {thing.pid}"
                lines.append(self._line(what, "started", place))
                thing.kill()
            elif capture is not None and isinstance(thing, capture.Capture) and thing.running:
                lines.append(self._line(f"capture of {thing.label}", "started", place))
                lines += _closing(thing.stop)
        return lines

    def _line(self, what: str, done: str, place: Location) -> str:
        if place.file is None:
            return what
        path, line = place.file, place.line
        if path.startswith(self._root + os.sep):
            path = path[len(self._root) + 1 :]
        return f"{what}, {done} at {path}:{line}"

    # --------------------------------------------------------------- processes

    def _orphans(self, before: _Before) -> list[str]:
        """Daemons that commands left behind in what outlives the test."""
        lines = []
        for pid, command in _orphans(_spawners()).items():
            if pid not in before.orphans and _stays(pid):
                lines.append(f"process {command[:80]!r}, pid {pid}, left behind by a command that has ended")
        return lines

    def _threads(self, before: _Before) -> list[str]:
        if threading.active_count() <= before.threads:
            return []
        lines = []
        for thread in threading.enumerate():
            if thread.name.startswith("netns-") and thread.name not in _SERVANTS and thread.ident not in before.names:
                thread.join(_GRACE)
                if thread.is_alive():
                    lines.append(f"thread {thread.name!r}: what call() runs in it has not returned")
        return lines

    # ------------------------------------------------------------- descriptors

    def _census(self) -> _Before:
        from pytest_netns.kernel import reaper
        from pytest_netns.kernel.netns import holders as descriptors

        if self._tolerated is None:
            self._tolerate()
        waiting = reaper.waiting()  # first: what is closed in between makes the count too small, never too large
        orphans = set(_orphans(_spawners()))
        return _Before(descriptors.count() - waiting, threading.active_count(), _threads(), orphans)

    def _descriptors(self, before: _Before) -> list[str]:
        from pytest_netns.kernel import reaper
        from pytest_netns.kernel.netns import holders as descriptors

        if self._failed or descriptors.count() - reaper.waiting() <= before.descriptors or not self._holders():
            return []
        reaper.settle()
        gc.collect()  # a socket in a cycle, as pytest.raises() makes them, is not held for long
        found = self._holders()
        self._tolerate()
        return [
            f"descriptor {fd} ({shown}), which keeps namespace net:[{inode}] alive though it was closed: {owner_of(fd)}"
            for fd, (inode, shown) in found.items()
        ]

    def _holders(self) -> dict[int, tuple[int, str]]:
        from pytest_netns.kernel.netns import holders as descriptors
        from pytest_netns.stack.handle import open_namespaces

        known = {each.inode for each in open_namespaces()} | (self._tolerated or set())
        found = descriptors.holders(known)
        clock = sys.modules.get("pytest_netns.capture.timestamps")
        if clock is not None:
            found.pop(clock.descriptor(), None)
        return found

    def _forgive(self) -> None:
        """What a fixture of wider scope has just left is no test's."""
        self._tolerate()
        self._plain.forgive()
        if self._before is not None:
            self._before.orphans |= set(_orphans(_spawners()))
            self._before.names |= _threads()

    def _tolerate(self) -> None:
        self._tolerated = self._tolerated or set()
        self._tolerated |= {inode for inode, _ in self._holders().values()}


def _and(processes: Iterable[object]) -> str:
    running = ", ".join(repr(" ".join(process.argv)[:60]) for process in processes)  # type: ignore[attr-defined]
    return f" with running {running}" if running else ""


def _closing(close: object) -> list[str]:
    """Close it; an error of that is a further line."""
    try:
        close()  # type: ignore[operator]
    except ExceptionGroup as group:
        return [f"  on closing: {error}" for error in group.exceptions]
    except Exception as error:  # the next test must not be blamed, whatever this is
        return [f"  on closing: {error!r}"]
    return []


def _threads() -> set[int]:
    return {t.ident for t in threading.enumerate() if t.name.startswith("netns-") and t.ident is not None}


def _spawners() -> list[Spawner]:
    from pytest_netns.process.spawner import living

    return living()


def _orphans(spawners: list[Spawner]) -> dict[int, str]:
    """Processes that their parents have left to process 1 of a PID namespace, with their commands."""
    orphans = {}
    for spawner in spawners:
        own = _command(spawner.init_pid)
        for pid in _children(spawner.init_pid):
            command = _command(pid)
            if command and command != own:  # process 1 waits for a shell of its own
                orphans[pid] = command
    return orphans


def _children(pid: int) -> set[int]:
    """The children of a process; none if it has ended, or the kernel has no such file (CONFIG_PROC_CHILDREN).

    The kernel walks the list anew for each entry, so one that is reaped meanwhile can hide the next one
    (https://man7.org/linux/man-pages/man5/proc_tid_children.5.html): it is read twice.
    """
    try:
        file = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return set()
    try:
        return {int(number) for _ in range(2) for number in os.pread(file, 1 << 20, 0).split()}
    except OSError:
        return set()
    finally:
        os.close(file)


def _stays(pid: int) -> bool:
    """Whether a process does not end by itself in a moment; it is killed then."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if poll.poll(_GRACE * 1000):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def _command(pid: int) -> str:
    """The command of a process; empty if it has ended.

    The kernel shows none of a process in the middle of execve(2), as a daemon is that has just been started (its
    ``mm->env_end`` is 0 until the new program is set up, see get_mm_cmdline()): that is awaited.
    """
    from pytest_netns.clock import monotonic, sleep
    from pytest_netns.kernel import procfs

    deadline = monotonic() + _START
    while not (text := procfs.command_of(pid)):
        found = procfs.stat(pid)
        if found is None or found.state in "ZX":
            return ""
        if monotonic() >= deadline:
            return found.command
        sleep(0.001)
    return text
