"""Process: a command that runs in the background of a namespace."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence, Set
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pytest_netns.checks import A_DAY, check_range, check_wait, is_whole
from pytest_netns.clock import monotonic, sleep
from pytest_netns.errors import ProcessDied, WaitTimeout, tail
from pytest_netns.kernel import procfs
from pytest_netns.process.child import DEATH, Child

if TYPE_CHECKING:
    from pytest_netns.ready import Condition, Ready

#: Seconds between two looks at a state that cannot announce itself. The death of the process is noticed at once.
_LOOK = 0.002

#: Bytes of output that are read.
_MOST = 1 << 28

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


def check_ending(may_end: bool, expect_exit: int | None) -> None:
    """Raise TypeError or ValueError unless ``spawn`` can be asked for such an end."""
    if not isinstance(may_end, bool):
        raise TypeError(f"may_end is {may_end!r}; expected True or False")
    if expect_exit is not None and not is_whole(expect_exit, -signal.NSIG, 255):
        raise ValueError(
            f"expect_exit is {expect_exit!r}; expected an exit status, 0 to 255, or -N for the end by signal N"
        )


def memory_file(name: str) -> int:
    """An anonymous file for output: nothing to clean up, no thread to drain it, and a daemon may keep it open."""
    return os.memfd_create(name, os.MFD_CLOEXEC)


def text_of(fd: int) -> str:
    """What is in such a file, from its beginning, up to a limit: its size is what a program makes it."""
    size = os.fstat(fd).st_size
    text = os.pread(fd, min(size, _MOST), 0).decode("utf-8", "replace")
    return text if size <= _MOST else f"{text}\n[{size - _MOST} more bytes]\n"


class Process:
    """A supervised background process, made by ``Namespace.spawn``.

    It runs until it is terminated or its namespace is closed, whichever is first. If it exits by itself and nobody
    called ``wait()``, closing the namespace raises ProcessDied with its output, unless it was spawned with
    ``may_end`` or ``expect_exit``. As a context manager it is terminated at the end of the block.

    Attributes:
        argv: the program and its arguments.
        node: name of the namespace that it was started in.

    Example:
        >>> with blue.spawn(["sleep", "60"]) as process:
        ...     print(process.pid, process.output)
    """

    def __init__(
        self,
        argv: list[str],
        node: str,
        netns: int,
        popen: Child,
        output: int,
        may_end: bool = False,
        expect_exit: int | None = None,
    ) -> None:
        self.argv = argv
        self._init = popen.init
        began = procfs.stat(popen.pid)
        self._began = 0 if began is None else int(began.started)
        self._owner = os.getpid()
        self.node = node
        self._netns = netns
        self._popen = popen
        self._output = output
        self._closed_output: str | None = None
        self._expected_to_end = False
        self._may_end = may_end
        self._expect_exit = expect_exit

    def __repr__(self) -> str:
        return f"<Process {shlex.join(self.argv)!r} in {self.node!r}, pid {self.pid}, {exit_words(self.returncode)}>"

    @property
    def pid(self) -> int:
        """Its process ID as the test sees it; the process itself sees another one (pid_namespaces(7))."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, the negative signal number if a signal ended it; None while it runs."""
        return self._popen.poll()

    @property
    def netns(self) -> int:
        """Descriptor of the network namespace it was started in."""
        return self._netns

    @property
    def output(self) -> str:
        """Its standard output and standard error so far, in the order of writing."""
        return text_of(self._output) if self._closed_output is None else self._closed_output

    def has_socket(self, inodes: Set[int]) -> bool:
        """Whether it, or a process that it has started, has one of these sockets open, daemons included.

        A process that may not be looked at (as root without CAP_SYS_PTRACE, one that has become another user) is taken
        for one that has.

        Args:
            inodes: of the sockets, as /proc/PID/fd shows them.

        Example:
            >>> process = blue.spawn(["sleep", "60"])
            >>> process.has_socket(set())
        """
        if not inodes:
            return False
        if inodes & (procfs.sockets_of(self.pid) or set()):  # mostly; and to look for all others takes a while
            return True
        found = (procfs.sockets_of(pid) for pid in procfs.tree(self.pid, self._began, self._init))
        return any(sockets is None or inodes & sockets for sockets in found)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends by itself and return its exit status, negative for a signal.

        Args:
            timeout: seconds to wait; None: no limit.

        Raises:
            ProcessDied: it was spawned with ``expect_exit``, and ended otherwise.
            WaitTimeout: it still runs after ``timeout`` seconds.

        Example:
            >>> process = blue.spawn(["true"])
            >>> process.wait(timeout=5)
        """
        self._expected_to_end = True
        check_wait("timeout", timeout)
        if not self._popen.await_end(timeout):
            self._expected_to_end = False
            raise WaitTimeout(f"{self!r} did not end within {timeout:g} s{tail('output', self.output)}")
        status = self._popen.wait()
        if self._expect_exit not in (None, status):
            raise self._other_end("ended")
        return status

    def terminate(self, timeout: float = 5.0) -> int:
        """Send SIGTERM, and SIGKILL after ``timeout`` seconds; returns its exit status.

        Example:
            >>> process = blue.spawn(["sleep", "60"])
            >>> process.terminate(timeout=2)
        """
        check_range("timeout", timeout, 0, A_DAY)
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        """Send SIGKILL; returns its exit status.

        Example:
            >>> process = blue.spawn(["sleep", "60"])
            >>> process.kill()
        """
        return self._end(signal.SIGKILL, DEATH)

    def send_signal(self, number: int) -> None:
        """Send it a signal. If the signal ends it, call ``wait()``; otherwise its end counts as unexpected.

        Args:
            number: e.g. ``signal.SIGHUP``.

        Example:
            >>> process = blue.spawn(["sleep", "60"])
            >>> process.send_signal(signal.SIGTERM)
            >>> process.wait()
        """
        self._popen.send_signal(number)

    def _end(self, number: signal.Signals, timeout: float | None) -> int:
        self._expected_to_end = True
        self._popen.send_signal(number)  # nothing happens if it has ended: Popen looks first
        if not self._popen.await_end(timeout):
            self._popen.kill()
            if not self._popen.await_end(DEATH):
                raise WaitTimeout(
                    f"{self!r} has not ended {DEATH:g} s after SIGKILL: it waits in the kernel for something (cat "
                    f"/proc/{self.pid}/stack)"
                )
        return self._popen.wait()

    def wait_until(self, ready: Ready, timeout: float = 10.0) -> None:
        """Wait for a condition, e.g. ``ready.output("converged")``.

        Args:
            ready: a TCP port that it will listen on, a condition of ``pytest_netns.ready``, or a callable.
            timeout: seconds to wait for that.

        Raises:
            ProcessDied: it ended before. (One that may end, and has ended well, has perhaps left a daemon: that is
                waited for, as long as anything runs that it has started.)
            WaitTimeout: the condition did not hold within ``timeout`` seconds.

        Example:
            >>> process = blue.spawn(["sh", "-c", "echo ready; sleep 60"])
            >>> process.wait_until(ready.output("ready"))
        """
        from pytest_netns.ready import condition_of, listening_ports

        condition = condition_of(ready)
        check_range("timeout", timeout, 0, A_DAY)
        deadline = monotonic() + timeout
        while True:
            began = monotonic()
            if condition.check(self):
                return
            now = monotonic()
            # What takes long to look at is not looked at all the time.
            pause = min(max(_LOOK, now - began), max(0.0, deadline - now))
            if self._popen.await_end(pause):
                going_on = self._has_left_a_daemon()
                if condition.check(self):  # it may have written the awaited words as its last ones
                    return
                if not going_on:
                    raise self._ended_before(condition)
                sleep(pause)
            if monotonic() >= deadline:
                obstacle = condition.obstacle(self)
                ports = sorted(listening_ports(self._netns, "tcp"))
                state = "it still runs" if self.returncode is None else "what it has started still runs"
                raise WaitTimeout(
                    f"{shlex.join(self.argv)!r} in namespace {self.node!r}: waited {timeout:g} s until "
                    f"{condition.description}; {state}{obstacle and ', but ' + obstacle}, TCP ports listening "
                    f"there: {ports or 'none'}{tail('output', self.output) or '; it wrote nothing'}"
                )

    def _has_left_a_daemon(self) -> bool:
        """Whether it was meant to end, did so well, and something runs that it has started."""
        if not self._may_end and self._expect_exit is None:
            return False
        if self.returncode != (self._expect_exit or 0):
            return False
        _, *others = procfs.tree(self.pid, self._began, self._init)
        found = [seen for pid in others if (seen := procfs.stat(pid)) is not None]
        # Process 1 is a shell whose own child may be younger; the two have a session to themselves.
        return any(not each.ending and each.session != self._init for each in found)

    def _ended_before(self, condition: Condition) -> ProcessDied:
        self._expected_to_end = True  # said here; not once more at teardown
        obstacle = condition.obstacle(self)
        return ProcessDied(
            f"{shlex.join(self.argv)!r} in namespace {self.node!r} ended ({exit_words(self.returncode)}) "
            f"before {condition.description}{obstacle and '; ' + obstacle}"
            f"{tail('output', self.output) or '; it wrote nothing'}"
        )

    def unexpected_end(self) -> ProcessDied | None:
        """The error to raise if it exited unexpectedly, or was to end by itself and has not."""
        if self._owner != os.getpid():  # in a fork of the process that started it, it is not ours
            return None
        status = self.returncode
        if self._expected_to_end or self._is_as_meant(status):
            return None
        self._expected_to_end = True
        if self._expect_exit is not None:
            if status is not None:
                return self._other_end("ended")
            return self._other_end(
                "was to end by itself", "; call wait(timeout=...) in the test, or allow it by may_end"
            )
        return ProcessDied(
            f"{shlex.join(self.argv)!r} in namespace {self.node!r} exited unexpectedly ({exit_words(status)}) "
            "before the test did; call wait() or spawn it with may_end=True if that is right, and keep a daemon in the "
            f"foreground{tail('output', self.output) or '; it wrote nothing'}"
        )

    def _is_as_meant(self, status: int | None) -> bool:
        """Whether this state is no error when its test ends."""
        if status is None:
            return self._expect_exit is None or self._may_end
        return self._may_end if self._expect_exit is None else status == self._expect_exit

    def _other_end(self, what: str, hint: str = "") -> ProcessDied:
        self._expected_to_end = True
        return ProcessDied(
            f"{shlex.join(self.argv)!r} in namespace {self.node!r} {what} ({exit_words(self.returncode)}), and "
            f"expected was {exit_words(self._expect_exit)}{hint}{tail('output', self.output) or '; it wrote nothing'}"
        )

    def expect_end(self) -> None:
        """Its end is expected: it is no error."""
        self._expected_to_end = True

    def release(self) -> None:
        """Let go of descriptors once it has ended; its output stays readable."""
        if self._closed_output is None:
            self._closed_output = text_of(self._output)
            os.close(self._output)
            self._popen.release()

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
