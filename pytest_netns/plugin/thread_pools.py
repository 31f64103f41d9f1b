"""Threads that are older than a test's namespace, and work that the test hands to them.

A thread is born where its creator is, and stays there. The worker of a pool that an earlier test has filled, of the
default executor of an event loop for one, would run this test's work in that test's namespace. So from the first test
in a namespace of its own on, work that is given to a pool runs where it was given away.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pytest_netns.kernel.high_descriptors import lift
from pytest_netns.kernel.netns.lost import shows
from pytest_netns.kernel.syscalls import THREAD_NETNS, open_namespace, visiting

_P = ParamSpec("_P")
_R = TypeVar("_R")

_MARK = "_pytest_netns_carries"


class _Place:
    """A network namespace, for as long as some work is to be done in it."""

    def __init__(self) -> None:
        self.fd = lift(open_namespace())
        self.inode = os.fstat(self.fd).st_ino

    def __del__(self) -> None:
        if shows(self.fd, self.inode):
            os.close(self.fd)


#: Those that tests run in, by inode, so that no descriptor appears while one does.
_known: dict[int, _Place] = {}


def arrive() -> None:
    """A test begins, in the calling thread's namespace; before that call it again at home."""
    inode = os.stat(THREAD_NETNS).st_ino
    if inode not in _known:
        _known[inode] = _Place()


def depart(inode: int) -> None:
    """No test runs in that namespace any more. Work that waits keeps it."""
    _known.pop(inode, None)


def carried(work: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same function, which runs in the network namespace that this call is made in, whoever calls it later."""
    place = _known.get(os.stat(THREAD_NETNS).st_ino) or _Place()

    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if os.stat(THREAD_NETNS).st_ino == place.inode:
            return work(*args, **kwargs)
        with visiting(place.fd):
            return work(*args, **kwargs)

    return inside


def patch_executors() -> None:
    """Have the pools that are imported carry work to the namespace it comes from. Once done it stays; cheap to repeat.

    Those of the standard library have ``submit()``, which asyncio's executors use too. Trio and anyio keep threads of
    their own, each behind one function.
    """
    _wrap_method(ThreadPoolExecutor, "submit")
    cache = sys.modules.get("trio._core._thread_cache")
    if cache is not None:
        _wrap_method(cache.ThreadCache, "start_thread_soon")
    backend = sys.modules.get("anyio._backends._asyncio")
    if backend is not None:
        _wrap_class_method(backend.AsyncIOBackend, "run_sync_in_worker_thread")


def _wrap_method(owner: type, name: str) -> None:
    given: Callable[..., object] = getattr(owner, name)
    if hasattr(given, _MARK):
        return

    @functools.wraps(given)
    def method(self: object, work: Callable[..., object], /, *args: object, **kwargs: object) -> object:
        return given(self, carried(work), *args, **kwargs)

    setattr(method, _MARK, True)
    setattr(owner, name, method)


def _wrap_class_method(owner: type, name: str) -> None:
    given: Callable[..., object] = getattr(owner, name).__func__
    if hasattr(given, _MARK):
        return

    def method(cls: type, /, func: Callable[..., object], *args: object, **kwargs: object) -> object:
        return given(cls, carried(func), *args, **kwargs)

    functools.update_wrapper(method, given)
    setattr(method, _MARK, True)
    setattr(owner, name, classmethod(method))
