"""Whether an event loop gets its turn during a ``with ns:`` block: an await stands in it, then.

The thread is taken back before any other task runs, and the task that the block is in is cancelled at its await: the
rest of the block would take place outside. The libraries are found among what is imported; none is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from types import ModuleType


class AwaitWatch(Protocol):
    """Watches one block, in an event loop of one kind.

    Attributes:
        met: whether an await was met.
    """

    met: bool

    def cancel_task(self) -> None:
        """Cancel the task that the block is in."""

    def stop(self) -> None:
        """The block has ended, or is left otherwise."""

    def has_raised(self, error: BaseException | None) -> bool:
        """Called once the block has ended: whether ``error`` is the cancelling of ``cancel_task``, and nothing more."""


class _Asyncio:
    def __init__(self, met: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self.met = False
        self._task = sys.modules["asyncio"].current_task(loop)
        self._handle = loop.call_soon(met)
        ready = getattr(loop, "_ready", None)  # uvloop keeps its own to itself: other tasks may come first there
        if ready and ready[-1] is self._handle:
            ready.rotate(1)

    def cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        self._handle.cancel()

    def has_raised(self, error: BaseException | None) -> bool:
        if not self.met or self._task is None:
            return False
        others = self._task.uncancel()
        return isinstance(error, sys.modules["asyncio"].CancelledError) and others == 0


class _Trio:
    def __init__(self, met: Callable[[], None], trio: ModuleType, task: object) -> None:
        self.met = False
        self._trio, self._task, self._tell = trio, task, met
        self._scope = trio.CancelScope()
        self._scope.__enter__()
        trio.lowlevel.add_instrument(self)

    def after_task_step(self, task: object) -> None:
        """Called by trio: see ``trio.abc.Instrument``."""
        if task is self._task:
            self._tell()

    def cancel_task(self) -> None:
        self._scope.cancel()

    def stop(self) -> None:
        try:
            self._trio.lowlevel.remove_instrument(self)
        except (RuntimeError, KeyError):  # its loop has ended
            pass

    def has_raised(self, error: BaseException | None) -> bool:
        traceback = None if error is None else error.__traceback__
        try:
            return bool(self._scope.__exit__(None if error is None else type(error), error, traceback))
        except RuntimeError:  # not the task that has entered: a fixture that yields inside is left by another one
            return False


def watch_awaits(met: Callable[[], None]) -> AwaitWatch | None:
    """Watch a block that the calling thread begins now.

    Args:
        met: called, as soon as the event loop gets its turn, in the same thread.

    Returns:
        None outside of event loops.
    """
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    if loop is not None:
        return _Asyncio(met, loop)
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        return _Trio(met, trio, trio.lowlevel.current_task())
    except RuntimeError:  # none runs in this thread
        return None
