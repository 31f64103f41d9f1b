"""Programs: what commands and daemons of a test have tried to reach, and did not, as the kernel tells."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pytest_netns.stack.handle import Handle
from pytest_netns.stack.unanswered import ConnectionLog, Unanswered
from pytest_netns.topology.failure import callers
from pytest_netns.topology.network import names_of, network_of
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.explain.diagnosis import Explanation
    from pytest_netns.lab.lab import Lab

#: How many connections that did not come about are asked again, the newest first.
_ASKED = 3


@dataclass(frozen=True, slots=True)
class _Start:
    """A program was started.

    Attributes:
        inode: of the namespace where.
        called: from where, the innermost first.
    """

    inode: int
    called: tuple[tuple[CodeType, int], ...]


#: The last ones, the newest at the end.
_starts: deque[_Start] = deque(maxlen=64)
_logs: WeakKeyDictionary[BaseNode, ConnectionLog] = WeakKeyDictionary()


def begin() -> None:
    """A test begins: what programs tried in the last one is forgotten."""
    _starts.clear()
    for node, log in list(_logs.items()):
        if log.is_open:
            log.forget()
        else:
            del _logs[node]


def starting(namespace: object) -> None:
    """A program is about to start: from now on the connections of its node are noted."""
    if not isinstance(namespace, Handle) or not isinstance(namespace, BaseNode):
        return  # outside of labs there is nothing to explain by
    called = callers()
    if not called:
        return
    _starts.append(_Start(namespace.inode, called))
    log = _logs.get(namespace)
    if log is None or not log.is_open:
        try:
            _logs[namespace] = ConnectionLog(namespace)
        except OSError:  # whatever the kernel lacks, the program of the test must not fail of it
            _logs.pop(namespace, None)


def explained(labs: list[Lab], error: BaseException) -> Explanation | None:
    """Why the newest connection of a program failed, or its datagrams were not answered.

    None if there is none, if the failure is about something else, or if it works now.
    """
    from pytest_netns.explain.attempted import explain_attempt
    from pytest_netns.plugin import relevance

    inodes = {start.inode for start in _starts if relevance.is_about(start.called, error.__traceback__)}
    if not inodes:
        return None
    for node in (node for lab in labs for node in lab if not node.closed and node.inode in inodes):
        if (log := _logs.get(node)) is None:
            continue
        known = names_of(network_of(node))
        for each in _newest(log.read()):
            # Programs connect UDP sockets to somebody far away only to learn which address of theirs would be used.
            if each.kind == "udp" and each.address not in known:
                continue
            found = explain_attempt(node, each.kind, str(each.address), each.port, refused=each.refused)
            if found is not None and found.cause is not None:
                found.observed = f"a program in {found.observed}"
                return found
    return None


def _newest(several: list[Unanswered]) -> list[Unanswered]:
    """The newest first; UDP sockets last, as getaddrinfo(3) connects some only to see which address would be used."""
    newest = sorted(dict.fromkeys(reversed(several)), key=lambda each: each.kind == "udp")
    return newest[:_ASKED]
