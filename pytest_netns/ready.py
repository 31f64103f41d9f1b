"""When is a background process ready? Conditions for ``Namespace.spawn(..., ready=...)``.

Each observes a state from outside. None opens a connection, so the server under test sees no stray client.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Protocol

from pytest_netns.checks import check_path, check_port
from pytest_netns.kernel import procfs
from pytest_netns.kernel.netlink.sock_diag import WAITING, Transport, listeners, listening_sockets


class Candidate(Protocol):
    """What a condition may look at: a starting process."""

    @property
    def netns(self) -> int:
        """Descriptor of the network namespace it lives in."""

    @property
    def output(self) -> str:
        """All it has written so far."""

    def has_socket(self, inodes: Set[int]) -> bool:
        """Whether it, or a process that it has started, has one of these sockets open.

        Args:
            inodes: of the sockets, as /proc/PID/fd shows them.
        """


@dataclass(frozen=True, slots=True)
class Condition:
    """A state to wait for: how to check it, and how to describe it.

    Attributes:
        description: completes "ready when ..." in messages.
        check: called with the process until it returns something true.
        obstacle: called with the process when that was in vain; says what is in the way, or nothing.

    Example:
        >>> condition = ready.Condition("a file is there", lambda process: Path("/proc/self").exists())
        >>> blue.spawn(["sleep", "60"], ready=condition)
    """

    description: str
    check: Callable[[Candidate], object]
    obstacle: Callable[[Candidate], str] = lambda _: ""

    def __repr__(self) -> str:
        return f"ready when {self.description}"


def listening_ports(netns: int, protocol: Transport) -> set[int]:
    """Ports on which sockets of a namespace wait for peers, over IPv4 and IPv6.

    Args:
        netns: descriptor of the namespace.
        protocol: ``"tcp"`` or ``"udp"``.
    """
    return {listener.port for listener in listeners(netns, protocol)}


def listening(port: int, protocol: Transport = "tcp") -> Condition:
    """Ready when the process, or a child of it, listens on ``port`` (1 to 65535), on any IPv4 or IPv6 address.

    Sockets of other processes on this port do not count.

    Raises:
        ValueError: the port is out of range, or the protocol is neither ``"tcp"`` nor ``"udp"``.

    Example:
        >>> server = [sys.executable, "-m", "http.server", "8080"]
        >>> blue.spawn(server, ready=ready.listening(8080, "tcp"))
    """
    if not isinstance(protocol, str) or protocol not in WAITING:
        raise ValueError(f"protocol is {protocol!r}; it can be 'tcp' or 'udp'")
    check_port(port)

    def taken(process: Candidate) -> str:
        inodes = listening_sockets(process.netns, protocol, port)
        return f"{protocol} port {port} is taken by {procfs.holder_of(inodes)}" if inodes else ""

    return Condition(
        f"something listens on {protocol} port {port}",
        lambda process: process.has_socket(listening_sockets(process.netns, protocol, port)),
        taken,
    )


def output(pattern: str | re.Pattern[str]) -> Condition:
    """Ready when the regular expression ``pattern`` matches in the output of the process (``re.MULTILINE``).

    Example:
        >>> blue.spawn(["sh", "-c", "echo ready; sleep 60"], ready=ready.output(r"^ready$"))
    """
    if not isinstance(getattr(pattern, "pattern", pattern), str):
        raise TypeError(f"pattern is {pattern!r}; expected a regular expression for text")
    compiled = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
    return Condition(
        f"the output matches {compiled.pattern!r}", lambda process: compiled.search(process.output) is not None
    )


def path(name: str | os.PathLike[str]) -> Condition:
    """Ready when a file, directory or socket named ``name`` exists.

    Example:
        >>> blue.spawn(["sleep", "60"], ready=ready.path("/proc/self"))
    """
    check_path("name", name)
    return Condition(f"{os.fspath(name)!r} exists", lambda _: os.path.lexists(name))


Ready = int | Condition | Callable[[], object]


def condition_of(value: Ready) -> Condition:
    """What ``ready=`` accepts as a condition.

    Args:
        value: a TCP port, a condition of this module, or a callable without arguments.

    Raises:
        TypeError: it is something else.
        ValueError: it is a port out of range.
    """
    if isinstance(value, Condition):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return listening(value)
    if callable(value):
        return Condition(f"{getattr(value, '__qualname__', repr(value))}() is true", lambda _: value())
    raise TypeError(f"ready={value!r}: expected a TCP port, a condition such as ready.output(...), or a callable")
