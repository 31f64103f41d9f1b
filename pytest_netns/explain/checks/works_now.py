"""The repeated probe was answered."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.impairments import as_cause, as_delay

#: The beginning of the cause.
WORKS_NOW = "it works now"


def check(observation: Observation) -> Diagnosis | None:
    """Whether it works now, and whether impairments may explain the first failure."""
    if not observation.answered:
        return None
    impaired = observation.impaired
    if not impaired:
        return Diagnosis(f"{WORKS_NOW}: asked again, it was answered at once", observation.question.node.name)
    cause = as_cause(impaired) or f"{WORKS_NOW}: asked again, it was answered{as_delay(impaired)}"
    return Diagnosis(cause, impaired[0].interface.node.name)
