"""A rule sets a firewall mark, and the mark selects another routing table."""

from __future__ import annotations

import os
from ipaddress import ip_address

from pytest_netns.errors import KernelError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.ip_rules import marks
from pytest_netns.explain.look.marking import sets_marks
from pytest_netns.explain.look.route_lookup import best_route, deciding_rule, route_of
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observed_packets import last_of
from pytest_netns.kernel.netlink.rtnetlink import Selector


def check(observation: Observation) -> Diagnosis | None:
    """At the node where the packet ends: with one of the marks that its rules set, it has no route there."""
    if observation.answered:
        return None
    if not observation.seen:
        return _at_the_sender(observation)
    if observation.stuck is None:
        return None
    role, node, place = observation.stuck
    if any(stage.name in ("forward", "input") for stage in observation.stages(node, role)):
        return None  # it was routed
    last = last_of(observation.of_role(role))
    source, destination = ip_address(last.source), ip_address(last.destination)
    for mark in marks(node, destination.version):
        if not sets_marks(node):
            return None
        packet = Selector(source, place.index, mark, observation.protocol, last.ports)
        try:
            route_of(node, destination, packet)
        except KernelError as error:
            rule = deciding_rule(node, destination, packet, place.name)
            route = best_route(node, rule.table, destination) if rule is not None and rule.action == "lookup" else None
            where = f" by which it falls to {route} of table {rule.table}" if rule is not None and route else ""
            return Diagnosis(
                f"{node.name!r} marks {source} -> {destination} with {mark:#x}, and has an ip rule ({rule}){where}",
                node.name,
                [f"{node.name}: {error.operation}: {os.strerror(error.errno)}"],
            )
    return None


def _at_the_sender(observation: Observation) -> Diagnosis | None:
    """No packet left: a mark set in the output path selects another table."""
    node, destination = observation.question.node, observation.question.address
    for mark in marks(node, destination.version) if sets_marks(node) else ():
        packet = Selector(None, 0, mark, observation.protocol)
        try:
            route_of(node, destination, packet)
        except KernelError as error:
            rule = deciding_rule(node, destination, packet, "")
            if rule is None:
                continue
            route = best_route(node, rule.table, destination) if rule.action == "lookup" else None
            where = f", by which it falls to {route} of table {rule.table}" if route is not None else ""
            return Diagnosis(
                f"{node.name!r} marks what it sends to {destination} with {mark:#x}, and has an ip rule "
                f"({rule}){where}",
                node.name,
                [f"{node.name}: {error.operation}: {os.strerror(error.errno)}"],
            )
    return None
