"""Commands inside a namespace: running one to its end, and supervising one in the background."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from pytest_netns import ready as _ready
from pytest_netns import tally, terminal
from pytest_netns.errors import CommandError, NetnsError, ProcessDied, WaitTimeout, tail
from pytest_netns.kernel.isolation import Isolation
from pytest_netns.kernel.spawner import Spawner

#: Seconds between two looks at a state that cannot announce itself. The death of the process is noticed at once.
_LOOK = 0.002

Argv = Sequence[str | os.PathLike[str]]


def exit_words(returncode: int | None) -> str:
    """An exit status in words: ``exit status 2``, ``killed by SIGSEGV``."""
    if returncode is None:
        return "still running"
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _memory_file(name: str) -> int:
    """An anonymous file for output: nothing to clean up, no thread to drain it, and a daemon may keep it open."""
    return os.memfd_create(name, os.MFD_CLOEXEC)


def _text(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).decode("utf-8", "replace")


def _link(pid: int, namespace: str) -> str | None:
    """Which namespace of a kind a process is in; None if it is gone, or dead."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{namespace}")
    except OSError:
        return None


class _Exit:
    """Waits for the end of a child without polling (pidfd_open(2))."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._fd = os.pidfd_open(popen.pid)

    def wait(self, timeout: float | None) -> bool:
        """True if the child has ended; waits up to ``timeout`` seconds, None for ever."""
        if self._popen.returncode is None:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            if not poll.poll(None if timeout is None else max(0.0, timeout) * 1000):
                return False
            self._popen.wait()
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Process:
    """A supervised background process, made by ``Namespace.spawn``.

    It lives until it is told to end or its namespace closes, whichever is first. If it ends by itself, and nobody
    called ``wait()``, closing the namespace raises ProcessDied with its output. As a context manager it is terminated
    at the end of the block.

    Attributes:
        argv: the program and its arguments.
        node: name of the namespace that it was started in.
    """

    def __init__(self, argv: list[str], node: str, netns: int, popen: subprocess.Popen[bytes], output: int) -> None:
        self.argv = argv
        self._owner = os.getpid()
        self.node = node
        self._netns = netns
        self._popen = popen
        self._output = output
        self._exit = _Exit(popen)
        self._closed_output: str | None = None
        self._expected_to_end = False

    def __repr__(self) -> str:
        return f"<Process {shlex.join(self.argv)!r} in {self.node!r}, pid {self.pid}, {exit_words(self.returncode)}>"

    @property
    def pid(self) -> int:
        """Its process ID as the test sees it; the process itself sees another one (pid_namespaces(7))."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    @property
    def netns(self) -> int:
        """Descriptor of the network namespace it was started in."""
        return self._netns

    @property
    def output(self) -> str:
        """All it has written to standard output and standard error so far, in the order of writing."""
        return _text(self._output) if self._closed_output is None else self._closed_output

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends by itself and return its exit status, negative for a signal.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            WaitTimeout: it still runs after ``timeout`` seconds.
        """
        self._expected_to_end = True
        if not self._exit.wait(timeout):
            self._expected_to_end = False
            raise WaitTimeout(f"{self!r} did not end within {timeout:g} s{tail('output', self.output)}")
        return self._popen.wait()

    def terminate(self, timeout: float = 5.0) -> int:
        """Ask it to end (SIGTERM), then insist (SIGKILL) after ``timeout`` seconds; returns its exit status."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        """End it at once (SIGKILL); returns its exit status."""
        return self._end(signal.SIGKILL, None)

    def send_signal(self, number: int) -> None:
        """Send it a signal. One that ends it counts as unasked unless ``wait()`` follows.

        Args:
            number: e.g. ``signal.SIGHUP``.
        """
        self._popen.send_signal(number)

    def _end(self, number: signal.Signals, timeout: float | None) -> int:
        self._expected_to_end = True
        self._popen.send_signal(number)  # nothing happens if it has ended: Popen looks first
        if not self._exit.wait(timeout):
            self._popen.kill()
            self._exit.wait(None)
        return self._popen.wait()

    def wait_until(self, ready: _ready.Ready, timeout: float = 10.0) -> None:
        """Wait for a condition, e.g. ``ready.output("converged")``.

        Args:
            ready: a TCP port that it will listen on, a condition of ``pytest_netns.ready``, or a callable.
            timeout: seconds to wait for that.

        Raises:
            ProcessDied: it ended before.
            WaitTimeout: the condition did not hold within ``timeout`` seconds.
        """
        condition = _ready.condition_of(ready)
        deadline = time.monotonic() + timeout
        while True:
            if condition.check(self):
                return
            if self._exit.wait(min(_LOOK, max(0.0, deadline - time.monotonic()))):
                if condition.check(self):  # it may have written the awaited words as its last ones
                    return
                self._expected_to_end = True  # said here; not once more at teardown
                raise ProcessDied(
                    f"{shlex.join(self.argv)!r} in namespace {self.node!r} ended ({exit_words(self.returncode)}) "
                    f"before {condition.description}{tail('output', self.output) or '; it wrote nothing'}"
                )
            if time.monotonic() >= deadline:
                ports = sorted(_ready.listening_ports(self._netns, "tcp"))
                raise WaitTimeout(
                    f"{shlex.join(self.argv)!r} in namespace {self.node!r}: waited {timeout:g} s until "
                    f"{condition.description}; it still runs, TCP ports listening there: {ports or 'none'}"
                    f"{tail('output', self.output) or '; it wrote nothing'}"
                )

    def unexpected_end(self) -> ProcessDied | None:
        """The error to raise if it ended although nobody asked it to."""
        if self._owner != os.getpid():  # in a fork of the process that started it, it is not ours
            return None
        if self._expected_to_end or self.returncode is None:
            return None
        self._expected_to_end = True
        return ProcessDied(
            f"{shlex.join(self.argv)!r} in namespace {self.node!r} ended unasked ({exit_words(self.returncode)}) "
            "before the test did; call wait() if that is right, and keep a daemon in the foreground"
            f"{tail('output', self.output) or '; it wrote nothing'}"
        )

    def expect_end(self) -> None:
        """Its end is asked for: it is no error."""
        self._expected_to_end = True

    def release(self) -> None:
        """Let go of descriptors once it has ended; its output stays readable."""
        if self._closed_output is None:
            self._closed_output = _text(self._output)
            os.close(self._output)
            self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        died = self.unexpected_end()
        self.terminate()
        if died is not None:
            if error is None:
                raise died
            error.add_note(str(died))


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
        try:
            return words, self._started().popen(words, netns, **{"start_new_session": True, **options})
        except OSError as error:
            if error.filename is not None and os.fspath(error.filename) == words[0]:
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
            out, err = _memory_file("stdout"), _memory_file("stderr")
            stack.callback(os.close, out)
            stack.callback(os.close, err)
            stdin = subprocess.DEVNULL
            if input is not None:
                stdin = _memory_file("stdin")
                stack.callback(os.close, stdin)
                with open(stdin, "wb", closefd=False) as file:
                    file.write(input.encode())
                os.lseek(stdin, 0, os.SEEK_SET)
            words, popen = self._popen(argv, node, netns, stdin=stdin, stdout=out, stderr=err, env=env, cwd=cwd)
            if timeout is None:
                popen.wait()
            else:
                exit_ = _Exit(popen)
                stack.callback(exit_.close)
                if not exit_.wait(timeout):
                    os.killpg(popen.pid, signal.SIGKILL)
                    popen.wait()
                    raise WaitTimeout(
                        f"{shlex.join(words)!r} in namespace {node!r} did not end within {timeout:g} s and was killed"
                        f"{tail('stdout', _text(out))}{tail('stderr', _text(err))}"
                    )
            stdout, stderr = _text(out), _text(err)
        if check and popen.returncode != 0:
            message = f"{shlex.join(words)!r} in namespace {node!r}: {exit_words(popen.returncode)}"
            raise CommandError(message, words, popen.returncode, stdout, stderr)
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
        output = _memory_file("output")
        try:
            words, popen = self._popen(
                argv, node, netns, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd
            )
        except BaseException:
            os.close(output)
            raise
        process = Process(words, node, netns, popen, output)
        with self._lock:
            self._processes.append(process)
        tally.note(process)
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
        output = _memory_file("output")
        try:
            words, popen = self._popen(argv, place, netns, stdin=stdin, stdout=output, stderr=output, cwd="/")
        except BaseException:
            os.close(output)
            raise
        process = Process(words, place, netns, popen, output)
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

    def pids(self, inode: int) -> list[int]:
        """All processes in a network namespace that were started here, daemons included; ``inode`` is its number."""
        with self._lock:
            spawner = self._spawner
        if spawner is None or not spawner.usable:
            return []
        init = spawner.init_pid
        family = _link(init, "pid")
        wanted = f"net:[{inode}]"
        numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [n for n in numbers if n != init and _link(n, "pid") == family and _link(n, "net") == wanted]

    def kill_all(self, node: str, inode: int) -> None:
        """Kill all processes of one node at once, daemons included; that is no error for any of them."""
        with self._lock:
            mine = [process for process in self._processes if process.node == node]
            self._processes = [process for process in self._processes if process.node != node]
        for process in mine:
            process.expect_end()
        while pids := self.pids(inode):  # until nothing forks any more
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has just ended
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
