"""The table: medians in milliseconds, and two ratios."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.stopwatch import Row

COLUMNS = ("floor", "ours", "ip -batch", "munet", "mininet")
#: Characters of the narrowest column of figures.
_NARROWEST = 8
RATIOS = (("ours/floor", "ours", "floor"), ("ip/ours", "ip -batch", "ours"))


def _milliseconds(row: Row, column: str) -> str:
    return f"{median(row.samples[column]) * 1000:.2f}" if column in row.samples else "-"


def _ratio(row: Row, over: str, under: str) -> str:
    if over not in row.samples or under not in row.samples:
        return "-"
    return f"{median(row.samples[over]) / median(row.samples[under]):.2f}x"


class Table:
    """A table in Markdown that is printed row by row, so that what was measured is there whatever happens next.

    Args:
        titles: of all rows that may come; the columns are aligned for them.
    """

    def __init__(self, titles: Iterable[str]) -> None:
        names = ["median, ms", *COLUMNS, *(name for name, _, _ in RATIOS), "n"]
        self._widths = [max(map(len, [names[0], *titles])), *(max(len(name), _NARROWEST) for name in names[1:])]
        self._names = names
        self._begun = False

    def _line(self, cells: Sequence[str]) -> str:
        return "| " + " | ".join([cells[0].ljust(self._widths[0]), *map(str.rjust, cells[1:], self._widths[1:])]) + " |"

    def add(self, row: Row) -> None:
        """Print a row, the head of the table before the first one."""
        if not self._begun:
            rule = "|".join(["-" * (self._widths[0] + 2), *("-" * (width + 1) + ":" for width in self._widths[1:])])
            print(self._line(self._names), f"|{rule}|", sep="\n")
            self._begun = True
        cells = [
            row.title,
            *(_milliseconds(row, column) for column in COLUMNS),
            *(_ratio(row, over, under) for _, over, under in RATIOS),
            str(min(map(len, row.samples.values()), default=0)),
        ]
        print(self._line(cells), flush=True)
