"""Supervisor: runs commands inside namespaces to their end, and supervises others in the background."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import ExitStack

from pytest_netns import ready as _ready
from pytest_netns.errors import CommandError, NetnsError, WaitTimeout, tail
from pytest_netns.events import ResourceOpened, everywhere
from pytest_netns.kernel import procfs as processes
from pytest_netns.kernel.procfs import namespace_of
from pytest_netns.kernel.search_path import find_in_sbin
from pytest_netns.process import terminal
from pytest_netns.process.isolation import Isolation
from pytest_netns.process.process import Argv, Exit, Process, exit_words, memory_file, text_of
from pytest_netns.process.spawner import Spawner

_UNCHECKED = "(if it may end so: run(..., check=False), and look at returncode)"


class Supervisor:
    """The processes of one lab, or of one namespace that stands alone, in a PID namespace made at the first of them.

    Args:
        isolation: what its processes have of their own beside the network.
    """

    def __init__(self, isolation: Isolation | None = None) -> None:
        self._isolation = isolation
        self._lock = threading.Lock()
        self._spawner: Spawner | None = None
        self._processes: list[Process] = []
        self._closed = False

    @property
    def processes(self) -> tuple[Process, ...]:
        """Every background process started so far."""
        return tuple(self._processes)

    def _started(self) -> Spawner:
        with self._lock:
            if self._closed:
                raise NetnsError("cannot start a process: the lab is closed")
            if self._spawner is None or not self._spawner.usable:
                self._spawner = self._new_spawner()
            return self._spawner

    def _new_spawner(self) -> Spawner:
        if self._isolation is None:
            return Spawner()
        return Spawner(self._isolation.prepare, own_proc="pid" in self._isolation.kinds)

    def start(self) -> int:
        """Make the PID namespace now, which otherwise the first process does; its process 1 as seen from outside."""
        return self._started().init_pid

    def _popen(self, argv: Argv, node: str, netns: int, **options: object) -> tuple[list[str], subprocess.Popen[bytes]]:
        if isinstance(argv, str | bytes) or not argv:
            raise TypeError(f"argv is {argv!r}; expected a list of words, e.g. ['ip', 'route']")
        words = [os.fspath(word) for word in argv]
        if self._isolation is not None and options.get("cwd") is None:
            options["cwd"] = self._isolation.working_directory()
        options["executable"] = find_in_sbin(words[0], options.get("env") or os.environ)  # type: ignore[arg-type]
        try:
            return words, self._started().popen(words, netns, **{"start_new_session": True, **options})
        except OSError as error:
            if error.filename is not None and os.fspath(error.filename) in (words[0], options["executable"]):
                env = options.get("env")
                path = (os.environ if env is None else env).get("PATH", os.defpath)  # type: ignore[attr-defined]
                by_name = "/" not in words[0]
                # A folder of PATH that may not be searched gives EACCES, whatever is asked for.
                missing = isinstance(error, FileNotFoundError) or (
                    by_name and shutil.which(words[0], os.F_OK, path) is None
                )
                what = "no such program" if missing else str(error.strerror)
                hint = f" in PATH={path}" if by_name else ""
                message = f"cannot run {words[0]!r} in namespace {node!r}: {what}{hint}"
            else:
                message = f"cannot run {words[0]!r} in namespace {node!r}: {error}"
            raise CommandError(message, words) from error

    def run(
        self,
        argv: Argv,
        node: str,
        netns: int,
        *,
        check: bool,
        timeout: float | None,
        input: str | None,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
    ) -> subprocess.CompletedProcess[str]:
        """See ``Namespace.run``."""
        with ExitStack() as stack:
            out, err = memory_file("stdout"), memory_file("stderr")
            stack.callback(os.close, out)
            stack.callback(os.close, err)
            stdin = subprocess.DEVNULL
            if input is not None:
                stdin = memory_file("stdin")
                stack.callback(os.close, stdin)
                with open(stdin, "wb", closefd=False) as file:
                    file.write(input.encode())
                os.lseek(stdin, 0, os.SEEK_SET)
            words, popen = self._popen(argv, node, netns, stdin=stdin, stdout=out, stderr=err, env=env, cwd=cwd)
            if timeout is None:
                popen.wait()
            else:
                exit_ = Exit(popen)
                stack.callback(exit_.close)
                if not exit_.wait(timeout):
                    os.killpg(popen.pid, signal.SIGKILL)
                    popen.wait()
                    raise WaitTimeout(
                        f"{shlex.join(words)!r} in namespace {node!r} did not end within {timeout:g} s and was killed"
                        f"{tail('stdout', text_of(out))}{tail('stderr', text_of(err))}"
                    )
            stdout, stderr = text_of(out), text_of(err)
        if check and popen.returncode != 0:
            message = f"{shlex.join(words)!r} in namespace {node!r}: {exit_words(popen.returncode)}"
            raise CommandError(message, words, popen.returncode, stdout, stderr, hint=_UNCHECKED)
        return subprocess.CompletedProcess(words, popen.returncode, stdout, stderr)

    def run_in_terminal(self, argv: Argv, node: str, netns: int, env: Mapping[str, str]) -> int:
        """See ``Namespace.run_in_terminal``."""
        _, popen = self._popen(
            argv, node, netns, env=env, cwd=None, start_new_session=False, process_group=terminal.process_group()
        )
        return terminal.attend(popen)

    def spawn(
        self,
        argv: Argv,
        node: str,
        netns: int,
        *,
        ready: _ready.Ready | None,
        timeout: float,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
    ) -> Process:
        """See ``Namespace.spawn``."""
        condition = None if ready is None else _ready.condition_of(ready)
        output = memory_file("output")
        try:
            words, popen = self._popen(
                argv, node, netns, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd
            )
        except BaseException:
            os.close(output)
            raise
        process = Process(words, node, netns, popen, output, self.start())
        with self._lock:
            self._processes.append(process)
        everywhere.publish(ResourceOpened, process)
        if condition is not None:
            try:
                process.wait_until(condition, timeout)
            except BaseException:
                process.kill()
                raise
        return process

    def start_helper(self, argv: Argv, place: str, netns: int, stdin: int) -> Process:
        """A process of ours beside those of the nodes; if it ends unasked, that is told like theirs.

        Args:
            argv: the program and its arguments.
            place: what messages name instead of a node.
            netns: descriptor of the network namespace it is in.
            stdin: descriptor that it gets as standard input.
        """
        output = memory_file("output")
        try:
            words, popen = self._popen(argv, place, netns, stdin=stdin, stdout=output, stderr=output, cwd="/")
        except BaseException:
            os.close(output)
            raise
        process = Process(words, place, netns, popen, output, self.start())
        with self._lock:
            self._processes.append(process)
        return process

    def end(self, node: str) -> list[Exception]:
        """Kill the background processes of one node, and return an error for each that had ended unasked."""
        with self._lock:
            if self._closed:
                return []
            mine = [process for process in self._processes if process.node == node]
            self._processes = [process for process in self._processes if process.node != node]
        errors: list[Exception] = [error for process in mine if (error := process.unexpected_end())]
        for process in mine:
            process.kill()
            process.release()
        return errors

    def forget(self, process: Process) -> None:
        """Strike off a process that has ended."""
        with self._lock:
            self._processes = [other for other in self._processes if other is not process]
        process.release()

    def pids(self, *inodes: int) -> list[int]:
        """All processes that were started here, daemons included, in the network namespaces of these inodes."""
        with self._lock:
            spawner = self._spawner
        if spawner is None or not spawner.usable:
            return []
        init = spawner.init_pid
        family = namespace_of(init, "pid")
        wanted = {f"net:[{inode}]" for inode in inodes}
        found = (
            n for n in processes.numbers() if namespace_of(n, "pid") == family and namespace_of(n, "net") in wanted
        )
        # Process 1 and its subshell have a session of their own. They may be inside too, and must hear when we die.
        return [n for n in found if (stat := processes.stat(n)) is not None and stat.session != init]

    def kill_all(self, node: str, *inodes: int) -> None:
        """Kill all processes of one node at once, daemons included; that is no error for any of them.

        Args:
            node: its name.
            inodes: of the network namespaces that are its own.
        """
        with self._lock:
            mine = [process for process in self._processes if process.node == node]
            self._processes = [process for process in self._processes if process.node != node]
        for process in mine:
            process.expect_end()
        while pids := self.pids(*inodes):  # until nothing forks any more
            for pid in pids:
                processes.send(pid, signal.SIGKILL)
            for process in mine:
                process.kill()
            os.sched_yield()
        for process in mine:
            process.kill()
            process.release()

    def close(self) -> list[Exception]:
        """Kill all processes, daemons included, and return an error for each that had ended unasked."""
        with self._lock:
            self._closed = True
            spawner, self._spawner = self._spawner, None
        errors: list[Exception] = [error for process in self._processes if (error := process.unexpected_end())]
        if spawner is not None:
            spawner.kill()
        for process in self._processes:
            process.release()
        if self._isolation is not None:
            self._isolation.close()
        return errors
