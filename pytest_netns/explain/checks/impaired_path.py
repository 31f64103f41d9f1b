"""The path is impaired on purpose, and the loss or delay is what the test asked for."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.impairments import MOSTLY, as_cause, as_delay


def loses_most(observation: Observation) -> Diagnosis | None:
    """The impairments make it likely that the request is lost."""
    found = observation.impaired_there
    cause = as_cause(found, least=MOSTLY)
    return Diagnosis(cause, found[0].interface.node.name, observation.there.evidence) if cause is not None else None


def loses_some(observation: Observation) -> Diagnosis | None:
    """The request or the reply may have been lost at random."""
    found = observation.impaired
    cause = as_cause(found)
    return Diagnosis(cause, found[0].interface.node.name) if cause is not None else None


def is_slow(observation: Observation) -> Diagnosis | None:
    """The answer may arrive after the timeout."""
    found = observation.impaired
    late = as_delay(found)
    return Diagnosis(f"no answer came in time{late}", found[0].interface.node.name) if late else None
