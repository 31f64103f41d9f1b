"""SVG: a picture of a lab: nodes are boxes, segments are lines below them. Pure functions, no library needed.

A host is a box, a router a rounded box, an attached existing namespace a dashed box; a bridge is a bar, a cable a thin
line. What carries no frames is red and dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from pytest_netns.report.layout import Column, Layout, Plug, Row, layout
from pytest_netns.report.snapshot import LabState

# In pixels. Text is monospaced, so its width can be computed without the font.
_CHARACTER, _LINE, _FONT = 7.3, 15, 12
_MARGIN, _GAP, _BOX = 20, 26, 30
_STEM = 14  # from the left edge of a column to its vertical line
_INK, _PALE, _BAD, _BRIDGE, _CABLE, _WAY = "#1f2933", "#7b8794", "#c81e1e", "#2563a8", "#52606d", "#2f855a"


def svg(state: LabState, *, way: Sequence[str] = (), ended: str | None = None) -> str:
    """A lab as an SVG document (https://www.w3.org/TR/SVG11/).

    Args:
        state: the lab's state, from ``snapshot``.
        way: the nodes that saw a packet of the failed probe, in order; a line above the boxes connects them.
        ended: the node where that packet ended: its box is red, with a red cross above.
    """
    plan = layout(state)
    widths = [_width(plan, at) for at in range(len(plan.columns))]
    lefts = [_MARGIN + sum(widths[:at]) for at in range(len(widths))]
    right = _MARGIN + sum(widths)
    tops, bottom = [], _MARGIN + _LINE + _BOX + 32.0
    for row in plan.rows:
        tops.append(bottom)
        bottom += 36 + _LINE * max([0, *(len(_words(plugs)) for plugs in row.plugs.values())])
    labels = max([0, *(len(row.label) for row in plan.rows)]) * _CHARACTER
    parts = [_text(_MARGIN, _MARGIN + 4, state["name"], _PALE)]
    parts += [_stem(plan, at, lefts[at] + _STEM, tops) for at in range(len(lefts))]
    for row, top in zip(plan.rows, tops, strict=True):
        parts += _segment(row, top, lefts, right)
    parts += [
        _box(column, lefts[at], widths[at] - _GAP, ended in column.names) for at, column in enumerate(plan.columns)
    ]
    parts += _way(plan, [left + (width - _GAP) / 2 for left, width in zip(lefts, widths, strict=True)], way, ended)
    name = _MARGIN + len(state["name"]) * _CHARACTER
    width, height = round(max(right + labels, name) + _MARGIN), round(max(bottom, _MARGIN + _LINE + _BOX) + _MARGIN)
    body = "\n".join(part for part in parts if part)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{_FONT}">\n'
        f"<title>{_clean(state['name'])}</title>\n"
        f'<rect width="{width}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )


def _way(plan: Layout, centres: list[float], way: Sequence[str], ended: str | None) -> list[str]:
    """The packet's path as a line above the boxes, with a cross where it ended."""
    column_of = {name: at for at, column in enumerate(plan.columns) for name in column.names}
    passed = [column_of[name] for name in way if name in column_of]  # bridges are rows, not columns
    if not passed:
        return []
    y = _MARGIN + _LINE - 6
    parts = ['<g class="way">', f"<title>{_clean(' -> '.join(way))}</title>"]
    parts += [
        _line(centres[one], y, centres[other], y, f'stroke="{_WAY}" stroke-width="3" opacity="0.7"')
        for one, other in pairwise(passed)
    ]
    parts += [f'<circle cx="{centres[at]:g}" cy="{y}" r="4" fill="{_WAY}"/>' for at in dict.fromkeys(passed)]
    if ended in column_of:
        x = centres[column_of[ended]]
        style = f'stroke="{_BAD}" stroke-width="2.5"'
        parts += [_line(x - 6, y - 6, x + 6, y + 6, style), _line(x - 6, y + 6, x + 6, y - 6, style)]
    return [*parts, "</g>"]


def _width(plan: Layout, at: int) -> float:
    column = plan.columns[at]
    words = [word for row in plan.rows for word in _words(row.plugs.get(at, []))]
    inside = max([0, *(len(word) * _CHARACTER + _STEM + 6 for word in words)])
    return max(inside, len(column.title) * _CHARACTER + 24, 60) + _GAP


def _words(plugs: list[Plug]) -> list[str]:
    """The text below a plug: its name and fault, and its addresses."""
    return [word for plug in plugs for word in (f"{plug.interface} {plug.fault}".strip(), *plug.addresses)]


def _clean(text: str) -> str:
    """Escape text for XML, and drop the characters that XML 1.0 does not allow."""
    return escape(
        "".join(c if c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff" else "?" for c in text)
    )


def _text(x: float, y: float, text: str, colour: str = _INK, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}"{extra}>{_clean(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" {style}/>'


def _style(colour: str, width: float, bad: bool) -> str:
    dashes = ' stroke-dasharray="6 4"' if bad else ""
    return f'stroke="{_BAD if bad else colour}" stroke-width="{width:g}"{dashes}'


def _stem(plan: Layout, at: int, x: float, tops: list[float]) -> str:
    ends = [top for row, top in zip(plan.rows, tops, strict=True) if at in row.plugs]
    return _line(x, _MARGIN + _LINE + _BOX, x, ends[-1], _style(_PALE, 1.2, False)) if ends else ""


def _segment(row: Row, top: float, lefts: list[float], right: float) -> list[str]:
    places = {at: lefts[at] + _STEM for at in sorted(row.plugs)}
    kind = "bridge" if row.is_bridge else "cable"
    parts = [f'<g class="{kind}">', f"<title>{_clean(row.label or kind)}</title>"]
    first, last = min(places.values(), default=right - _GAP), max(places.values(), default=right - _GAP)
    reach = 12 if row.is_bridge else 0
    style = _style(_BRIDGE, 6, bool(row.fault)) if row.is_bridge else _style(_CABLE, 2, bool(row.fault))
    parts.append(_line(first - reach, top, last + reach, top, style))
    parts.append(_line(last + reach + 2, top, right - 4, top, f'stroke="{_PALE}" stroke-width="0.6" opacity="0.5"'))
    parts.append(_text(right, top + 4, row.label, _BAD if row.fault else _INK))
    for at, x in places.items():
        fault = any(plug.fault for plug in row.plugs[at])
        if fault:  # the vertical line down to the segment carries no frames
            parts.append(_line(x, top - 24, x, top, _style(_BAD, 2.5, True)))
        colour = _BAD if fault else _BRIDGE if row.is_bridge else _CABLE
        parts.append(f'<circle cx="{x:g}" cy="{top:g}" r="5" fill={quoteattr(colour)} stroke="white"/>')
        y = top + _LINE + 2
        for word in _words(row.plugs[at]):
            bad = any(plug.fault and word.startswith(plug.interface + " ") for plug in row.plugs[at])
            is_address = "/" in word
            parts.append(_text(x + 8, y, word, _BAD if bad else _PALE if is_address else _INK))
            y += _LINE
    return [*parts, "</g>"]


def _box(column: Column, x: float, width: float, bad: bool) -> str:
    top = _MARGIN + _LINE
    shape = {"router": 'rx="15" fill="#fde8c8"', "host": 'rx="3" fill="#e3edf7"'}.get(
        column.kind, 'rx="3" fill="#f3f4f6" stroke-dasharray="4 3"'
    )
    edge = f'stroke="{_BAD}" stroke-width="2.5"' if bad else f'stroke="{_INK}"'
    return (
        f'<g class="{_clean(column.kind)}"><title>{_clean(f"{column.title} ({column.kind})")}</title>'
        f'<rect x="{x:g}" y="{top}" width="{width:g}" height="{_BOX}" {edge} {shape}/>'
        + _text(x + width / 2, top + 19, column.title, _INK, ' text-anchor="middle"')
        + "</g>"
    )
