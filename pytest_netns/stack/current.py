"""Inside: which namespaces each thread of the test is in, by ``with`` blocks, and how it comes home."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_netns.errors import NetnsError
from pytest_netns.kernel import syscalls
from pytest_netns.kernel.syscalls import entered, open_namespace, setns

if TYPE_CHECKING:
    from pytest_netns.stack.namespace import Namespace


class _Inside(threading.local):
    """Where each thread came from, for every ``with ns:`` block it is in."""

    def __init__(self) -> None:
        self.stack: list[tuple[Namespace, int]] = []


_inside = _Inside()


def enter(namespace: Namespace) -> None:
    """Move the calling thread inside, until ``leave``. Raises NetnsError if it is closed, or has crashed."""
    previous = open_namespace()
    try:
        namespace.before_entry()
        syscalls.enter(namespace)
    except BaseException:
        os.close(previous)
        raise
    _inside.stack.append((namespace, previous))


def leave(namespace: Namespace) -> None:
    """Move the calling thread back to where it was before. Raises NetnsError if it has entered another one since."""
    if not _inside.stack or _inside.stack[-1][0] is not namespace:
        innermost = _inside.stack[-1][0].name if _inside.stack else "none"
        raise NetnsError(
            f"leaving namespace {namespace.name!r}, but the innermost one of this thread is {innermost!r}; "
            "a 'with' block must not be held across an await or a yield"
        )
    _, previous = _inside.stack.pop()
    try:
        setns(previous)
    finally:
        os.close(previous)


@contextmanager
def at_home() -> Iterator[None]:
    """The calling thread is where it was before all its ``with`` blocks, for the duration of this one."""
    if not _inside.stack:
        yield
        return
    with entered(_inside.stack[0][1]):
        yield


def leave_all() -> list[str]:
    """Bring the calling thread back to where it was before all ``with`` blocks; names those it was still in."""
    left = []
    while _inside.stack:
        namespace, previous = _inside.stack.pop()
        left.append(namespace.name)
        try:
            setns(previous)
        finally:
            os.close(previous)
    return left


def leave_down_to(namespace: Namespace) -> list[str]:
    """Leave a namespace that the calling thread has entered, and all that it entered after; names those."""
    left: list[str] = []
    while any(each is namespace for each, _ in _inside.stack):
        innermost = _inside.stack[-1][0]
        if innermost is not namespace:
            left.append(innermost.name)
        leave(innermost)
    return left
