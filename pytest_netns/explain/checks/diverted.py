"""A packet leaves a node by an interface that its routes do not give: a tc filter or a firewall mark diverted it."""

from __future__ import annotations

from ipaddress import ip_address

from pytest_netns.errors import KernelError
from pytest_netns.explain.checks.time_to_live import ttl_of
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.losses import filtered
from pytest_netns.explain.look.ip_rules import marks
from pytest_netns.explain.look.marking import sets_marks
from pytest_netns.explain.look.route_lookup import deciding_rule, route_of
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observed_packets import ObservedPacket, Role
from pytest_netns.explain.way.flow import Walk
from pytest_netns.kernel.netlink.rtnetlink import Selector
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def check(observation: Observation) -> Diagnosis | None:
    """The first node on the path of the request, or of the reply, that it left by another interface."""
    if observation.answered:
        return None
    ways: tuple[tuple[Role, Walk | None], ...] = (("request", observation.there), ("reply", observation.back))
    for role, way in ways:
        for node, out, _ in way.hops if way is not None else ():
            if not observation.passed(role, out, outgoing=True) and (found := _at(observation, role, node, out)):
                return found
    return None


def _at(observation: Observation, role: Role, node: Node, out: Interface) -> Diagnosis | None:
    name = observation.name_of(node)
    here = [each for each in observation.of_role(role) if each.frame.node == name]
    came = next((each for each in here if not each.frame.outgoing), None)
    went = next((each for each in here if each.frame.outgoing), None)
    if went is None or went.frame.interface == out.name:
        return None
    says = f"the {role} leaves {node.name}:{went.frame.interface}, and the route leads out of {out.name}"
    if came is not None and ttl_of(came) == ttl_of(went):  # it was not routed
        place = node.interfaces.get(came.frame.interface)
        found = filtered(place, "ingress") if place is not None else None
        if found is not None:
            found.evidence.append(f"{says}, with the time to live with which it came in: it was not routed")
        return found
    return _by_mark(observation, node, came, went, says)


def _by_mark(
    observation: Observation, node: Node, came: ObservedPacket | None, went: ObservedPacket, says: str
) -> Diagnosis | None:
    source, destination = ip_address((came or went).source), ip_address(went.destination)
    place = node.interfaces.get(came.frame.interface) if came is not None else None
    for mark in marks(node, destination.version) if sets_marks(node) else ():
        iif = place.index if place is not None else 0
        packet = Selector(source, iif, mark, observation.protocol, (came or went).ports)
        try:
            route = route_of(node, destination, packet)
        except KernelError:
            continue
        if route.interface != went.frame.interface:
            continue
        rule = deciding_rule(node, destination, packet, place.name if place is not None else "")
        return Diagnosis(
            f"{node.name!r} marks {source} -> {destination} with {mark:#x}, and has an ip rule ({rule}) by which it "
            "goes "
            f"out of {went.frame.interface!r}: {route}",
            node.name,
            [says],
        )
    return None
