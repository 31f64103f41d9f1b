"""Timing: contenders take turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

#: Seconds between two turns. A dropped namespace is dismantled in the background, under the lock that the next one
#: needs (some 20 ms for a pair); nobody shall pay for the one before him.
PAUSE = 0.03

Laps = dict[str, float]
Contender = Callable[[], Laps]


@dataclass(slots=True)
class Experiment:
    """What is measured together.

    Attributes:
        name: for ``--only``.
        rows: the steps that are shown: what a contender calls it, what the table does.
        contenders: by column.
        weight: how much is dismantled after a turn, in pairs; the pause grows with it.
        rounds: how many at most; None for as many as asked for.
    """

    name: str
    rows: Mapping[str, str]
    contenders: dict[str, Contender]
    weight: float = 1.0
    rounds: int | None = None


@dataclass(slots=True)
class Row:
    """One line of the table: seconds by column."""

    name: str
    title: str
    samples: dict[str, list[float]] = field(default_factory=dict)


def laps(steps: Iterator[str]) -> Laps:
    """Seconds that each step of a generator took, by the name that it yields."""
    taken: Laps = {}
    gc.collect(0)
    gc.disable()
    try:
        start = time.perf_counter()
        for step in steps:
            taken[step] = time.perf_counter() - start
            start = time.perf_counter()
    finally:
        gc.enable()
    return taken


def measure(experiment: Experiment, rounds: int) -> list[Row]:
    """Let the contenders take turns. Another one begins each round; the first round is for warming up."""
    found = [Row(f"{experiment.name}/{step}", title) for step, title in experiment.rows.items()]
    columns = list(experiment.contenders)
    count = rounds if experiment.rounds is None else min(rounds, experiment.rounds)
    for number in range(-1, count):
        _show(f"{experiment.name}: {max(0, number)} of {count}")
        turn = number % len(columns)
        for column in columns[turn:] + columns[:turn]:
            taken = experiment.contenders[column]()
            time.sleep(PAUSE * experiment.weight)
            if number < 0:
                continue
            for row, step in zip(found, experiment.rows, strict=True):
                if step in taken:
                    row.samples.setdefault(column, []).append(taken[step])
    _show("")
    return found


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
