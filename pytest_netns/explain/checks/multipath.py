"""One leg of a multipath route is dead: flows that hash to it fail, and others pass."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.flow import Flow, Walk
from pytest_netns.explain.way.on_link import down_reason, reach
from pytest_netns.explain.way.walk import walk
from pytest_netns.kernel.netlink.tables import Route
from pytest_netns.lab.nodes import Node


def check(observation: Observation) -> Diagnosis | None:
    """It works now: follow the other next hops on the way there and back."""
    if not observation.answered:
        return None
    for way in (observation.there, observation.back):
        if way is None:
            continue
        for node, out, hop in way.hops:
            for route in _others(node, observation, way, (out.name, hop)):
                if (found := _dead(observation, node, route, way)) is not None:
                    return found
    return None


def has_alternatives(observation: Observation) -> bool:
    """Whether a node on the way there or back has another next hop that is as good as the one it takes."""
    ways = [way for way in (observation.there, observation.back) if way is not None]
    return any(_others(node, observation, way, (out.name, hop)) for way in ways for node, out, hop in way.hops)


def _others(node: Node, observation: Observation, way: Walk, taken: tuple[str, object]) -> list[Route]:
    address = observation.question.address if way is observation.there else observation.source
    fitting = [
        route
        for route in node.routes(table=None)
        if address is not None
        and route.destination.version == address.version
        and address in route.destination
        and route.gateway is not None
    ]
    chosen = next((route for route in fitting if (route.interface, route.gateway) == taken), None)
    if chosen is None:
        return []
    same = (chosen.destination, chosen.metric, chosen.table)
    return [r for r in fitting if (r.destination, r.metric, r.table) == same and r is not chosen]


def _dead(observation: Observation, node: Node, route: Route, way: Walk) -> Diagnosis | None:
    out = node.interfaces.get(route.interface or "")
    forward = way is observation.there
    source = observation.source if forward else observation.question.address
    destination = observation.question.address if forward else observation.source
    if out is None or route.gateway is None or destination is None:
        return None
    begin = f"{node.name!r} has a multipath route, and its nexthop via {route.gateway} dev {out.name} is dead"
    evidence = [f"{node.name}: {route}"]
    if (reason := down_reason(out)) is not None:
        return Diagnosis(f"{begin}: {reason}", node.name, evidence)
    owner = next(iter(reach(observation.lab, out).owners(route.gateway)), None)
    if owner is None or not isinstance(owner.node, Node):
        return Diagnosis(f"{begin}: nobody on that link has the address", node.name, evidence)
    rest = walk(observation.lab, owner.node, Flow(source, destination), entered_by=owner)
    if rest.fault is None:
        return None
    return Diagnosis(f"{begin}: {rest.fault.cause}", rest.fault.node, [*evidence, *rest.fault.evidence])
