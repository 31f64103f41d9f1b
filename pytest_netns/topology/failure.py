"""Failure: a probe that failed, should somebody want to know why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """

    node: BaseNode
    result: object
    question: str
    details: tuple[object, ...]
    in_force: tuple[str, ...] = ()
    crowded: Mapping[int, str] = field(default_factory=dict)
    at: int = field(default_factory=monotonic_ns)
