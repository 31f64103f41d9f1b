"""A qdisc drops outgoing packets: its drop counter has grown, and no packet was seen to leave there."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.losses import queue_drop
from pytest_netns.explain.look.counters import PLACES_FOR_FILTERS, Growth
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.on_link import reach
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def check(observation: Observation) -> Diagnosis | None:
    """At the interfaces by which the request, the reply, or an ARP request for one of their next hops should leave."""
    if observation.answered:
        return None
    for node, out in _places(observation):
        name = observation.name_of(node)
        if node.impairments.setting(out) is not None:  # this package's own impairment, on purpose
            continue
        growth = _of(observation.grown.get(name, ()), out)
        if growth is None or any(observation.passed(role, out, outgoing=True) for role in ("request", "reply")):
            continue
        found = queue_drop(growth.name.split()[2], out, "what should leave there")
        found.evidence.append(f"{node.name}: {growth}")
        return found
    return None


def _places(observation: Observation) -> Iterator[tuple[Node, Interface]]:
    for way in (observation.there, observation.back):
        for node, out, hop in way.hops if way is not None else ():
            yield node, out
            for owner in reach(observation.lab, out).owners(hop):  # who answers the search for it
                if isinstance(owner.node, Node):
                    yield owner.node, owner


def _of(grown: list[Growth] | tuple[()], out: Interface) -> Growth | None:
    ending = f" on {out.name}: drops"
    found = (each for each in grown if each.name.startswith("tc qdisc ") and each.name.endswith(ending))
    return next((each for each in found if each.name.split()[2] not in PLACES_FOR_FILTERS), None)
