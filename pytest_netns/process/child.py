"""Child: a process of ours whose end is awaited without polling (pidfd_open(2))."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence

from pytest_netns.clock import monotonic
from pytest_netns.kernel.interrupts import readable, uninterrupted

#: Seconds in which a process ends that was sent SIGKILL, unless it waits in the kernel for something.
DEATH = 30.0
#: Seconds between two looks whether somebody else has reaped it.
_SLICE = 0.5


class Child(subprocess.Popen[bytes]):
    """As ``subprocess.Popen``, which it is made like. Whoever has it calls ``release()`` when it has ended."""

    # Python runs signal handlers in destructors too, where the exception that they raise is lost. This one does nothing
    # (the spawner reaps what has lost its owner), and as it is no Python function nothing can happen in it.
    __del__: Callable[[], None] = staticmethod(int)  # type: ignore[assignment]

    def __init__(self, argv: Sequence[str | os.PathLike[str]], **options: object) -> None:
        self._pidfd = -1
        self.init: int = 0  # process 1 of its PID namespace, as seen from outside
        super().__init__(argv, **options)  # type: ignore[call-overload]
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self.kill()
            super().wait()
            raise

    @property
    def released(self) -> bool:
        """Whether ``release()`` was called."""
        return self._pidfd < 0

    def await_end(self, timeout: float | None) -> bool:
        """True if it has ended, and is reaped then; waits up to ``timeout`` seconds, None for ever."""
        deadline = None if timeout is None else monotonic() + timeout
        while self.returncode is None and (fd := self._pidfd) >= 0:
            left = _SLICE if deadline is None else max(0.0, deadline - monotonic())
            if readable(fd, min(left, _SLICE)):
                with uninterrupted:  # between its being reaped and the note of how it ended
                    self.wait()
            elif not left:
                return False
        return True

    def release(self) -> None:
        """Let go of the descriptor; allowed more than once."""
        with uninterrupted:
            fd, self._pidfd = self._pidfd, -1
            if fd >= 0:
                os.close(fd)
