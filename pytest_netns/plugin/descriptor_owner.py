"""Whose a descriptor is, and where it was made, as far as anybody can know: for what a test has left open."""

from __future__ import annotations

import gc
import socket

from pytest_netns.kernel.standard_sockets import Socket

_HINT = "python -X tracemalloc=10 -m pytest says where"


def owner_of(fd: int) -> str:
    """In words: the Python object that has a descriptor, ours or the test's."""
    for each in gc.get_objects():
        if not issubclass(type(each), socket.socket | Socket):
            continue
        try:
            if each.fileno() != fd:
                continue
        except Exception:  # of a subclass of somebody else's, half made perhaps
            continue
        if type(each) is Socket:
            return f"a socket of pytest-netns, which is a mistake of ours: please report it; {_made(each)}"
        return f"the test's {each!r}, {_made(each)}"
    return "of no socket object of Python: a copy (os.dup), or of a library in C"


def _made(thing: object) -> str:
    import tracemalloc  # when something was left, and not for every session

    if not tracemalloc.is_tracing():
        return f"made somewhere ({_HINT})"
    trace = tracemalloc.get_object_traceback(thing)
    # The innermost frames are those of the standard library, as a rule.
    frames = [] if trace is None else [frame for frame in trace if not _is_library(frame.filename)]
    if not frames:
        return "made before its making was traced, or deeper than it is (python -X tracemalloc=25)"
    return f"made at {frames[-1].filename}:{frames[-1].lineno}"


def _is_library(path: str) -> bool:
    return path == socket.__file__ or path.endswith(("/contextlib.py", "/asyncio/base_events.py"))
