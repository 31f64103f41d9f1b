"""No route: why a node's kernel cannot route a packet."""

from __future__ import annotations

import os

from pytest_netns.addresses import IPV6_MIN_MTU, is_of_link
from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.route_lookup import sysctl, why_refused
from pytest_netns.explain.way.flow import Flow, selector
from pytest_netns.explain.way.on_link import connected, down_reason, has_address, reach, up_again
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.lab.router import Router
from pytest_netns.stack.interface import Interface


def refused(lab: Lab, node: Node, flow: Flow, entered_by: Interface | None, error: KernelError) -> Diagnosis:
    """Why the kernel cannot route a packet: because of its properties, or of its destination."""
    name = entered_by.name if entered_by is not None else ""
    why = why_refused(node, flow.destination, selector(flow, entered_by), name, error)
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
    own = [a for a in node.addresses() if not is_of_link(a)]
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
    """Calls that add the route that a node lacks, if one of its neighbours has a route."""
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
    """An interface with IPv6 disabled, on a link where other interfaces have it."""
    for name, interface in node.interfaces.items():
        if name != "lo" and sysctl(node, f"net/ipv6/conf/{name}/disable_ipv6"):
            members = reach(lab, interface).members
            if any(a.version == 6 and not a.is_link_local for member in members for a in member.addresses):
                return interface
    return None
