"""Commands: programs that run in a namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError
from pytest_netns.process.environment import Environment, environment_of, ours
from pytest_netns.process.process import Argv, Process
from pytest_netns.process.supervisor import Supervisor

if TYPE_CHECKING:
    from pytest_netns.ready import Ready


class Commands:
    """What a ``Namespace`` runs.

    Args:
        name: what messages call it.
        supervisor: of its processes, if it shares one with others.

    Attributes:
        name: what messages call it.
    """

    name: str

    def __init__(self, name: str, supervisor: Supervisor | None) -> None:
        self.name = name
        self._supervisor = supervisor or Supervisor(f"namespace {name!r}")
        self._owns_supervisor = supervisor is None
        self._xtables_lock = -1

    @property
    def fd(self) -> int:
        """The descriptor that keeps it alive."""
        raise AssertionError("a Namespace says what it is")

    def before_entry(self) -> None:
        """Called before a thread or a process of the test goes inside."""

    def environment(self) -> Environment:
        """The environment of its processes unless they are given another.

        It is ours, with /usr/sbin and its like at the end of PATH, and a lock of its own for iptables.

        The iptables programs serialize on one lock file, though rulesets are per namespace; parallel tests would fail
        each other, and without root it cannot even be opened.
        """
        if self._xtables_lock < 0:
            try:
                self._xtables_lock = os.memfd_create("xtables.lock", os.MFD_CLOEXEC)
            except OSError as error:
                raise KernelError.of(error, "memfd_create for the lock of iptables", self.name) from error
        found = ours()
        found["XTABLES_LOCKFILE"] = f"/proc/{os.getpid()}/fd/{self._xtables_lock}"
        return found

    def run(
        self,
        argv: Argv,
        *,
        check: bool = True,
        timeout: float | None = None,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> CompletedProcess[str]:
        """Run a command inside to its end, as ``subprocess.run(argv, capture_output=True, text=True)`` does.

        Args:
            argv: the program and its arguments; no shell is involved.
            check: raise CommandError on a bad exit status.
            timeout: seconds after which it is killed and WaitTimeout raised; None waits for ever.
            input: text for its standard input; without, that is empty.
            env: its whole environment, instead of ``environment()``.
            cwd: its working directory.

        Raises:
            CommandError: it does not exist, cannot be executed, or failed; with the tail of both its streams.
            TypeError: ``argv`` is one text instead of a list of words, or ``env`` is no mapping of text to text.
            WaitTimeout: see ``timeout``.
        """
        env = env if env is None else environment_of(env)
        self.before_entry()
        return self._supervisor.run(
            argv,
            self.name,
            self,
            check=check,
            timeout=timeout,
            input=input,
            env=self.environment() if env is None else env,
            cwd=cwd,
        )

    def spawn(
        self,
        argv: Argv,
        *,
        ready: Ready | None = None,
        timeout: float = 10,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Process:
        """Start a background process inside and return when it is ready.

        It ends with the namespace at the latest, and so does everything it starts, daemons included.

        Args:
            argv: the program and its arguments; keep a daemon in the foreground, so that it is supervised.
            ready: a TCP port that it will listen on, a condition of ``pytest_netns.ready``, or a callable.
            timeout: seconds to wait for that.
            env: its whole environment, instead of ``environment()``.
            cwd: its working directory.

        Raises:
            CommandError: it does not exist or cannot be executed.
            ProcessDied: it ended before it was ready.
            WaitTimeout: it was not ready in time, and was killed.
        """
        env = env if env is None else environment_of(env)
        self.before_entry()
        return self._supervisor.spawn(
            argv,
            self.name,
            self,
            ready=ready,
            timeout=timeout,
            env=self.environment() if env is None else env,
            cwd=cwd,
        )

    def run_in_terminal(self, argv: Argv, env: Mapping[str, str] | None = None) -> int:
        """Run a command inside that has the terminal of this process, a shell for one; returns its exit status.

        Args:
            argv: the program and its arguments.
            env: its whole environment, instead of ``environment()``.

        Raises:
            CommandError: it does not exist or cannot be executed.
        """
        env = env if env is None else environment_of(env)
        self.before_entry()
        return self._supervisor.run_in_terminal(argv, self.name, self, self.environment() if env is None else env)

    @property
    def processes(self) -> list[Process]:
        """Its background processes, ended ones included, in the order of their start."""
        return [process for process in self._supervisor.processes if process.node == self.name]

    def forget(self, process: Process) -> None:
        """Let go of a process that has ended, as if it had never been one of its background processes."""
        self._supervisor.forget(process)

    def end_processes(self) -> list[Exception]:
        """Kill them, and return an error for each that had ended unasked."""
        errors = self._supervisor.close() if self._owns_supervisor else self._supervisor.end(self.name)
        if self._xtables_lock >= 0:
            os.close(self._xtables_lock)
            self._xtables_lock = -1
        return errors
