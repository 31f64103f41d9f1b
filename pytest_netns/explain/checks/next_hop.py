"""A next hop that should answer ARP or neighbour discovery does not."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.unresolved_neighbour import unresolved_neighbour
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.impairments import OFTEN, as_cause, as_delay


def check(observation: Observation) -> Diagnosis | None:
    """The first next hop on the way there that does not answer, queried once more."""
    there, impaired = observation.there, observation.impaired_there
    silent = unresolved_neighbour(observation.lab, there)
    if silent is None:
        return None
    cause = as_cause(impaired, least=OFTEN) or f"{silent.cause}{as_delay(impaired, rates=False)}"
    return Diagnosis(cause, silent.node, [*there.evidence, *silent.evidence], cures=silent.cures)
