"""Following the path of a packet without sending it: hop by hop, by each node's own tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from socket import IPPROTO_ICMP, IPPROTO_UDP

from pytest_netns.addresses import Address
from pytest_netns.devices.builder import Device
from pytest_netns.devices.kinds import TUNNELS
from pytest_netns.errors import KernelError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.encapsulation import far_end_of
from pytest_netns.explain.look.route_lookup import route_of
from pytest_netns.explain.way.delivery import not_taken
from pytest_netns.explain.way.flow import Flow, Walk, selector
from pytest_netns.explain.way.forwarding import forwarding_fault
from pytest_netns.explain.way.group_members import unanswered_by_members
from pytest_netns.explain.way.hop import size_fault, wrong_neighbour
from pytest_netns.explain.way.no_neighbour import unanswered
from pytest_netns.explain.way.no_route import refused
from pytest_netns.explain.way.on_link import down_reason, has_address, reach, up_again
from pytest_netns.kernel.netlink.tables import Route
from pytest_netns.lab.host import Host
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

_MOST_STEPS = 64


def walk(
    lab: Lab,
    start: Node,
    flow: Flow,
    translate: Callable[[Node, Flow], Flow] | None = None,
    entered_by: Interface | None = None,
    taken: Callable[[Node, Address, Route], Route] | None = None,
) -> Walk:
    """Follow a packet.

    Args:
        lab: where.
        start: from this node on.
        flow: the packet.
        translate: tells what a node makes of its addresses.
        entered_by: where it comes in at the first node; None if that is its sender.
        taken: tells which of several routes that are as good was seen to be taken.
    """
    found = Walk([start])
    node = start
    ttl = flow.ttl
    for _ in range(_MOST_STEPS):
        before, flow = flow, translate(node, flow) if translate is not None else flow
        if flow != before:
            old, new = f"{before.source} -> {before.destination}", f"{flow.source} -> {flow.destination}"
            found.evidence.append(f"{node.name}: translates {old} to {new}")
        # SNAT happens after routing, DNAT before it.
        routed = replace(flow, source=before.source)
        if has_address(node, flow.destination) or flow.destination.is_loopback:
            found.arrived = node
            if entered_by is not None:
                found.fault = not_taken(node, entered_by, routed)
            return found
        if entered_by is not None:
            found.fault = forwarding_fault(node, entered_by, routed)
            if found.fault is None and ttl <= 1:
                found.fault = _ttl_fault(node, flow, found)
            if found.fault is not None:
                return found
            ttl -= 1
        try:
            route = route_of(node, flow.destination, selector(routed, entered_by))
        except KernelError as error:
            found.fault = refused(lab, node, routed, entered_by, error)
            return found
        found.evidence.append(f"{node.name}: ip route get {flow.destination}: {route}")
        route = taken(node, flow.destination, route) if taken is not None else route
        step = _step(lab, node, flow, route, found)
        if step is None:
            return found
        if entered_by is None and flow.destination.version == 6 and not flow.df:
            # Only the sender fragments IPv6 (RFC 8200 5).
            flow = replace(flow, size=min(flow.size, node.interface(route.interface or "").mtu))
        node, entered_by = step
        found.nodes.append(node)
        if found.nodes.index(node) < len(found.nodes) - 1 and flow.ttl >= _MOST_STEPS:
            found.fault = _loop_fault(found)
            return found
    return found


def _step(lab: Lab, node: Node, flow: Flow, route: Route, found: Walk) -> tuple[Node, Interface] | None:
    """To the next node; None if that fails, with the fault noted."""
    out = node.interfaces.get(route.interface or "")
    if route.kind == "broadcast" and (out is None or _is_meant_for_one(lab, node, flow)):
        own = next((each for each in node.addresses() if flow.destination == each.network.broadcast_address), None)
        found.fault = Diagnosis(
            f"{node.name!r} takes {flow.destination} for a broadcast address"
            f"{f', because its own address is {own}' if own is not None else ''}: {route}",
            node.name,
        )
        return None
    if out is None:
        found.fault = Diagnosis(f"{node.name!r} has a {route.kind} route for {flow.destination}: {route}", node.name)
        return None
    reason = down_reason(out)
    if reason is not None:
        found.fault = Diagnosis(reason, node.name, [f"{out}: {out.state.operstate}"], cures=up_again(lab, out))
        return None
    hop = route.gateway or flow.destination
    found.fault = _underlay_fault(lab, node, out, flow.destination, found)
    if found.fault is not None:
        return None
    within = reach(lab, out)
    if hop.is_multicast or route.kind == "broadcast":
        found.fault = unanswered_by_members(lab, node, out, flow, within)
        return None
    owners = within.owners(hop)
    if len({owner.node.inode for owner in owners}) > 1:
        found.duplicates = owners
    if not owners and out.kind in ("tun", "tap"):
        found.fault = Diagnosis(
            f"{node.name!r} sends packets for {flow.destination} into {out.name!r}, a {out.kind} device, and the "
            "program that reads them there does not pass them on",
            node.name,
            [f"{node.name}: {route}"],
        )
        return None
    if not owners:
        found.fault = unanswered(lab, node, out, hop, within, route.gateway is not None)
        return None
    found.hops.append((node, out, hop))
    owner = owners[0]
    assert isinstance(owner.node, Node)
    sender = len(found.nodes) == 1
    found.fault = wrong_neighbour(node, out, hop, owners) or size_fault(node, out, owner, flow, sender)
    return None if found.fault is not None else (owner.node, owner)


def _is_meant_for_one(lab: Lab, node: Node, flow: Flow) -> bool:
    """Whether what a node takes for a broadcast address is that of another node, or is asked for a connection."""
    if flow.protocol not in (IPPROTO_ICMP, IPPROTO_UDP):
        return True
    return any(has_address(other, flow.destination) for other in lab if other is not node)


def _underlay_fault(lab: Lab, node: Node, out: Interface, inner: Address, found: Walk) -> Diagnosis | None:
    """What is wrong below a device: with the link that it lies upon, or with the way to the far end of a tunnel."""
    device = next((each for each in node.devices if each == out), None) if isinstance(node, Host) else None
    if device is None:
        return None
    if device.lower is not None and isinstance(device.lower.node, Node):
        reason = down_reason(device.lower)
        if reason is None and not isinstance(device.lower, Device):
            within = reach(lab, device.lower)
            reason = within.obstacles[0].cause if within.obstacles and not within.members else None
        if reason is not None:
            return Diagnosis(f"{out} ({device.kind}) lies upon {device.lower}: {reason}", node.name)
    remote = far_end_of(device, inner)
    if device.kind in TUNNELS and remote is None:
        found.carriers.append((device, None))
    if remote is not None:
        way = walk(lab, node, Flow(None, remote))
        found.carriers.append((device, way))
        if way.fault is not None:
            evidence = [*way.evidence, *way.fault.evidence]
            return Diagnosis(f"{out} ({device.kind}) leads to {remote}: {way.fault.cause}", way.fault.node, evidence)
    return None


def _ttl_fault(node: Node, flow: Flow, found: Walk) -> Diagnosis:
    if found.nodes.index(node) < len(found.nodes) - 1:
        return _loop_fault(found)
    way = " -> ".join(n.name for n in found.nodes)
    return Diagnosis(
        f"the time to live of {flow.ttl} is used up at {node.name!r}, after {way}", node.name, list(found.evidence)
    )


def _loop_fault(found: Walk) -> Diagnosis:
    """A routing loop: the path has come back to a node; the loop is the part between its last two visits."""
    *before, last = [node.name for node in found.nodes]
    since = len(before) - 1 - before[::-1].index(last)
    return Diagnosis(f"routing loop: {' -> '.join([*before[since:], last])}", last, list(found.evidence))
