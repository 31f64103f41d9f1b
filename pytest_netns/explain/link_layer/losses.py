"""What loses a frame between two places: a bridge's port or forwarding database, an mtu, XDP, a filter of tc."""

from __future__ import annotations

from pytest_netns.capture.frame import Frame
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.bridge_port import through_bridge
from pytest_netns.explain.link_layer.frame_path import Gap
from pytest_netns.explain.link_layer.frame_size import TAG, packet_size
from pytest_netns.explain.look.links import LinkDetails, details
from pytest_netns.explain.look.tc_filters import Side, filters
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def lost_at(lab: Lab, gap: Gap) -> Diagnosis | None:
    """Why a frame that was seen at one place was not seen at the next; None if nothing there explains it."""
    missing = gap.missing.interface
    node = missing.node
    if not isinstance(node, Node) or node.closed:
        return None
    if gap.missing.outgoing:
        before = gap.before.interface if gap.before is not None else None
        if isinstance(node, Bridge) and before is not None and gap.frame is not None:
            found = through_bridge(lab, node, before, missing, gap.frame)
            if found is not None:
                return found
        return filtered(missing, "egress") or (filtered(before, "ingress") if before is not None else None)
    return _on_arrival(missing, gap.frame)


def filtered(interface: Interface, side: Side) -> Diagnosis | None:
    """Whether a filter of tc stands on one side of an interface."""
    shown = filters(interface, side)
    if not shown:
        return None
    node = interface.node.name
    return Diagnosis(
        f"a tc filter at {side} of {interface.name!r} of {node!r} takes it: {shown[0]}",
        node,
        [f"{node}: tc filter show dev {interface.name} {side}: {line}" for line in shown],
    )


def queue_drop(kind: str, out: Interface, what: str) -> Diagnosis:
    """A queueing discipline has dropped what should leave an interface."""
    node = out.node.name
    return Diagnosis(
        f"the queueing discipline {kind} (tc) on {out.name!r} of {node!r} drops {what}",
        node,
        [f"{node}: tc -s qdisc show dev {out.name}: its drops have grown"],
        cures=[f"{node}.run(['tc', 'qdisc', 'delete', 'dev', '{out.name}', 'root'])"],
    )


def by_xdp(interface: Interface) -> Diagnosis | None:
    """Whether an XDP program looks at what an interface receives."""
    node = interface.node
    if not isinstance(node, Node) or not _details(interface).xdp:
        return None
    return Diagnosis(
        f"the XDP program on {interface.name!r} of {node.name!r} drops it: it left the far end of the link, and does "
        "not "
        "come in",
        node.name,
        [f"{node.name}: ip link show {interface.name}: an xdp program is attached"],
        cures=[f"{node.name}.run(['ip', 'link', 'set', '{interface.name}', 'xdp', 'off'])"],
    )


def _details(interface: Interface) -> LinkDetails:
    node = interface.node
    assert isinstance(node, Node)
    return details(node)[interface.name]


def _on_arrival(place: Interface, frame: Frame | None) -> Diagnosis | None:
    """At the far end of a link."""
    if (xdp := by_xdp(place)) is not None:
        return xdp
    size = packet_size(frame)
    if size > place.mtu + TAG:
        return Diagnosis(
            f"the frame carries {size} bytes, and the mtu of {place.name!r} of {place.node.name!r} is {place.mtu}: "
            "it is "
            "lost without a word",
            place.node.name,
            [f"{place}: mtu {place.mtu}"],
            cures=[f"{place.node.name}.interfaces[{place.name!r}].mtu = {size}"],
        )
    return None
