"""Packets: the last frames of a failed test as a sequence diagram.

They come from the captures that the test itself opened in the lab, or from the recorder of ``--netns-pcap``. Otherwise
nothing is captured: closing a packet socket takes the kernel an RCU grace period (8 to 24 ms, in the background), and
keeps the namespace alive for as long. Every passing test would pay that price for each node.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_netns.capture.capture import Capture
from pytest_netns.capture.frame import Frame, is_chatter
from pytest_netns.capture.sequence_diagram import ladder
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab


def recorded(lab: Lab, frames: Sequence[Frame], most: int) -> str:
    """The last recorded frames of a lab; empty if there are none.

    Args:
        lab: the lab; it may be closed.
        frames: all recorded frames; neighbour discovery, MLD and IGMP are left out of the diagram.
        most: maximum number of rows.
    """
    shown = [frame for frame in frames if not is_chatter(frame.data, frame.ethernet)]
    if not shown:
        return ""
    switches = [node.name for node in lab if isinstance(node, Bridge)]
    owners = {a.ip.packed: node.name for node in lab if not node.closed for a in node.addresses()}
    return f"recorded on every interface:\n{ladder(shown, whole=True, switches=switches, owners=owners, most=most)}"


def captured(captures: Sequence[Capture], since: int, most: int) -> str:
    """The last frames of a test's captures; empty if there are none.

    Args:
        captures: the captures of one lab, oldest first.
        since: start of the test in nanoseconds since 1970; older frames belong to another test.
        most: maximum number of rows.
    """
    whole = [capture for capture in captures if capture.is_whole and _since(capture, since)]
    for capture in whole[-1:]:  # a capture of the whole lab has the frames of all others
        return f"{capture.label}, as captured by the test:\n{capture.ladder(_since(capture, since), most=most)}"
    found: dict[tuple[int, str, str, bool, bytes], Frame] = {}
    labels: list[str] = []
    for capture in captures:
        fresh = _since(capture, since)
        labels += [capture.label] if fresh else []
        found |= {(f.time, f.node, f.interface, f.outgoing, f.data): f for f in fresh}
    if not found:
        return ""
    frames = [found[key] for key in sorted(found, key=lambda key: key[0])]
    return f"{', '.join(dict.fromkeys(labels))}, as captured by the test:\n{captures[-1].ladder(frames, most=most)}"


def _since(capture: Capture, since: int) -> list[Frame]:
    return [frame for frame in capture.frames if frame.time >= since]
