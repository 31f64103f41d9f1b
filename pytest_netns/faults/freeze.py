"""Freeze: the processes of a host are stopped (SIGSTOP), while its kernel keeps answering."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from typing import ClassVar

from pytest_netns.clock import monotonic
from pytest_netns.errors import WaitTimeout
from pytest_netns.kernel.interrupts import checkpoint
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.procfs import send, stat
from pytest_netns.topology.fault import Fault, Faults
from pytest_netns.topology.network import network_of
from pytest_netns.topology.node import BaseNode

#: Seconds until everything must have stopped; a process in an uninterruptible sleep does not.
_DEADLINE = 5.0
_one_at_a_time = Lock("freezing a host")


class Freeze(Fault):
    """The stopped processes of a host. Created by ``Host.freeze``; ``Host.thaw`` undoes all of a host.

    They continue when the last freeze of the host is undone.

    Args:
        register: the faults of its lab.
        host: whose processes.

    Raises:
        WaitTimeout: a process did not stop.

    Example:
        >>> with blue.freeze():
        ...     red.tcp(blue, 80)
    """

    ends_with_crash: ClassVar[bool] = True

    def __init__(self, register: Faults, host: BaseNode) -> None:
        self._host = host
        with _one_at_a_time:
            stop_all(host)
            super().__init__(register, f"the processes of {host.name!r} are frozen", self._thaw, [host])

    def undo(self) -> None:
        """Thaw them, unless another freeze is in force; idempotent."""
        with _one_at_a_time:  # or two might leave it to each other
            super().undo()

    def _thaw(self) -> None:
        held: set[int] = set()  # hosts that share a namespace have the same processes
        for other in self._register:
            if isinstance(other, Freeze) and other is not self:
                held.update(other._host._pids())
        for pid in self._host._pids():
            if pid not in held:
                send(pid, signal.SIGCONT)

    def stops(self, way: Sequence[BaseNode], kind: str) -> BaseNode | None:
        """The host, if one of its processes should answer.

        Args:
            way: the nodes from who asks to who is asked.
            kind: the probe: the kernel answers a ``"ping"``, and a ``"tcp"`` connect for who listens.
        """
        return self._host if way and way[-1] is self._host and kind == "udp" else None


def freeze(host: BaseNode) -> Freeze:
    """Stop all its processes (SIGSTOP), daemons included. Its kernel still answers pings and SYNs.

    Processes of the test itself are not stopped, nor those started later; a second call stops those too.
    Hosts that share one namespace freeze together, and thaw when none of them is frozen any more.

    Returns:
        The fault: as a context manager it ends with its block. Each call gives a new one, and when the last one
        ends, the processes go on.

    Raises:
        WaitTimeout: a process did not stop within 5 seconds.
        TopologyError: it has crashed.

    Example:
        >>> with blue.freeze():
        ...     red.tcp(blue, 80)
    """
    network_of(host)._check_running(host, "freeze")
    return Freeze(network_of(host).faults, host)


def thaw(host: BaseNode) -> None:
    """Undo every ``freeze`` of this host: its processes continue (SIGCONT). Does nothing if none is frozen.

    Example:
        >>> blue.freeze()
        >>> blue.thaw()
    """
    for fault in reversed(list(network_of(host).faults)):
        if isinstance(fault, Freeze) and fault.nodes == (host,):
            fault.undo()


def stop_all(host: BaseNode) -> None:
    """Stop the processes of a host, and return when they have stopped. Raises WaitTimeout."""
    deadline = monotonic() + _DEADLINE
    stopped: set[int] = set()
    # A process may fork between the look and the signal, so the look is repeated until it finds nothing new.
    while waiting := [pid for pid in host._pids() if _runs(pid)]:
        for pid in waiting:
            if pid not in stopped:
                send(pid, signal.SIGSTOP)
                stopped.add(pid)
        if monotonic() > deadline:
            _let_go_on(stopped)
            shown = ", ".join(f"{pid} ({_command(pid)})" for pid in waiting)
            raise WaitTimeout(f"freezing {host.name!r}: processes did not stop within {_DEADLINE:g} s: {shown}")
        try:
            checkpoint()
        except BaseException:
            _let_go_on(stopped)
            raise
        os.sched_yield()


def _let_go_on(pids: Iterable[int]) -> None:
    for pid in pids:
        send(pid, signal.SIGCONT)


def _runs(pid: int) -> bool:
    found = stat(pid)
    return found is not None and found.runs


def _command(pid: int) -> str:
    found = stat(pid)
    return "" if found is None else found.command
