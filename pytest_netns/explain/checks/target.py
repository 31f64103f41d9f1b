"""The node that the request reaches is at fault: nothing listens, or it was told not to answer."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation import Observation
from pytest_netns.explain.target import silence, target_fault


def refuses(observation: Observation) -> Diagnosis | None:
    """Nobody there takes the packet."""
    if observation.target is None:
        return None
    return target_fault(observation.question, observation.target, observation.seen)


def is_silent(observation: Observation) -> Diagnosis | None:
    """Somebody takes the datagram and says nothing."""
    if observation.target is None:
        return None
    return silence(observation.question, observation.target, observation.seen)
