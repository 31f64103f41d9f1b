"""Attempts: what a test's own code has tried to reach by sockets, as Python's audit events tell (PEP 578).

A hook for them cannot be taken away, so there is one, made when the first node is, and it is asleep between tests.
"""

from __future__ import annotations

import _socket  # what every socket is at last, also where socket.socket has been replaced
import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from weakref import WeakSet

if TYPE_CHECKING:
    from pytest_netns.explain.diagnosis import Explanation
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.nodes import Node

_SO_NETNS_COOKIE = 71
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
#: What a socket says when the network is at fault.
_ERRNOS = {
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
    errno.EPERM,
}
#: How libraries call what is no OSError: dnspython's Timeout and LifetimeTimeout, redis' TimeoutError, trio's.
_TIMEOUTS = ("Timeout", "TimeoutError", "TooSlowError")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody was to be reached.

    Attributes:
        kind: ``tcp``, ``udp``, or ``name`` of one that was to be resolved.
        host: address, or name.
        port: 0 if there is none.
        cookie: which network namespace the socket lives in (SO_NETNS_COOKIE); 0 where the kernel does not say.
        inode: of the namespace that the thread was in, for names.
    """

    kind: Literal["tcp", "udp", "name"]
    host: str
    port: int
    cookie: int
    inode: int = 0


#: The last ones, the newest at the end.
_attempts: deque[Attempt] = deque(maxlen=64)
#: Those that tests have made nodes in.
_labs: WeakSet[Lab] = WeakSet()
_state = {"hooked": False, "awake": False}


def begin() -> None:
    """A test begins: what the last one has tried is forgotten."""
    _attempts.clear()
    _state["awake"] = False


def listen(lab: Lab) -> None:
    """The running test has made a node: from now on its attempts are noted."""
    _state["awake"] = True
    _labs.add(lab)
    if not _state["hooked"]:
        _state["hooked"] = True
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _state["awake"] or not event.startswith(("socket.", "subprocess.")):
        return
    try:
        if event == "subprocess.Popen":
            _note_program()
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            _note(*arguments[:2])
        elif event == "socket.getaddrinfo":
            _note_name(*arguments[:2])
    except Exception:  # whatever it is, the call of the test itself must not fail of it
        pass


def _note_program() -> None:
    """A program is started by the test itself, perhaps in a node that its thread has entered."""
    inode = os.stat("/proc/thread-self/ns/net").st_ino
    for lab in list(_labs):
        for node in list(lab):
            if not node.closed and node.inode == inode and not lab.closed:
                from pytest_netns.plugin import programs

                programs.starting(node)
                return


def _note(sock: object, address: object) -> None:
    if not isinstance(sock, _socket.socket) or not isinstance(address, tuple) or sock.family not in _FAMILIES:
        return
    kind: Literal["tcp", "udp"] = "tcp" if sock.type & 0xF == socket.SOCK_STREAM else "udp"
    if sock.type & 0xF not in (socket.SOCK_STREAM, socket.SOCK_DGRAM) or _is_ours():
        return
    try:
        cookie = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
    except OSError:  # before Linux 5.14
        cookie = 0
    _attempts.append(Attempt(kind, str(address[0]), int(address[1]), cookie))


def _note_name(host: object, port: object) -> None:
    if isinstance(host, bytes | str) and not _is_ours():
        name = host.decode() if isinstance(host, bytes) else host
        inode = os.stat("/proc/thread-self/ns/net").st_ino
        _attempts.append(Attempt("name", name, port if isinstance(port, int) else 0, 0, inode))


def _is_ours() -> bool:
    """Whether a probe of ours calls: the frames above are this one, its caller and the hook."""
    return sys._getframe(3).f_code.co_filename.startswith(_PACKAGE)


def _errors(error: BaseException | None) -> Iterator[BaseException]:
    """What of an error, its causes and its parts says that nobody could be reached."""
    from pytest_netns.errors import NetnsError

    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        each = todo.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, NetnsError):
            continue
        of_network = isinstance(each, TimeoutError | ConnectionError | socket.gaierror)
        by_number = isinstance(each, OSError) and (of_network or each.errno in _ERRNOS)
        by_name = isinstance(each, Exception) and type(each).__name__.endswith(_TIMEOUTS)
        if by_number or by_name:
            yield each
        todo += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        todo += list(getattr(each, "exceptions", ()))


def explained(labs: list[Lab], error: BaseException | None) -> Explanation | None:
    """Why the newest attempt from a node of some labs failed; None if there is none, or it works now."""
    errors = list(_errors(error))
    if not errors or not _attempts:
        return None
    names_only = all(isinstance(each, socket.gaierror) for each in errors)
    by_cookie = {cookie: node for lab in labs for node in lab if not node.closed and (cookie := _cookie(node))}
    by_inode = {node.inode: node for lab in labs for node in lab if not node.closed}
    for attempt in reversed(_attempts):
        if names_only != (attempt.kind == "name"):
            continue
        node = by_inode.get(attempt.inode) if attempt.kind == "name" else by_cookie.get(attempt.cookie)
        if node is not None:
            from pytest_netns.explain.attempted import explain_attempt

            refused = any(isinstance(each, ConnectionRefusedError) for each in errors)
            return explain_attempt(node, attempt.kind, attempt.host, attempt.port, refused=refused)
    return None


def _cookie(node: Node) -> int:
    try:
        with node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
    except OSError:
        return 0
