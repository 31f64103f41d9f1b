"""Supervisor: runs commands inside namespaces to their end, and supervises others in the background."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_netns.checks import A_DAY, check_path, check_range, check_text, check_wait
from pytest_netns.clock import monotonic
from pytest_netns.errors import CommandError, KernelError, NetnsError, ProcessDied, WaitTimeout, limit_hint, tail
from pytest_netns.events import ResourceOpened, everywhere
from pytest_netns.kernel import procfs as processes
from pytest_netns.kernel.interrupts import checkpoint, uninterrupted
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.procfs import namespace_of
from pytest_netns.kernel.real_threads import check_threads
from pytest_netns.kernel.search_path import find_in_sbin
from pytest_netns.kernel.syscalls import Holder
from pytest_netns.process import terminal
from pytest_netns.process.child import DEATH, Child
from pytest_netns.process.isolation import Isolation
from pytest_netns.process.process import Argv, Process, check_ending, exit_words, memory_file, text_of
from pytest_netns.process.spawner import InitDied, Spawner

if TYPE_CHECKING:
    from pytest_netns.ready import Ready

_UNCHECKED = "(if it may end so: run(..., check=False), and look at returncode)"


class Supervisor:
    """The processes of one lab, or of one namespace that stands alone, in a PID namespace made at the first of them.

    Args:
        whose: for messages, e.g. ``"lab 'red'"``.
        isolation: what its processes have of their own beside the network.
    """

    def __init__(self, whose: str, isolation: Isolation | None = None) -> None:
        self._whose = whose
        self._isolation = isolation
        self._lock = Lock(f"starting the first process of {whose}")
        self._spawner: Spawner | None = None
        self._processes: list[Process] = []
        self._closed = False
        self._unasked: list[Exception] = []  # what close() has to tell

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
        return Spawner(self._isolation.prepare, "pid" in self._isolation.kinds, self._isolation.held_by_init)

    def start(self) -> int:
        """Make the PID namespace now, which otherwise the first process does; its process 1 as seen from outside."""
        try:
            return self._started().init_pid
        except OSError as error:
            raise KernelError.of(error, "unshare --pid --fork", self._whose) from error

    def _popen(self, words: list[str], node: str, netns: Holder | int, **options: object) -> Child:
        check_threads()
        if not isinstance(netns, int):
            _ = netns.fd  # raises if it is closed
        if self._isolation is not None and options.get("cwd") is None:
            options["cwd"] = self._isolation.working_directory()
        options["executable"] = find_in_sbin(words[0], options.get("env") or os.environ)  # type: ignore[arg-type]
        spawner: Spawner | None = None
        try:
            spawner = self._started()
            return spawner.popen(words, netns, **{"start_new_session": True, **options})
        except InitDied as error:
            assert spawner is not None
            raise self._lost(spawner) from error
        except OSError as error:
            if error.filename is None or os.fspath(error.filename) not in (words[0], options["executable"]):
                raise _not_run(words, node, error) from error
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
            raise CommandError(message, words) from error

    def _lost(self, spawner: Spawner) -> ProcessDied:
        """The error to raise when process 1 has died. What is started afterwards is in a new PID namespace."""
        with self._lock:
            if self._spawner is spawner:
                self._spawner = None
        spawner.kill()
        with_it = [process for process in self._processes if process.unexpected_end() is not None]
        names = ", ".join(f"{shlex.join(process.argv)!r} in {process.node!r}" for process in with_it)
        return ProcessDied(
            f"process 1 (a shell of ours, pid {spawner.init_pid}) of the PID namespace of {self._whose} has ended "
            f"({exit_words(spawner.init.returncode)}), which was not by us, and the kernel has killed all that ran in "
            f"there: {names or 'no background process of yours'}. What is started from now on is in a new one; was it "
            "the OOM killer (dmesg), or a kill that was meant for others?"
        )

    def run(
        self,
        argv: Argv,
        node: str,
        netns: Holder | int,
        *,
        check: bool,
        timeout: float | None,
        input: str | None,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
    ) -> subprocess.CompletedProcess[str]:
        """See ``Namespace.run``."""
        check_wait("timeout", timeout)
        if input is not None:
            check_text("input", input)
        if cwd is not None:
            check_path("cwd", cwd)
        # What interrupts it is raised where the child is waited for, so that the child is ended then.
        with uninterrupted, ExitStack() as stack:
            words = _words(argv)
            stdin = subprocess.DEVNULL
            try:
                out = memory_file("stdout")
                stack.callback(os.close, out)
                err = memory_file("stderr")
                stack.callback(os.close, err)
                if input is not None:
                    stdin = memory_file("stdin")
                    stack.callback(os.close, stdin)
                    with open(stdin, "wb", closefd=False) as file:
                        file.write(input.encode())
                    os.lseek(stdin, 0, os.SEEK_SET)
            except OSError as error:
                raise _not_run(words, node, error) from error
            child = self._popen(words, node, netns, stdin=stdin, stdout=out, stderr=err, env=env, cwd=cwd)
            stack.callback(child.release)
            try:
                ended = child.await_end(timeout)
            except BaseException:
                _end_group(child)
                raise
            if not ended:
                _end_group(child)
                raise WaitTimeout(
                    f"{shlex.join(words)!r} in namespace {node!r} did not end within {timeout:g} s and was killed"
                    f"{tail('stdout', text_of(out))}{tail('stderr', text_of(err))}"
                )
            stdout, stderr = text_of(out), text_of(err)
            spawner = self._spawner
            if child.returncode == -signal.SIGKILL and spawner is not None and spawner.lost:
                raise self._lost(spawner)
        if check and child.returncode != 0:
            message = f"{shlex.join(words)!r} in namespace {node!r}: {exit_words(child.returncode)}"
            raise CommandError(message, words, child.returncode, stdout, stderr, hint=_UNCHECKED)
        return subprocess.CompletedProcess(words, child.returncode, stdout, stderr)

    def run_in_terminal(self, argv: Argv, node: str, netns: Holder | int, env: Mapping[str, str]) -> int:
        """See ``Namespace.run_in_terminal``."""
        child = self._popen(
            _words(argv),
            node,
            netns,
            env=env,
            cwd=None,
            start_new_session=False,
            process_group=terminal.process_group(),
        )
        try:
            return terminal.attend(child)
        finally:
            child.release()

    def spawn(
        self,
        argv: Argv,
        node: str,
        netns: Holder | int,
        *,
        ready: Ready | None,
        timeout: float,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        may_end: bool,
        expect_exit: int | None,
    ) -> Process:
        """See ``Namespace.spawn``."""
        check_range("timeout", timeout, 0, A_DAY)
        check_ending(may_end, expect_exit)
        if cwd is not None:
            check_path("cwd", cwd)
        condition = None
        if ready is not None:
            from pytest_netns.ready import condition_of

            condition = condition_of(ready)
        process: Process | None = None
        try:
            with uninterrupted:
                process = self._background(
                    argv, node, netns, may_end, expect_exit, stdin=subprocess.DEVNULL, env=env, cwd=cwd
                )
                everywhere.publish(ResourceOpened, process)
            if condition is not None:
                process.wait_until(condition, timeout)
        except BaseException:
            if process is not None:
                process.kill()
            raise
        return process

    def _background(
        self,
        argv: Argv,
        node: str,
        netns: Holder | int,
        may_end: bool = False,
        expect_exit: int | None = None,
        **options: object,
    ) -> Process:
        fd = netns if isinstance(netns, int) else netns.fd
        words = _words(argv)
        try:
            output = memory_file("output")
        except OSError as error:
            raise _not_run(words, node, error) from error
        try:
            child = self._popen(words, node, netns, stdout=output, stderr=output, **options)
        except BaseException:
            os.close(output)
            raise
        process = Process(words, node, fd, child, output, may_end, expect_exit)
        with self._lock:
            if not self._closed:
                self._processes.append(process)
                return process
        child.await_end(DEATH)
        process.release()
        raise NetnsError(f"{shlex.join(words)!r} in namespace {node!r}: {self._whose} was closed meanwhile")

    def start_helper(self, argv: Argv, place: str, netns: int, stdin: int) -> Process:
        """A process of ours beside those of the nodes; if it ends unasked, that is told like theirs.

        Args:
            argv: the program and its arguments.
            place: what messages name instead of a node.
            netns: descriptor of the network namespace it is in.
            stdin: descriptor that it gets as standard input.
        """
        return self._background(argv, place, netns, stdin=stdin, cwd="/")

    def end(self, node: str) -> list[Exception]:
        """Kill the background processes of one node, and return an error for each that had exited unexpectedly."""
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
        deadline = monotonic() + DEATH
        while pids := self.pids(*inodes):  # until nothing forks any more
            if monotonic() > deadline:
                raise WaitTimeout(f"{node!r}: processes {pids} have not ended {DEATH:g} s after SIGKILL")
            for pid in pids:
                processes.send(pid, signal.SIGKILL)
            for process in mine:
                process.kill()
            checkpoint()
            os.sched_yield()
        for process in mine:
            process.kill()
            process.release()

    def close(self) -> list[Exception]:
        """Kill all processes, daemons included, and return an error for each that had exited unexpectedly.

        Where an exception has interrupted it, it may be called again, and goes on.
        """
        with self._lock:
            self._closed = True
            spawner = self._spawner
        if spawner is not None and spawner.lost:
            self._unasked.append(self._lost(spawner))
        for process in self._processes:
            if (error := process.unexpected_end()) is not None:
                self._unasked.append(error)
            process.expect_end()
        if spawner is not None:
            try:
                spawner.kill()
            except WaitTimeout as stuck:
                self._unasked.append(stuck)
        self._spawner = None
        for process in self._processes:
            process.release()
        if self._isolation is not None:
            self._isolation.close()
        errors, self._unasked = self._unasked, []
        return errors


def _words(argv: Argv) -> list[str]:
    if isinstance(argv, str | bytes) or not isinstance(argv, Sequence) or not argv:
        raise TypeError(f"argv is {argv!r}; expected a list of words, e.g. ['ip', 'route']")
    for word in argv:
        if not isinstance(word, str | os.PathLike):
            raise TypeError(f"argv has {word!r} in it; expected words of text, or paths")
    return [os.fspath(word) for word in argv]


def _not_run(words: list[str], node: str, error: OSError) -> CommandError:
    return CommandError(f"cannot run {words[0]!r} in namespace {node!r}: {error}{limit_hint(error)}", words)


def _end_group(child: Child) -> None:
    """Kill a child, which leads a process group, and those of its own children that are still in it."""
    if child.returncode is not None:
        return
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it is somebody else by now (su): the lab's end is its own too
        return
    child.await_end(DEATH)
