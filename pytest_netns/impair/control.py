"""Control of the relay: starting its process, and telling it what to do."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError, NetnsError, ProcessDied, WaitTimeout
from pytest_netns.kernel.interrupts import readable
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netns.throwaway import throwaway
from pytest_netns.kernel.standard_sockets import socket_pair
from pytest_netns.kernel.syscalls import open_namespace

if TYPE_CHECKING:
    from pytest_netns.process.process import Process
    from pytest_netns.process.supervisor import Supervisor

#: What stands where other processes have their node.
PLACE = "(relay of impairments)"
#: Seconds after which a silent relay is reported.
DEADLINE = 10.0

_SCRIPT = str(Path(__file__).with_name("relay.py"))


class RelayControl:
    """The one relay of a lab, and the only one who talks to it."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._lock = Lock("asking the relay of impairments")
        self._owner = os.getpid()
        self._serials = itertools.count(1)
        self._socket, theirs = socket_pair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        home = _empty_namespace()
        try:
            self.process: Process = supervisor.start_helper(
                [sys.executable, "-I", "-S", _SCRIPT], PLACE, home, stdin=theirs.fileno()
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.close(home)
            theirs.close()
        self._socket.settimeout(DEADLINE)

    @property
    def usable(self) -> bool:
        """False in a forked child of the process that made it, and once it is dead."""
        return self._owner == os.getpid() and self.process.returncode is None

    def check_alive(self) -> None:
        """Raise ProcessDied if it is dead and nobody has been told yet. Once told, another one can take its place."""
        if self._owner == os.getpid() and self.process.unexpected_end() is not None:
            raise self.death()

    def ask(
        self, do: str, number: int, descriptors: Sequence[int] = (), details: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """One command; returns what it answers.

        Raises:
            ProcessDied: the relay process has exited.
            WaitTimeout: it does not answer.
            NetnsError: it could not do it, or it belongs to a process of which this one is a forked child.
        """
        if self._owner != os.getpid():
            raise NetnsError(
                f"the relay of impairments is that of process {self._owner}, of which this one is a forked child; ask "
                "for impairments, and set them, there"
            )
        with self._lock:
            serial = next(self._serials)
            message = json.dumps({"serial": serial, "do": do, "number": number, **(details or {})}).encode()
            try:
                socket.send_fds(self._socket, [message], list(descriptors))
                found = self._answer(serial)
            except TimeoutError:
                raise WaitTimeout(f"the relay of impairments has not answered {do!r} in {DEADLINE:g} s") from None
            except (BrokenPipeError, ConnectionResetError):
                found = None
        if found is None:
            raise self.death()
        if "error" in found:
            raise NetnsError(f"the relay of impairments could not do {do!r}: {found['error']}")
        return found

    def _answer(self, serial: int) -> dict[str, object] | None:
        """The answer to a command, None if there is none any more. One that nobody has waited for may come before."""
        while True:
            if not readable(self._socket.fileno(), self._socket.gettimeout() or DEADLINE):
                raise TimeoutError
            if not (answer := self._socket.recv(1 << 16)):
                return None
            found: dict[str, object] = json.loads(answer)
            if found.pop("serial") == serial:
                return found

    def death(self) -> ProcessDied:
        """The error that tells of its end."""
        from pytest_netns.process.process import exit_words

        ended = exit_words(self.process.wait(timeout=DEADLINE))  # and so it is not told again when the lab is closed
        return ProcessDied(
            f"the relay that impairs links has exited unexpectedly ({ended}); the links it impaired carry no frames; "
            "heal() restores it, and so does impair(), by another relay\n"
            f"--- output:\n{self.process.output or '(none)'}"
        )

    def close(self) -> None:
        """Let it end."""
        self._socket.close()


def _empty_namespace() -> int:
    """A network namespace for the relay to be in. In any other one it would keep alive what is in there."""
    try:
        with throwaway():
            return open_namespace()
    except OSError as error:
        raise KernelError.of(error, "ip netns add", PLACE) from error
