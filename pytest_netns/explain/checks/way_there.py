"""The path of the request ends by the nodes' own tables: a link, port, route, neighbour, sysctl or MTU."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation


def check(observation: Observation) -> Diagnosis | None:
    """The node where a packet of the probe goes no further."""
    there = observation.there
    if there.fault is None:
        return None
    fault = there.fault
    return Diagnosis(fault.cause, fault.node, [*there.evidence, *fault.evidence], cures=fault.cures)
