"""A person at a terminal, in front of an inner session."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from types import TracebackType
from typing import Self

import pytest

from .inner import PATIENCE, Project, User, processes_of


class Person:
    """Starts ``pytest ARGUMENTS`` in a terminal of its own, reads what it writes and types.

    As a context manager the session is killed at the end, with all that it started.
    """

    def __init__(self, project: Project, *arguments: str, user: User = "root", shell: str = "/bin/sh") -> None:
        command, env = project.command(*arguments, user=user, env={"SHELL": shell, "TERM": "dumb"})
        self.token = env["NETNS_TEST_TOKEN"]
        self.seen = ""
        self._unread = ""
        self._status: int | None = None
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            try:
                for number in (signal.SIGINT, signal.SIGQUIT):  # as from a login; workers of xdist ignore it
                    signal.signal(number, signal.SIG_DFL)
                os.chdir(project.folder)
                os.execvpe(command[0], command, env)
            finally:
                os._exit(127)

    def _read(self, deadline: float) -> bool:
        """True if there was something; False at the end of the session. Fails at the deadline."""
        if not select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            pytest.fail(f"the session says no more than this:\n{self.seen}")
        try:
            data = os.read(self._terminal, 1 << 16).decode().replace("\r", "")
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.seen += data
        self._unread += data
        return bool(data)

    def reads(self, pattern: str) -> str:
        """Wait until this is written, and return all that was written up to there since the last time."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self._unread)):
            if not self._read(deadline):
                pytest.fail(f"the session ended, and had not written {pattern!r}:\n{self.seen}")
        text, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return text

    def types(self, text: str) -> None:
        """Press these keys."""
        os.write(self._terminal, text.encode())

    def presses_until_heeded(self, key: str) -> None:
        """Press it again each second until something happens.

        Python misses a signal that comes between its writing of a question and its waiting for the answer.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.types(key)
            if select.select([self._terminal], [], [], 1.0)[0]:
                return
        pytest.fail(f"{key!r} is not heeded:\n{self.seen}")

    def leaves(self) -> pytest.RunResult:
        """Wait for the end of the session; what it wrote."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return pytest.RunResult(self.wait(), self.seen.splitlines(), [], 0.0)

    def wait(self) -> int:
        """The session's exit status."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status is None:
            for process in processes_of(self.pid, self.token):
                if process.alive:
                    os.kill(process.pid, signal.SIGKILL)
            self.wait()
        if self._terminal >= 0:
            os.close(self._terminal)
