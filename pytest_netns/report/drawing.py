"""Drawing: a lab as text. Each node is a column, each bridge or cable a row. Pure functions.

    red       (router)  blue
    [eth0]====[eth0]    |       lan 10.1.0.0/24
              [eth1]----[eth0]  10.2.0.0/24

Routers are in parentheses. A bridge is drawn with ``=``, a cable with ``-``, and one that carries no frames with dots.
"""

from __future__ import annotations

import textwrap

from pytest_netns.report.layout import Layout, Plug, Row, layout
from pytest_netns.report.snapshot import LabState

#: Maximum width in characters and height in rows of a drawing. A larger lab becomes a list of links.
WIDEST, _TALLEST = 110, 30


def drawing(state: LabState, *, widest: int = WIDEST) -> str:
    """Draw a lab.

    Args:
        state: the lab's state, from ``snapshot``.
        widest: maximum width in characters. A wider drawing marks an interface that carries no frames with ``!`` and
            gives the reason below; if that is still too wide, the lab becomes a list of links.
    """
    plan = layout(state)
    for compact in (False, True):
        lines = _drawn(plan, compact)
        if len(lines) <= _TALLEST and all(len(line) <= widest for line in lines):
            faults = [
                f"! {plan.columns[at].title}:{plug.interface} {plug.fault}"
                for row in plan.rows
                for at, plugs in sorted(row.plugs.items())
                for plug in plugs
                if plug.fault and compact
            ]
            return "\n".join([*lines, *faults])
    return _listed(plan)


def _drawn(plan: Layout, compact: bool) -> list[str]:
    heads = [f"({column.title})" if column.kind == "router" else column.title for column in plan.columns]
    gap = 1 if compact else 2
    widths = [
        max([len(head), *(len(_cell(row.plugs[at], compact)) for row in plan.rows if at in row.plugs)]) + gap
        for at, head in enumerate(heads)
    ]
    starts = [sum(widths[:at]) for at in range(len(widths))]
    lines = ["".join(f"{head:<{width}}" for head, width in zip(heads, widths, strict=True)).rstrip()]
    return lines + [_row(plan, number, starts, sum(widths) + compact, compact) for number in range(len(plan.rows))]


def _cell(plugs: list[Plug], compact: bool) -> str:
    if compact:
        return f"[{','.join(plug.interface + ('!' if plug.fault else '') for plug in plugs)}]"
    return f"[{', '.join(' '.join(filter(None, (plug.interface, plug.fault))) for plug in plugs)}]"


def _row(plan: Layout, number: int, starts: list[int], width: int, compact: bool) -> str:
    row = plan.rows[number]
    cells = [" "] * width
    for at, start in enumerate(starts):
        if any(at in later.plugs for later in plan.rows[number + 1 :]):
            cells[start] = "|"
    if row.plugs:
        line = "=" if row.is_bridge else "." if row.fault else "-"
        for place in range(starts[min(row.plugs)], starts[max(row.plugs)]):
            if cells[place] == " ":
                cells[place] = line
    for at, plugs in row.plugs.items():
        text = _cell(plugs, compact)
        cells[starts[at] : starts[at] + len(text)] = text
    return f"{''.join(cells)}{row.label}".rstrip()


def _listed(plan: Layout) -> str:
    lines = []
    for row in plan.rows:
        ends = [
            f"{plan.columns[at].title}:{_cell([plug], False)[1:-1]}"
            for at, plugs in sorted(row.plugs.items())
            for plug in plugs
        ]
        lines.append(_list_row(row, ends))
    alone = [c.title for at, c in enumerate(plan.columns) if not any(at in row.plugs for row in plan.rows)]
    return "\n".join([*lines, *(f"{title} (no link)" for title in alone)])


def _list_row(row: Row, ends: list[str]) -> str:
    if row.is_bridge:
        return textwrap.fill(f"{row.label}: {', '.join(ends) or 'nothing attached'}", WIDEST, subsequent_indent="  ")
    return " -- ".join(ends) + (f" ({row.label})" if row.label else "")
