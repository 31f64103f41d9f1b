"""No neighbour: no reachable interface has the address of a next hop."""

from __future__ import annotations

from pytest_netns.addresses import Address
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.route_lookup import sysctl
from pytest_netns.explain.way.on_link import Reach, connected, down_reason, has_address, reach, up_again
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def unanswered(lab: Lab, node: Node, out: Interface, hop: Address, within: Reach, gateway: bool) -> Diagnosis:
    """Why no reachable interface has the address of a next hop, or of the destination itself."""
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
        off = next((i for i in within.members if hop.version == 6 and _without_ipv6(i)), None)
        if off is not None:
            name = f"net/ipv6/conf/{off.name}/disable_ipv6"
            return Diagnosis(
                f"{asked}: nobody on that link has the address, and IPv6 is disabled on {off} "
                f"({name.replace('/', '.')} is "
                "1), which takes its addresses away",
                off.node.name,
                [*evidence, f"{off.node.name}: sysctl {name.replace('/', '.')} = 1"],
                cures=[f'{off.node.name}.sysctl["{name}"] = 0, and its addresses again'],
            )
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


def _without_ipv6(interface: Interface) -> bool:
    node = interface.node
    return isinstance(node, Node) and bool(sysctl(node, f"net/ipv6/conf/{interface.name}/disable_ipv6"))


def _too_wide(node: Node, out: Interface, address: Address, holder: Node) -> str:
    """Whether a node treats a remote address as on-link because its own prefix is too short."""
    mine = next((a for a in out.addresses if a.version == address.version and address in a.network), None)
    theirs = next((a for a in holder.addresses() if a.ip == address), None)
    if mine is None or theirs is None or mine.network.prefixlen >= theirs.network.prefixlen:
        return ""
    return (
        f"; {node.name!r} takes it for a neighbour because its own prefix is too wide: {mine} (the other is {theirs})"
    )


def link_fault(lab: Lab, node: Node, out: Interface, address: Address) -> Diagnosis | None:
    """Why no node answers for an address on the link of an interface; None if one should."""
    reason = down_reason(out)
    if reason is not None:
        return Diagnosis(reason, node.name, [f"{out}: {out.state.operstate}"], cures=up_again(lab, out))
    within = reach(lab, out)
    if within.owners(address):
        return None
    return unanswered(lab, node, out, address, within, gateway=False)
