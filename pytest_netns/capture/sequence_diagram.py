"""Ladder: a conversation as a sequence diagram in text. Nodes are columns, each frame is a row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_netns.capture.frame import ETH_IPV4, ETH_IPV6, Frame, summary

_WIDTH = 12
_TIME = 12
#: Nanoseconds within which equal bytes are the same frame on its way.
_SAME = 50_000_000
#: Nanoseconds by which stamps of one frame may be out of order.
_SKEW = 50_000
_WIRE = "(wire)"
_TCP = 6


@dataclass(slots=True)
class Journey:
    """One frame on its way, over the nodes that saw it.

    Attributes:
        first: where it was seen first.
        places: where else, in order.
    """

    first: Frame
    places: list[Frame] = field(default_factory=list)

    @property
    def nodes(self) -> list[str]:
        """The nodes that saw it, in order."""
        return list(dict.fromkeys(frame.node for frame in (self.first, *self.places)))

    @property
    def last(self) -> Frame:
        """Where it was seen last."""
        return self.places[-1] if self.places else self.first


def journeys(frames: Sequence[Frame]) -> list[Journey]:
    """Put together what is one frame at several interfaces. ``frames`` are in the order of time."""
    found: list[Journey] = []
    open_: dict[bytes, Journey] = {}
    for frame in frames:
        known = open_.get(frame.data)
        again = known is not None and any(
            (f.node, f.interface, f.outgoing) == (frame.node, frame.interface, frame.outgoing)
            for f in (known.first, *known.places)
        )
        if known is None or again or frame.time - known.first.time > _SAME:
            journey = Journey(frame)
            open_[frame.data] = journey
            found.append(journey)
        else:
            known.places.append(frame)
    for journey in found:
        _departure_first(journey)
    return found


def _departure_first(journey: Journey) -> None:
    """An arrival may be stamped some microseconds before the departure, on another processor."""
    first = journey.first
    if first.outgoing:
        return
    for place in journey.places:
        if place.outgoing and place.node != first.node and place.time - first.time < _SKEW:
            journey.places.remove(place)
            journey.places.insert(0, first)
            journey.first = place
            return


def ladder(
    frames: Sequence[Frame],
    *,
    whole: bool,
    switches: Sequence[str] = (),
    owners: Mapping[bytes, str] | None = None,
    most: int = 40,
    order: Sequence[str] = (),
) -> str:
    """Draw frames.

    Args:
        frames: in the order of time; nodes become columns in the order in which they see the first ones.
        whole: whether every node was captured: a frame that left one and arrived nowhere was lost then, and its arrow
            ends in an ``x``. Otherwise it goes to the wire.
        switches: nodes that pass on all they get: what they do not was lost there.
        owners: which node has which address: what ends at another one was lost there, unless that sent it on.
        most: rows at most; the last ones are drawn.
        order: nodes whose columns come first, in this order.
    """
    if not frames:
        return "(no frames)"
    trips = journeys(frames)
    seen = dict.fromkeys(name for trip in trips for name in trip.nodes)
    names = [*(name for name in order if name in seen), *(name for name in seen if name not in order)]
    if not whole:
        names.append(_WIRE)
    at = {name: index * _WIDTH for index, name in enumerate(names)}
    head = " " * (_TIME - 4) + "time  " + "".join(f"{_short(name):<{_WIDTH}}" for name in names)
    cut = [f"({len(trips) - most} earlier frames)"] if len(trips) > most else []
    start = frames[0].time
    lost = {id(trip) for trip in trips if whole and _lost(trip, trips, switches, owners or {})}
    rows = [
        _row(several[0], start, at, id(several[0]) in lost, switches) + _repeated(several, start)
        for several in _folded(trips[-most:])
    ]
    return "\n".join([head.rstrip(), *cut, *rows])


def _folded(trips: Sequence[Journey]) -> list[list[Journey]]:
    """What was sent again, and went just as far, together with what stands right before it."""
    found: list[list[Journey]] = []
    for trip in trips:
        before = found[-1][0] if found else None
        if before is not None and _content(before.first) == _content(trip.first) and before.nodes == trip.nodes:
            found[-1].append(trip)
        else:
            found.append([trip])
    return found


def _content(frame: Frame) -> object:
    """What a frame has in common with those that repeat it: all of it, but for what a kernel counts in TCP packets."""
    data = frame.data
    if frame.ethernet and data[12:14] == ETH_IPV4 and len(data) >= 34 and data[23] == _TCP:
        segment = data[14 + (data[14] & 15) * 4 :]
    elif frame.ethernet and data[12:14] == ETH_IPV6 and len(data) >= 74 and data[20] == _TCP:
        segment = data[54:]
    else:
        return data
    return data[:14], data[26:34] if data[12:14] == ETH_IPV4 else data[22:54], segment[:14]


def _repeated(several: Sequence[Journey], start: int) -> str:
    if len(several) < 2:
        return ""
    return f" (and {len(several) - 1} more until {(several[-1].first.time - start) / 1e6:.3f} ms)"


def _short(name: str) -> str:
    return name if len(name) < _WIDTH else name[: _WIDTH - 2] + "~"


def _lost(trip: Journey, trips: Sequence[Journey], switches: Sequence[str], owners: Mapping[bytes, str]) -> bool:
    last = trip.last
    if not last.ethernet:  # the far end of a device without a link layer is a program, which nobody captures
        return False
    if last.outgoing:
        return True
    if last.data[:1] and last.data[0] & 1:  # to everybody, or to a group
        return False
    if last.node in switches:
        return True
    destination = _destination(last)
    if destination is None or owners.get(destination, last.node) == last.node:
        return False
    # A router sends it on with other addresses and checksums; its length and protocol stay.
    return not any(
        other.first.node == last.node
        and other.first.outgoing
        and 0 <= other.first.time - last.time < _SAME
        and len(other.first.data) == len(last.data)
        and other.first.data[12:14] == last.data[12:14]
        for other in trips
    )


def _destination(frame: Frame) -> bytes | None:
    kind = frame.data[12:14]
    if kind == ETH_IPV4 and len(frame.data) >= 34:
        return frame.data[30:34]
    if kind == ETH_IPV6 and len(frame.data) >= 54:
        return frame.data[38:54]
    return None


def _only_hearing(trip: Journey, at: Mapping[str, int], switches: Sequence[str]) -> set[int]:
    """The columns of those that get a frame for everybody, or for a group, and do not pass it on."""
    frames = (trip.first, *trip.places)
    if not trip.first.ethernet or not trip.first.data[:1] or not trip.first.data[0] & 1:
        return set()
    passing = {*switches, *(frame.node for frame in frames if frame.outgoing)}
    return {at[name] for name in trip.nodes if name not in passing}


def _row(trip: Journey, start: int, at: Mapping[str, int], lost: bool, switches: Sequence[str]) -> str:
    edge = max(at.values())
    cells = [" "] * (edge + _WIDTH)
    for place in at.values():
        cells[place] = "|"
    origin = at[trip.nodes[0]]
    others = [at[name] for name in trip.nodes[1:]]
    if _WIRE in at and not others:
        if trip.first.outgoing:
            others = [at[_WIRE]]
        else:
            origin, others = at[_WIRE], [origin]
    hearing = _only_hearing(trip, at, switches)
    for position in range(min([origin, *others]) + 1, max([origin, *others])):
        cells[position] = "-" if cells[position] == " " else "|" if position in hearing else "+"
    for place in others:
        cells[place + (-1 if place > origin else 1)] = ">" if place > origin else "<"
    if lost:
        place = at[trip.last.node]
        step = -1 if place < origin or (place == origin and place == edge and place > 0) else 1
        for distance in range(1, _WIDTH // 2):
            cells[place + step * distance] = "-"
        cells[place + step * _WIDTH // 2] = "x"
    stamp = f"{(trip.first.time - start) / 1e6:.3f} ms"
    return f"{stamp:>{_TIME}}  {''.join(cells)}  {summary(trip.first)}".rstrip()
