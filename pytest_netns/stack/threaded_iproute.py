"""ThreadedIPRoute: pyroute2's ``IPRoute`` for code that runs in an event loop.

Since 0.9 a synchronous IPRoute runs an event loop of its own for each call, which Python forbids inside of a running
one. A thread has no running loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_R = TypeVar("_R")

#: Seconds for one call: a dump of a large table takes a fraction of one.
_DEADLINE = 60.0


class ThreadedIPRoute:
    """Has the attributes of an IPRoute; its methods run in a thread of their own, one after the other.

    Args:
        make: gives the object; called, as all else, in that thread.
    """

    def __init__(self, make: Callable[[], IPRoute]) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns-iproute")
        self._iproute = self._run(make)

    def _run(self, func: Callable[..., _R], *args: object, **kwargs: object) -> _R:
        return self._thread.submit(func, *args, **kwargs).result(_DEADLINE)

    def __getattr__(self, name: str) -> object:
        value = getattr(self._iproute, name)
        if not callable(value):
            return value

        @wraps(value)
        def call(*args: object, **kwargs: object) -> object:
            return self._run(lambda: _whole(value(*args, **kwargs)))

        return call

    def close(self) -> None:
        """Close the IPRoute and end the thread."""
        self._run(self._iproute.close)
        self._thread.shutdown(wait=False)


def _whole(answer: object) -> object:
    """Dumps are generators, which would go on in the caller's thread."""
    return tuple(answer) if isinstance(answer, Iterator) else answer
