"""Failure: a probe that failed, should somebody want to know why."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType

from pytest_netns.clock import monotonic_ns
from pytest_netns.topology.node import BaseNode


@dataclass(frozen=True, slots=True)
class Failure:
    """A probe that failed, or a trace, which may have gone another way than was expected.

    Attributes:
        node: who asked.
        result: what came of it.
        question: which method of a node, or of a lab, asked.
        details: what else it takes to ask again.
        in_force: the faults and impairments of its lab at that time.
        crowded: by version of IP, in words: the kernel's neighbour table, if it had no room for new entries.
        at: when, in nanoseconds of ``monotonic_ns``.
        called: from where, the innermost first: code and line of each caller outside of this package.
    """

    node: BaseNode
    result: object
    question: str
    details: tuple[object, ...]
    in_force: tuple[str, ...] = ()
    crowded: Mapping[int, str] = field(default_factory=dict)
    at: int = field(default_factory=monotonic_ns)
    called: tuple[tuple[CodeType, int], ...] = field(default=(), repr=False, compare=False)


#: Callers that are noted at most: a test's function is not far.
_DEEPEST = 24
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


def callers() -> tuple[tuple[CodeType, int], ...]:
    """Code and line of each caller outside of this package, the innermost first."""
    found: list[tuple[CodeType, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < _DEEPEST:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)
