"""A next hop that should answer ARP or neighbour discovery does not."""

from __future__ import annotations

from pytest_netns.explain.conditions import OFTEN, as_cause, as_delay
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.neighbours import deaf_neighbour
from pytest_netns.explain.observation import Observation


def check(observation: Observation) -> Diagnosis | None:
    """The first one on the way there that is silent, asked once more."""
    there, impaired = observation.there, observation.impaired_there
    silent = deaf_neighbour(observation.lab, there)
    if silent is None:
        return None
    cause = as_cause(impaired, least=OFTEN) or f"{silent.cause}{as_delay(impaired, rates=False)}"
    return Diagnosis(cause, silent.node, [*there.evidence, *silent.evidence], cures=silent.cures)
