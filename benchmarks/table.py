"""The table: medians in milliseconds, and two ratios."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.stopwatch import Row

COLUMNS = ("floor", "ours", "ip -batch", "munet", "mininet")
RATIOS = (("ours/floor", "ours", "floor"), ("ip/ours", "ip -batch", "ours"))


def _milliseconds(row: Row, column: str) -> str:
    return f"{median(row.samples[column]) * 1000:.2f}" if column in row.samples else "-"


def _ratio(row: Row, over: str, under: str) -> str:
    if over not in row.samples or under not in row.samples:
        return "-"
    return f"{median(row.samples[over]) / median(row.samples[under]):.2f}x"


def lines(rows: Sequence[Row]) -> list[str]:
    """The table as Markdown, with its columns aligned."""
    cells = [["median, ms", *COLUMNS, *(name for name, _, _ in RATIOS), "n"]]
    for row in rows:
        count = min(map(len, row.samples.values()), default=0)
        cells.append(
            [
                row.title,
                *(_milliseconds(row, column) for column in COLUMNS),
                *(_ratio(row, over, under) for _, over, under in RATIOS),
                str(count),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |" for line in cells
    ]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return [text[0], rule, *text[1:]]
