"""Inside: which namespaces each thread of the test is in, by ``with`` blocks, and how it comes home."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from pytest_netns.errors import KernelError, NetnsError, TopologyError
from pytest_netns.kernel import syscalls
from pytest_netns.kernel.high_descriptors import lift
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.netns.lost import lost, return_without, shows
from pytest_netns.kernel.real_threads import check_threads
from pytest_netns.kernel.syscalls import THREAD_NETNS, open_namespace, return_to, setns, visiting
from pytest_netns.stack import scapy_state
from pytest_netns.stack.await_watch import AwaitWatch, watch_awaits
from pytest_netns.stack.handle import Handle, open_namespaces


@dataclass(frozen=True, slots=True)
class _Block:
    """A ``with ns:`` block that a thread is in, and where it came from."""

    namespace: Handle
    previous: int
    inode: int
    watch: AwaitWatch | None


class _Inside(threading.local):
    """The ``with ns:`` blocks that each thread is in."""

    def __init__(self) -> None:
        self.stack: list[_Block] = []
        #: Left by whoever closed them, and how many blocks were around each.
        self.closed: list[tuple[Handle, int]] = []

    def forget_closed(self, depth: int) -> None:
        """A block begins, or ends, that has so many around it: no block inside of it goes on."""
        self.closed = [each for each in self.closed if each[1] < depth]


_inside = _Inside()


def enter(namespace: Handle, *, apart: bool = False) -> None:
    """Move the calling thread inside, until ``leave``. Raises NetnsError if it is closed, or has crashed.

    Args:
        namespace: where to.
        apart: have the descriptor of the way back far above those that a test opens.
    """
    check_threads()
    depth = len(_inside.stack)
    try:
        with uninterrupted:
            try:
                previous = lift(open_namespace()) if apart else open_namespace()
            except OSError as error:
                raise KernelError.of(error, f"open {THREAD_NETNS}", namespace.name) from error
            try:
                inode = os.fstat(previous).st_ino
                namespace._before_entry()
                syscalls.enter(namespace)
            except BaseException:
                return_to(previous)
                raise
            _inside.forget_closed(depth)
            _inside.stack.append(_Block(namespace, previous, inode, watch_awaits(_await_met)))
            scapy_state.entered(inode, namespace.inode, came_from())
    except BaseException as error:  # of the block, or what has waited for its end
        if len(_inside.stack) > depth:
            watch = _go_back().watch
            if watch is not None:
                watch.has_raised(error)
        raise


def came_from() -> set[int]:
    """Numbers of the namespaces that the calling thread goes back to."""
    return {block.inode for block in _inside.stack}


def _await_met() -> None:
    """An event loop got its turn: leave the blocks that began in it, before any other task runs."""
    blocks = [block for block in _inside.stack if block.watch is not None and not block.watch.met]
    if blocks:
        setns(blocks[0].previous)
    for block in blocks:
        assert block.watch is not None
        block.watch.met = True
        block.watch.cancel_task()


def _go_back() -> _Block:
    """Leave the innermost namespace."""
    with uninterrupted:
        block = _inside.stack.pop()
        here = True
        is_lost = not shows(block.previous, block.inode)
        if is_lost:
            here = return_without(block.inode)
        else:
            return_to(block.previous)
        scapy_state.left(block.namespace.inode, came_from() | {block.inode})
        if block.watch is not None:
            block.watch.stop()
        if is_lost:
            where = "" if here else ", and no other way back is known: this thread stays inside"
            way = f"the way back out of namespace {block.namespace.name!r}{where}"
            raise NetnsError(lost(block.previous, way))
        return block


def leave(namespace: Handle, error: BaseException | None = None) -> None:
    """Move the calling thread back to where it was before.

    Args:
        namespace: that it leaves.
        error: what ends the block; what is wrong with the block is then told by a note of it, and namespaces that were
            entered inside of it may have been left otherwise.

    Raises:
        NetnsError: it has entered another one since, or an event loop got its turn meanwhile.
    """
    with uninterrupted:
        for closed, depth in _inside.closed:
            if closed is namespace:
                _inside.forget_closed(depth)
                return
        if error is not None:
            _leave_inner(namespace, error)
        within = [closed for closed, depth in _inside.closed if depth >= len(_inside.stack)]
        innermost = _inside.stack[-1].namespace if _inside.stack else None
        if innermost is not namespace or (within and error is None):
            shown = within[-1].name if within else "none" if innermost is None else innermost.name
            raise NetnsError(
                f"leaving namespace {namespace.name!r}, but the innermost one of this thread is {shown!r}; "
                "a 'with' block must not be held across an await or a yield"
            )
        watch = _go_back().watch
        _inside.forget_closed(len(_inside.stack))
    ended_by_us = watch is not None and watch.has_raised(error)
    if watch is None or not watch.met:
        return
    trouble = (
        f"an await stood in the block 'with {namespace.name}:'; a namespace is that of the thread, so other tasks of "
        "this event loop would run inside; open sockets in the block and await outside of it, or "
        "use open_connection(), start_server() or socket() of the namespace"
    )
    if error is None or ended_by_us:
        raise NetnsError(trouble)
    error.add_note(trouble)


def _leave_inner(namespace: Handle, error: BaseException) -> None:
    """Leave the namespaces that were entered inside of a block which an error ends, and say so in a note of the error.

    A signal's handler can raise at the entry into ``__exit__``, before that has done anything: nobody calls it again.
    """
    if any(block.namespace is namespace for block in _inside.stack):
        while (innermost := _inside.stack[-1].namespace) is not namespace:
            _go_back()
            error.add_note(f"namespace {innermost.name!r} had not been left when the block of {namespace.name!r} ended")


def leave_closed() -> None:
    """Leave the innermost namespaces as far as they are closed: nobody has an interface in there any more.

    An exception at the very end of a ``with ns:`` block can come before the block has moved the thread back.
    """
    while _inside.stack and _inside.stack[-1].namespace.closed:
        closed = _go_back().namespace
        _inside.closed.append((closed, len(_inside.stack)))


def open_own() -> int:
    """A descriptor of the namespace that the calling thread is in.

    It must be one that was made for tests: of a ``with`` block, one that a thread was started in, or the sandbox.

    Raises:
        TopologyError: it is the machine's own, as far as can be known.
    """
    from pytest_netns.kernel import sandbox

    fd = open_namespace()
    inode = os.fstat(fd).st_ino
    home = _inside.stack[0].inode if _inside.stack else inode
    made = (each.inode for each in open_namespaces() if not each._is_foreign)
    if inode != home or inode == sandbox.network or inode in made:
        return fd
    os.close(fd)
    raise TopologyError(
        f"this thread ({threading.current_thread().name}) is in the machine's own network, in which nothing is made or "
        "changed, so it cannot be a node: run the test in a network of its own, by @pytest.mark.netns or "
        "--netns-isolate, or the whole session, by --netns-sandbox=always"
    )


def in_original_namespace() -> AbstractContextManager[None]:
    """The calling thread is where it was before all its ``with`` blocks, for the duration of this one."""
    return visiting(_inside.stack[0].previous) if _inside.stack else nullcontext()


def leave_all() -> list[str]:
    """Bring the calling thread back to where it was before all ``with`` blocks; names those it was still in."""
    left = [_go_back().namespace.name for _ in list(_inside.stack)]
    left += [namespace.name for namespace, _ in _inside.closed]
    _inside.forget_closed(0)
    return left


def leave_down_to(namespace: Handle) -> list[str]:
    """Leave a namespace that the calling thread has entered, and all that it entered after; names those."""
    left: list[str] = []
    while any(block.namespace is namespace for block in _inside.stack):
        found = _go_back().namespace
        if found is not namespace:
            left.append(found.name)
    return left
