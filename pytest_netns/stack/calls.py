"""Calls: functions of the test that run inside a namespace, in threads of their own."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pytest_netns.checks import check_function
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.real_threads import check_threads
from pytest_netns.kernel.syscalls import THREAD_NETNS
from pytest_netns.stack import current, scapy_state
from pytest_netns.stack.handle import Handle

_P = ParamSpec("_P")
_R = TypeVar("_R")


def call(namespace: Handle, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run ``func`` in a new thread inside, and return its value or raise its exception.

    Threads that it starts are inside too. Context variables are those of the caller.

    Args:
        func: what to call.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Example:
        >>> red.call(socket.create_connection, (str(blue.ip4), 80), timeout=1).close()
    """
    __tracebackhide__ = True
    check_function("what call() is given", func)
    context = contextvars.copy_context()
    result: list[_R] = []
    failure: list[BaseException] = []

    around = {os.stat(THREAD_NETNS).st_ino, *current.came_from()}

    def run_inside() -> None:
        __tracebackhide__ = True
        try:
            namespace._enter_thread(around)
            result.append(context.run(func, *args, **kwargs))
        except BaseException as error:  # raised below, in the caller's thread
            failure.append(error)
        finally:
            scapy_state.left(namespace._inode, around)

    check_threads()
    thread = threading.Thread(target=run_inside, name=f"netns-{namespace.name}", daemon=True)
    try:
        with uninterrupted:  # start() waits for the thread to run
            thread.start()
        thread.join()  # for as long as the function takes, as if it was called here
    finally:
        with uninterrupted:  # threading keeps a WeakSet of threads, whose callback loses what a handler raises
            del thread
    if failure:
        raise failure[0]
    return result[0]
