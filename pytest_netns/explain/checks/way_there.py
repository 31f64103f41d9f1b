"""The way of the request ends by the nodes' own tables: a link, port, route, neighbour, sysctl or mtu."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation


def check(observation: Observation) -> Diagnosis | None:
    """Where a packet of the probe does not go on."""
    there = observation.there
    if there.fault is None:
        return None
    fault = there.fault
    return Diagnosis(fault.cause, fault.node, [*there.evidence, *fault.evidence], cures=fault.cures)
