"""Drop reasons: why the kernel itself says that it has dropped a packet of the probe. Evidence, as root only.

The kernel names neither the namespace nor the packet. So a drop is told only if the packet was recognized, by the
device, direction, length and time of its last pass, as one that the captures have seen too; what was dropped before
any device, only where nothing of the probe was seen to leave at all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_netns.capture.frame import Frame, is_search
from pytest_netns.errors import UnsupportedError
from pytest_netns.explain.observation.observed_packets import ObservedPacket, last_of
from pytest_netns.kernel.perf.packet_log import DevicePass, DroppedPacket, PacketLog

#: Nanoseconds by which a frame may be stamped before its first tracepoint: while it waited to be received.
_CLOSE = 1_000_000
_ETHERNET = 14
_IP = {4: 0x0800, 6: 0x86DD}


@dataclass(frozen=True, slots=True)
class DropReason:
    """The kernel has dropped a packet of the probe.

    Attributes:
        what: ``the request``, ``the reply``, ``the error``, or ``the search for the next hop``.
        node: where, as captures call it.
        reason: in the words of the kernel's ``enum skb_drop_reason``.
        after: the last device that it passed, in words; empty if there was none.
    """

    what: str
    node: str
    reason: str
    after: str

    def __str__(self) -> str:
        return f"{self.node}: the kernel's own reason for dropping {self.what}{self.after}: {self.reason}"


def open_log() -> PacketLog | None:
    """What tells them, from now on until it is closed; None where it cannot be had, as without root."""
    try:
        return PacketLog()
    except (UnsupportedError, OSError, LookupError, ValueError):  # whatever a kernel's tracefs looks like
        return None


def told(log: PacketLog | None) -> list[DroppedPacket]:
    """What was dropped since the log has started. It is evidence only: nothing fails of it."""
    try:
        return log.stop() if log is not None else []
    except (OSError, LookupError, struct.error):
        return []


def drop_reasons(
    dropped: Iterable[DroppedPacket], frames: Sequence[Frame], seen: Sequence[ObservedPacket], asker: str, version: int
) -> list[DropReason]:
    """Those of the packets of a probe, where they ended; in the order of time.

    Args:
        dropped: by the kernel, while the probe was asked.
        frames: what the captures saw meanwhile.
        seen: what of them belongs to the probe.
        asker: the node that asked.
        version: of IP.
    """
    by_frame = {id(each.frame): each for each in seen}
    found = []
    for drop in dropped:
        passes = _frames(drop, frames)
        if not passes:
            if not seen and not any(not each.outgoing for each in drop.passes) and drop.protocol == _IP[version]:
                after = f" on its way out by {drop.passes[-1].device}" if drop.passes else ""
                found.append(DropReason("the request", asker, drop.reason, after))
            continue
        last, frame = passes[-1]
        what = _what([frame for _, frame in passes], by_frame, seen)
        if what is None:
            continue
        way = "left" if last.outgoing else "came in"
        after = f" after it {way} by {frame.interface}"
        if drop.passes[-1] is not last:  # no capture sees what a queue or a filter at egress takes
            after = f" on its way out by {drop.passes[-1].device}"
        found.append(DropReason(what, frame.node, drop.reason, after))
    return list(dict.fromkeys(found))


def _what(frames: Sequence[Frame], by_frame: dict[int, ObservedPacket], seen: Sequence[ObservedPacket]) -> str | None:
    """What a packet was, by the captures; None if it is none of the probe's, or a copy of it went further."""
    known = [each for frame in frames if (each := by_frame.get(id(frame))) is not None]
    if known:
        role = known[-1].role
        end = last_of([each for each in seen if each.role == role])
        return f"the {role}" if end.frame.node == frames[-1].node else None
    return "the search for the next hop" if not seen and is_search(frames[-1].data, frames[-1].ethernet) else None


def _frames(drop: DroppedPacket, frames: Sequence[Frame]) -> list[tuple[DevicePass, Frame]]:
    """The passes of a packet that captures have seen too, each with its frame.

    A frame is stamped somewhere between the tracepoints before and after that of its pass.
    """
    found = []
    for at, each in enumerate(drop.passes):
        since = drop.passes[at - 1].time if at else each.time - _CLOSE
        until = drop.passes[at + 1].time if at + 1 < len(drop.passes) else drop.time
        fitting = [frame for frame in frames if since <= frame.time <= until and _fits(each, frame)]
        if fitting:
            found.append((each, min(fitting, key=lambda frame: abs(frame.time - each.time))))
    return found


def _fits(each: DevicePass, frame: Frame) -> bool:
    header = _ETHERNET if frame.ethernet and not each.outgoing else 0
    same = frame.outgoing == each.outgoing and frame.interface == each.device
    return same and len(frame.raw) - header == each.length
