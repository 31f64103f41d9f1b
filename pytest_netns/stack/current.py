"""Inside: which namespaces each thread of the test is in, by ``with`` blocks, and how it comes home."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_netns.errors import NetnsError
from pytest_netns.kernel import syscalls
from pytest_netns.kernel.syscalls import entered, open_namespace, setns
from pytest_netns.stack import scapy_state

if TYPE_CHECKING:
    import asyncio

    from pytest_netns.stack.handle import Handle


class _Inside(threading.local):
    """Where each thread came from, for every ``with ns:`` block it is in."""

    def __init__(self) -> None:
        self.stack: list[tuple[Handle, int, _Awaited | None]] = []


class _Awaited:
    """Tells whether an event loop got its turn during a ``with`` block; then takes the thread back at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, previous: int) -> None:
        self.happened = False
        self._previous = previous
        self._handle = loop.call_soon(self._met)

    def _met(self) -> None:
        self.happened = True
        setns(self._previous)  # so that not all other tasks run inside

    def done(self) -> bool:
        """The block has ended: whether an await stood in it."""
        self._handle.cancel()
        return self.happened


def _watch(previous: int) -> _Awaited | None:
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    return None if loop is None else _Awaited(loop, previous)


_inside = _Inside()


def enter(namespace: Handle) -> None:
    """Move the calling thread inside, until ``leave``. Raises NetnsError if it is closed, or has crashed."""
    previous = open_namespace()
    try:
        namespace.before_entry()
        syscalls.enter(namespace)
    except BaseException:
        os.close(previous)
        raise
    _inside.stack.append((namespace, previous, _watch(previous)))
    scapy_state.entered(os.fstat(previous).st_ino, namespace.inode)


def leave(namespace: Handle, error: BaseException | None = None) -> None:
    """Move the calling thread back to where it was before.

    Args:
        namespace: that it leaves.
        error: what ends the block; what is wrong with the block is then told by a note of it.

    Raises:
        NetnsError: it has entered another one since, or an event loop got its turn meanwhile.
    """
    if not _inside.stack or _inside.stack[-1][0] is not namespace:
        innermost = _inside.stack[-1][0].name if _inside.stack else "none"
        raise NetnsError(
            f"leaving namespace {namespace.name!r}, but the innermost one of this thread is {innermost!r}; "
            "a 'with' block must not be held across an await or a yield"
        )
    _, previous, awaited = _inside.stack.pop()
    try:
        setns(previous)
    finally:
        os.close(previous)
    scapy_state.left(namespace.inode)
    if awaited is None or not awaited.done():
        return
    trouble = (
        f"an await stood in the block 'with {namespace.name}:'; a namespace is that of the thread, so other tasks of "
        "this event loop could run inside; open sockets in the block and await outside of it, or "
        "use open_connection(), start_server() or socket() of the namespace"
    )
    if error is None:
        raise NetnsError(trouble)
    error.add_note(trouble)


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
        namespace, previous, awaited = _inside.stack.pop()
        if awaited is not None:
            awaited.done()
        left.append(namespace.name)
        try:
            setns(previous)
        finally:
            os.close(previous)
        scapy_state.left(namespace.inode)
    return left


def leave_down_to(namespace: Handle) -> list[str]:
    """Leave a namespace that the calling thread has entered, and all that it entered after; names those."""
    left: list[str] = []
    while any(each is namespace for each, *_ in _inside.stack):
        innermost = _inside.stack[-1][0]
        if innermost is not namespace:
            left.append(innermost.name)
        leave(innermost)
    return left
