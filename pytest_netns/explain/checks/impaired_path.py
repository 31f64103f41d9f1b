"""The way is impaired on purpose, and what is lost or late is what the test asked for."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.impairments import MOSTLY, as_cause, as_delay


def loses_most(observation: Observation) -> Diagnosis | None:
    """Silence is what must be expected on the way there."""
    found = observation.impaired_there
    cause = as_cause(found, least=MOSTLY)
    return Diagnosis(cause, found[0].interface.node.name, observation.there.evidence) if cause is not None else None


def loses_some(observation: Observation) -> Diagnosis | None:
    """Chance may have lost the request or the reply."""
    found = observation.impaired
    cause = as_cause(found)
    return Diagnosis(cause, found[0].interface.node.name) if cause is not None else None


def is_slow(observation: Observation) -> Diagnosis | None:
    """The answer may be later than was waited."""
    found = observation.impaired
    late = as_delay(found)
    return Diagnosis(f"no answer came in time{late}", found[0].interface.node.name) if late else None
