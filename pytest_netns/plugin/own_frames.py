"""Own frames: what our errors do not show, since they say by themselves what was asked and refused.

pytest prints the whole source of the innermost function of a traceback, and the arguments of all. Below a line of the
test that is noise of ours, and it may hold what nobody wants to see in the log of a machine that many read.
"""

from __future__ import annotations

import dis
import os
import sys
from collections.abc import Iterator
from types import TracebackType

import pytest

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PYTHON = os.path.dirname(os.__file__) + os.sep
_RUNNERS = tuple(f"{os.sep}{name}{os.sep}" for name in ("_pytest", "pluggy", "site-packages", "dist-packages"))


def hide(config: pytest.Config, call: pytest.CallInfo[None]) -> None:
    """Take our frames out of an error of ours, and out of its causes, unless --full-trace asks for them."""
    if call.excinfo is None or config.getoption("fulltrace", False) or "pytest_netns.errors" not in sys.modules:
        return
    error = call.excinfo.value
    if not _is_ours(error):
        return
    error.__traceback__ = _without_ours(error.__traceback__) or error.__traceback__
    for cause in _causes(error):
        cause.__traceback__ = _without_ours(cause.__traceback__)
    call.excinfo = pytest.ExceptionInfo.from_exception(error)


def _is_ours(error: BaseException) -> bool:
    """Whether we have raised it on purpose; another one that comes out of our code is a fault, to be looked at."""
    from pytest_netns.errors import NetnsError, ProbeFailure

    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_ours, error.exceptions))
    return isinstance(error, NetnsError | ProbeFailure) or _raised_by_us(error.__traceback__)


def _raised_by_us(traceback: TracebackType | None) -> bool:
    """Whether it comes from a raise statement of ours, as a TypeError does that tells of a wrong argument."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return code.co_filename.startswith(_OURS) and code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback of those frames that are neither ours nor of Python's library below them; None if none is left.

    Where only the runner and its plugins are left, the outermost frame of ours stays: a fixture that fails is ours.
    """
    kept: list[TracebackType] = []
    first: TracebackType | None = None
    theirs = False
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file.startswith(_OURS):
            first = first or traceback
        elif first is None or not (file.startswith((_PYTHON, "<frozen")) and "site-packages" not in file):
            kept.append(traceback)
            theirs = theirs or not any(part in file for part in _RUNNERS)
        traceback = traceback.tb_next
    if first is None:
        return kept[0] if kept else None
    if not theirs:
        kept = [first] if kept else []
    made: TracebackType | None = None
    for each in reversed(kept):
        made = TracebackType(made, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return made
