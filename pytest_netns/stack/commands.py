"""Commands: programs that run in a namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

from pytest_netns.events import ProgramStarting, everywhere
from pytest_netns.process.environment import environment_of
from pytest_netns.process.process import Argv, Process
from pytest_netns.stack.handle import Handle

if TYPE_CHECKING:
    from pytest_netns.ready import Ready


def run(
    namespace: Handle,
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
        timeout: seconds after which it is killed and WaitTimeout is raised; None: no limit.
        input: text for its standard input; None: empty.
        env: its whole environment, instead of ``environment()``.
        cwd: its working directory.

    Raises:
        CommandError: it does not exist, cannot be executed, or failed; with the last lines of stdout and stderr.
        TypeError: ``argv`` is one text instead of a list of words, or ``env`` is no mapping of text to text.
        WaitTimeout: see ``timeout``.

    Example:
        >>> red.run(["cat", "/proc/net/dev"]).stdout
    """
    env = env if env is None else environment_of(env)
    namespace._before_entry()
    everywhere.publish(ProgramStarting, namespace)
    return namespace._supervisor.run(
        argv,
        namespace.name,
        namespace,
        check=check,
        timeout=timeout,
        input=input,
        env=namespace.environment() if env is None else env,
        cwd=cwd,
    )


def spawn(
    namespace: Handle,
    argv: Argv,
    *,
    ready: Ready | None = None,
    timeout: float = 10,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    may_end: bool = False,
    expect_exit: int | None = None,
) -> Process:
    """Start a background process inside and return when it is ready.

    It is killed with the namespace at the latest, and so are its child processes, daemons included.

    Args:
        argv: the program and its arguments; run a daemon in the foreground, so that it is supervised.
        ready: a TCP port that it will listen on, a condition of ``pytest_netns.ready``, or a callable.
        timeout: seconds to wait for that.
        env: its whole environment, instead of ``environment()``.
        cwd: its working directory.
        may_end: its end, however it ends, is no error: it is left open whether it outlives the test.
        expect_exit: it is meant to end by itself with this exit status, 0 to 255, or by a signal, -N. Another end is an
            error when its namespace is closed, or ``wait()`` is called; so is that it still runs at the close, unless
            ``may_end`` is given too.

    Raises:
        CommandError: it does not exist or cannot be executed.
        ProcessDied: it ended before it was ready. (With ``may_end`` or ``expect_exit`` a program that makes a daemon of
            itself may be awaited, too.)
        WaitTimeout: it was not ready in time, and was killed.

    Example:
        >>> server = [sys.executable, "-m", "http.server", "8080"]
        >>> blue.spawn(server, ready=8080)
    """
    env = env if env is None else environment_of(env)
    namespace._before_entry()
    everywhere.publish(ProgramStarting, namespace)
    return namespace._supervisor.spawn(
        argv,
        namespace.name,
        namespace,
        ready=ready,
        timeout=timeout,
        env=namespace.environment() if env is None else env,
        cwd=cwd,
        may_end=may_end,
        expect_exit=expect_exit,
    )


def run_in_terminal(namespace: Handle, argv: Argv, env: Mapping[str, str] | None = None) -> int:
    """Run a command inside that has the terminal of this process, a shell for one; returns its exit status.

    Args:
        argv: the program and its arguments.
        env: its whole environment, instead of ``environment()``.

    Raises:
        CommandError: it does not exist or cannot be executed.
    """
    env = env if env is None else environment_of(env)
    namespace._before_entry()
    everywhere.publish(ProgramStarting, namespace)
    return namespace._supervisor.run_in_terminal(
        argv, namespace.name, namespace, namespace.environment() if env is None else env
    )
