"""Walking the way of a packet without sending it: route by route, by each node's own tables."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pytest_netns.addresses import IPV6_MIN_MTU, Address
from pytest_netns.devices.builder import Device
from pytest_netns.devices.tunnels import TUNNELS
from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.routing import has_route, route_of, sysctl, why_refused
from pytest_netns.explain.segment import Reach, connected, down_reason, has_address, reach, up_again
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.rtnetlink import Selector
from pytest_netns.kernel.netlink.tables import Route
from pytest_netns.lab.host import Host
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.lab.router import Router
from pytest_netns.stack.interface import Interface

_MOST_STEPS = 64
_VLAN_TAG = 4
_LOCAL_TABLE = 255
_TENTATIVE, _DAD_FAILED = 0x40, 0x08


@dataclass(frozen=True, slots=True)
class Flow:
    """What is on its way.

    Attributes:
        source: its source address; None if that is not known.
        destination: its destination address.
        size: bytes with headers.
        ttl: time to live.
        df: whether it may not be fragmented.
        protocol: number of its IP protocol; 0 if that is not known.
        ports: source and destination port, 0 where not known.
        bound: whether the sender has chosen the source address before the route, as one that answers has.
    """

    source: Address | None
    destination: Address
    size: int = 84
    ttl: int = 64
    df: bool = False
    protocol: int = 0
    ports: tuple[int, int] = (0, 0)
    bound: bool = False


@dataclass(slots=True)
class Walk:
    """The way of a packet as the tables have it.

    Attributes:
        nodes: those it passes, the sender first.
        arrived: the node that has the destination address; None if it does not get there.
        fault: what ends the way; None if nothing does.
        evidence: the routes that were taken.
        duplicates: interfaces that all have the address of some step.
        hops: who looked for which next hop on which interface.
        carriers: the devices on the way that carry it in packets of their own, with the way of those where it is known.
    """

    nodes: list[Node] = field(default_factory=list)
    arrived: Node | None = None
    fault: Diagnosis | None = None
    evidence: list[str] = field(default_factory=list)
    duplicates: list[Interface] = field(default_factory=list)
    hops: list[tuple[Node, Interface, Address]] = field(default_factory=list)
    carriers: list[tuple[Device, Walk | None]] = field(default_factory=list)


def walk(
    lab: Lab,
    start: Node,
    flow: Flow,
    translate: Callable[[Node, Flow], Flow] | None = None,
    entered_by: Interface | None = None,
) -> Walk:
    """Follow a packet.

    Args:
        lab: where.
        start: from this node on.
        flow: the packet.
        translate: tells what a node makes of its addresses.
        entered_by: where it comes in at the first node; None if that is its sender.
    """
    found = Walk([start])
    node = start
    ttl = flow.ttl
    for _ in range(_MOST_STEPS):
        before, flow = flow, translate(node, flow) if translate is not None else flow
        if flow != before:
            old, new = f"{before.source} -> {before.destination}", f"{flow.source} -> {flow.destination}"
            found.evidence.append(f"{node.name}: translates {old} to {new}")
        # Source addresses are translated behind routing, destination addresses before it.
        routed = replace(flow, source=before.source)
        if has_address(node, flow.destination) or flow.destination.is_loopback:
            found.arrived = node
            if entered_by is not None:
                found.fault = _not_taken(node, entered_by, routed)
            return found
        if entered_by is not None:
            found.fault = _forwarding_fault(node, entered_by, routed)
            if found.fault is None and ttl <= 1:
                found.fault = _ttl_fault(node, flow, found)
            if found.fault is not None:
                return found
            ttl -= 1
        try:
            route = route_of(node, flow.destination, _selector(routed, entered_by))
        except KernelError as error:
            found.fault = _refused(lab, node, routed, entered_by, error)
            return found
        found.evidence.append(f"{node.name}: ip route get {flow.destination}: {route}")
        step = _step(lab, node, flow, route, found)
        if step is None:
            return found
        if entered_by is None and flow.destination.version == 6 and not flow.df:
            # The sender, and nobody else, fragments IPv6 (RFC 8200 5).
            flow = replace(flow, size=min(flow.size, node.interface(route.interface or "").mtu))
        node, entered_by = step
        found.nodes.append(node)
        if found.nodes.index(node) < len(found.nodes) - 1 and flow.ttl >= _MOST_STEPS:
            found.fault = _loop_fault(found)
            return found
    return found


def _selector(flow: Flow, entered_by: Interface | None) -> Selector:
    known = flow.source is not None and (entered_by is not None or flow.bound)
    iif = entered_by.index if entered_by is not None and flow.source is not None else 0
    return Selector(flow.source if known else None, iif, 0, flow.protocol, flow.ports)


def _refused(lab: Lab, node: Node, flow: Flow, entered_by: Interface | None, error: KernelError) -> Diagnosis:
    """Why the kernel has no way for a packet: because of what it is, or of where it goes."""
    name = entered_by.name if entered_by is not None else ""
    why = why_refused(node, flow.destination, _selector(flow, entered_by), name, error)
    if why is not None:
        return Diagnosis(f"{node.name!r} {why.reason}", node.name, why.evidence)
    try:
        route = node.route_to(flow.destination)
    except KernelError as plain:
        return _no_route(lab, node, flow, plain)
    place = f" as it comes in at {name!r}" if name else ""
    what = f"{flow.source} -> {flow.destination}"
    return Diagnosis(
        f"{node.name!r} refuses {what}{place} ({error.detail or os.strerror(error.errno)}), though it has a route to "
        f"{flow.destination}",
        node.name,
        [f"{node.name}: {error.operation}: {os.strerror(error.errno)}", f"{node.name}: {route}"],
    )


def _not_taken(node: Node, entered_by: Interface, flow: Flow) -> Diagnosis | None:
    """Whether the node that has the address takes the packet for its own."""
    if flow.source is None or has_address(node, flow.source):
        return None
    if (fault := rp_filter_fault(node, entered_by, flow)) is not None:
        return fault
    packet = _selector(flow, entered_by)
    try:
        route_of(node, flow.destination, packet)
    except KernelError as error:
        why = why_refused(node, flow.destination, packet, entered_by.name, error)
        if why is not None:
            return Diagnosis(f"{node.name!r} {why.reason}", node.name, why.evidence)
    return None if flow.destination.is_loopback else not_local(node, entered_by, flow.destination)


def not_local(node: Node, place: Interface, address: Address) -> Diagnosis | None:
    """Whether a node's local table lacks an address that it has: then it neither takes packets for it nor answers "
    "ARP."""
    if (fault := _tentative(node, place, address)) is not None or has_route(node, _LOCAL_TABLE, address):
        return fault
    return Diagnosis(
        f"{node.name!r} has the address {address}, but does not take packets for it: its local table (ip route show "
        "table "
        "local) has no entry for it",
        node.name,
        [f"{node.name}: ip route show table local: nothing for {address}"],
        cures=[
            f"{node.name}.run(['ip', 'route', 'add', 'local', '{address}', 'dev', '{place.name}', 'table', 'local'])"
        ],
    )


def _tentative(node: Node, place: Interface, address: Address) -> Diagnosis | None:
    for body in node.rtnl.dump(rtnetlink.address_dump()):
        _, _, flags, _, _ = struct.unpack_from("=BBBBI", body)
        if address.packed in body and flags & (_TENTATIVE | _DAD_FAILED):
            word = "dadfailed" if flags & _DAD_FAILED else "tentative"
            why = "somebody else has it (duplicate address detection)" if word == "dadfailed" else "not in use yet"
            return Diagnosis(
                f"{node.name!r} does not answer for {address}: the address is {word} on {place.name!r}: {why}",
                node.name,
                [f"{node.name}: ip address show {place.name}: {address} {word}"],
            )
    return None


def _step(lab: Lab, node: Node, flow: Flow, route: Route, found: Walk) -> tuple[Node, Interface] | None:
    """To the next node; None if that fails, with the fault noted."""
    out = node.interfaces.get(route.interface or "")
    if route.kind == "broadcast":
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
    found.fault = _underlay_fault(lab, node, out, found)
    if found.fault is not None:
        return None
    within = reach(lab, out)
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
        found.fault = _unanswered(lab, node, out, hop, within, route.gateway is not None)
        return None
    found.hops.append((node, out, hop))
    owner = owners[0]
    assert isinstance(owner.node, Node)
    sender = len(found.nodes) == 1
    found.fault = _wrong_neighbour(node, out, hop, owners) or _size_fault(node, out, owner, flow, sender)
    return None if found.fault is not None else (owner.node, owner)


def _underlay_fault(lab: Lab, node: Node, out: Interface, found: Walk) -> Diagnosis | None:
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
    if device.kind in TUNNELS and device.remote is None:
        found.carriers.append((device, None))
    if device.remote is not None:
        way = walk(lab, node, Flow(None, device.remote))
        found.carriers.append((device, way))
        if way.fault is not None:
            evidence = [*way.evidence, *way.fault.evidence]
            return Diagnosis(
                f"{out} ({device.kind}) leads to {device.remote}: {way.fault.cause}", way.fault.node, evidence
            )
    return None


def _size_fault(node: Node, out: Interface, to: Interface, flow: Flow, sender: bool) -> Diagnosis | None:
    """Whether a packet is too large for an interface, or its fragments for the one at the far end."""
    mtu, far = out.mtu, to.mtu
    whole = flow.df or (flow.destination.version == 6 and not sender)
    if flow.size > mtu and whole:
        return Diagnosis(
            f"the packet has {flow.size} bytes and may not be fragmented, and the mtu of {out.name!r} of {node.name!r} "
            f"is {mtu}",
            node.name,
            [f"{out}: mtu {mtu}"],
        )
    # is_skb_forwardable() lets a VLAN tag more than the mtu pass
    if min(flow.size, mtu) > far + _VLAN_TAG:
        return Diagnosis(
            f"{out} sends packets of up to {mtu} bytes (its mtu), and the mtu of {to.name!r} of {to.node.name!r} is "
            f"{far}: larger ones are lost without a word",
            to.node.name,
            [f"{out}: mtu {mtu}", f"{to}: mtu {far}"],
            cures=[f"{to.node.name}.interfaces[{to.name!r}].mtu = {mtu}"],
        )
    return None


def _wrong_neighbour(node: Node, out: Interface, hop: Address, owners: list[Interface]) -> Diagnosis | None:
    """Whether the node takes somebody else for its next hop."""
    macs = [owner.mac for owner in owners]
    for known in node.neighbours():
        if (known.address, known.interface) == (hop, out.name) and known.mac is not None and known.mac not in macs:
            return Diagnosis(
                f"{node.name!r} sends to the wrong MAC address: its neighbour table has {known.mac} ({known.state}) "
                f"for {hop}, and {owners[0]} has {macs[0]}",
                node.name,
                [f"{node.name}: ip neighbour show {hop}: {known.mac} {known.state}"],
                cures=[f"{node.name}.run(['ip', 'neighbour', 'delete', '{hop}', 'dev', '{out.name}'])"],
            )
    return None


def _unanswered(lab: Lab, node: Node, out: Interface, hop: Address, within: Reach, gateway: bool) -> Diagnosis:
    protocol = "ARP" if hop.version == 4 else "neighbour discovery"
    states = [f"{n.address} {n.state}" for n in node.neighbours() if n.address == hop]
    evidence = [f"{node.name}: ip neighbour show {hop}: {', '.join(states) or 'nothing'}"]
    holders = [other for other in lab if other is not node and has_address(other, hop)]
    for holder in holders:
        obstacle = within.obstacle_to(holder)
        if obstacle is not None:
            return Diagnosis(obstacle.cause, obstacle.node, evidence, cures=obstacle.cures)
    role = "the next hop" if gateway else "the destination"
    asked = f"{protocol} on {out} for {hop}, {role}, is unanswered"
    if not holders:
        blocked = f"; out of reach: {'; '.join(o.cause for o in within.obstacles)}" if within.obstacles else ""
        return Diagnosis(f"{asked}: nobody in the lab has that address{blocked}", node.name, evidence)
    if not within.members and within.obstacles:
        first = within.obstacles[0]
        return Diagnosis(first.cause, first.node, evidence, cures=first.cures)
    holder = holders[0]
    if not connected(lab, node, holder):
        return Diagnosis(
            f"{node.name!r} and {holder.name!r} are not connected: there is no chain of links between them",
            node.name,
            evidence,
        )
    places = ", ".join(f"{i}" for n, i in holder.interfaces.items() if n != "lo") or "no interface"
    wide = "" if gateway else _too_wide(node, out, hop, holder)
    return Diagnosis(f"{asked}: {holder.name!r} has it, but is not on that link ({places}){wide}", node.name, evidence)


def _too_wide(node: Node, out: Interface, address: Address, holder: Node) -> str:
    """Whether a node takes somebody for a neighbour because its own prefix is wider than theirs."""
    mine = next((a for a in out.addresses if a.version == address.version and address in a.network), None)
    theirs = next((a for a in holder.addresses() if a.ip == address), None)
    if mine is None or theirs is None or mine.network.prefixlen >= theirs.network.prefixlen:
        return ""
    return (
        f"; {node.name!r} takes it for a neighbour because its own prefix is too wide: {mine} (the other is {theirs})"
    )


def link_fault(lab: Lab, node: Node, out: Interface, address: Address) -> Diagnosis | None:
    """Why nobody answers for an address on the link of an interface; None if somebody should."""
    reason = down_reason(out)
    if reason is not None:
        return Diagnosis(reason, node.name, [f"{out}: {out.state.operstate}"], cures=up_again(lab, out))
    within = reach(lab, out)
    if within.owners(address):
        return None
    return _unanswered(lab, node, out, address, within, gateway=False)


def _no_route(lab: Lab, node: Node, flow: Flow, error: KernelError) -> Diagnosis:
    destination = flow.destination
    evidence = [f"{node.name}: ip route get {destination}: {error.detail or os.strerror(error.errno)}"]
    refusing = [
        r
        for r in node.routes()
        if r.kind in ("blackhole", "unreachable", "prohibit")
        and r.destination.version == destination.version
        and destination in r.destination
    ]
    if refusing:
        best = max(refusing, key=lambda r: r.destination.prefixlen)
        return Diagnosis(f"{node.name!r} has a {best.kind} route for {destination}: {best}", node.name, evidence)
    own = [a for a in node.addresses() if not a.is_link_local]
    evidence += [f"{node.name}: addresses {', '.join(map(str, own)) or 'none'}"]
    evidence += [f"{node.name}: {route}" for route in node.routes() if route.destination.version == destination.version]
    for interface in node.interfaces.values():
        if interface.name != "lo" and (reason := down_reason(interface)) is not None:
            return Diagnosis(reason, node.name, evidence, cures=up_again(lab, interface))
    if destination.version == 6:
        for interface in node.interfaces.values():
            if interface.mtu < IPV6_MIN_MTU:
                return Diagnosis(
                    f"{interface} has no IPv6: its mtu is {interface.mtu}, and IPv6 needs {IPV6_MIN_MTU} bytes "
                    "(RFC 8200 section 5)",
                    node.name,
                    evidence,
                )
    if destination.version == 6 and (disabled := _without_ipv6(lab, node)) is not None:
        name = f"net/ipv6/conf/{disabled.name}/disable_ipv6"
        return Diagnosis(
            f"IPv6 is disabled on {disabled} ({name.replace('/', '.')} is 1): {node.name!r} has no route to "
            f"{destination}",
            node.name,
            evidence,
            cures=[f'{node.name}.sysctl["{name}"] = 0, and its addresses again'],
        )
    if not any(a.version == destination.version for a in own):
        return Diagnosis(f"{node.name!r} has no IPv{destination.version} address", node.name, evidence)
    holders = [other for other in lab if other is not node and has_address(other, destination)]
    for interface in node.interfaces.values():
        for member in reach(lab, interface).members:
            if member.node in holders:
                theirs = next(a for a in member.node.addresses() if a.ip == destination)
                mine = ", ".join(str(a) for a in own if a.version == destination.version)
                return Diagnosis(
                    f"{node.name!r} ({mine}) and {member.node.name!r} ({theirs}) are on one link but in different "
                    f"subnets, and {node.name!r} has no route to {destination}",
                    node.name,
                    evidence,
                )
    if holders and not connected(lab, node, holders[0]):
        return Diagnosis(
            f"{node.name!r} and {holders[0].name!r} are not connected: there is no chain of links between them",
            node.name,
            evidence,
        )
    return Diagnosis(
        f"{node.name!r} has no route to {destination}", node.name, evidence, cures=_routes(lab, node, flow)
    )


def _routes(lab: Lab, node: Node, flow: Flow) -> list[str]:
    """Calls that give a node the route it lacks, where somebody in its neighbourhood has one."""
    destination = flow.destination
    if not any(has_address(other, destination) for other in lab):
        return []
    found = ["lab.autoroute()"]
    for interface in node.interfaces.values():
        if interface.name == "lo":
            continue
        for member in reach(lab, interface).members:
            router = member.node
            if not isinstance(router, Router) or router is node:
                continue
            try:
                router.route_to(destination)
            except NetnsError:
                continue
            return [f"{node.name}.default_route(via={router.name})", *found]
    return found


def _without_ipv6(lab: Lab, node: Node) -> Interface | None:
    """An interface on which IPv6 is switched off, and on whose link others have it."""
    for name, interface in node.interfaces.items():
        if name != "lo" and sysctl(node, f"net/ipv6/conf/{name}/disable_ipv6"):
            members = reach(lab, interface).members
            if any(a.version == 6 and not a.is_link_local for member in members for a in member.addresses):
                return interface
    return None


def _forwarding_fault(node: Node, entered_by: Interface, flow: Flow) -> Diagnosis | None:
    version = flow.destination.version
    whole = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    deciding = f"net/ipv4/conf/{entered_by.name}/forwarding" if version == 4 else whole
    if not sysctl(node, deciding):
        partly = bool(sysctl(node, whole))
        shown, what = (deciding, f" that comes in at {entered_by.name!r}") if partly else (whole, "")
        return Diagnosis(
            f"{node.name!r} does not forward IPv{version}{what}: {shown.replace('/', '.')} is {sysctl(node, shown)}",
            node.name,
            [
                f"{node.name}: sysctl {name.replace('/', '.')} = {sysctl(node, name)}"
                for name in dict.fromkeys((whole, deciding))
            ],
            cures=[f'{node.name}.sysctl["{shown}"] = 1'],
        )
    return rp_filter_fault(node, entered_by, flow)


def rp_filter_fault(node: Node, entered_by: Interface, flow: Flow) -> Diagnosis | None:
    """Whether a node drops a packet because it would send to its source by another interface (RFC 3704)."""
    if flow.destination.version != 4 or flow.source is None:
        return None
    of_interface = sysctl(node, f"net/ipv4/conf/{entered_by.name}/rp_filter")
    value = max(sysctl(node, "net.ipv4.conf.all.rp_filter"), of_interface)
    if not value:
        return None
    try:
        back: Route | None = node.route_to(flow.source)
    except KernelError:
        back = None
    if back is not None and (value == 2 or back.interface == entered_by.name):
        return None
    way = f"its route back is {back}" if back else "it has no route back"
    return Diagnosis(
        f"rp_filter={value} on {entered_by} drops packets from {flow.source}: {way}",
        node.name,
        [f"{node.name}: sysctl net.ipv4.conf.{entered_by.name}.rp_filter = {of_interface}"],
        cures=[f'{node.name}.sysctl["net/ipv4/conf/{name}/rp_filter"] = 0' for name in ("all", entered_by.name)],
    )


def _ttl_fault(node: Node, flow: Flow, found: Walk) -> Diagnosis:
    if found.nodes.index(node) < len(found.nodes) - 1:
        return _loop_fault(found)
    way = " -> ".join(n.name for n in found.nodes)
    return Diagnosis(
        f"the time to live of {flow.ttl} is used up at {node.name!r}, after {way}", node.name, list(found.evidence)
    )


def _loop_fault(found: Walk) -> Diagnosis:
    """The way has come back to a node: the loop is what lies between its last two visits."""
    *before, last = [node.name for node in found.nodes]
    since = len(before) - 1 - before[::-1].index(last)
    return Diagnosis(f"routing loop: {' -> '.join([*before[since:], last])}", last, list(found.evidence))
