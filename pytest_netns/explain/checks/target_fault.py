"""The node that receives the request is at fault: nothing listens, or it is configured not to answer."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.target_node import arrival, silence, target_fault


def refuses(observation: Observation) -> Diagnosis | None:
    """Nothing there accepts the packet. Not checked if it was lost on its path."""
    target = observation.target
    if target is None:
        return None
    requests = observation.of_role("request")
    if requests and not observation.question.closed and arrival(requests, target) is None:
        return None
    return target_fault(observation.question, target, observation.seen, _redirected(observation))


def _redirected(observation: Observation) -> int | None:
    """The port to which NAT rules of the target redirected the request; None if they did not."""
    assert observation.target is not None
    for stage in observation.stages(observation.target, "request"):
        if stage.name in ("prerouted", "input") and stage.packet.ports[1] != stage.before.ports[1]:
            return stage.packet.ports[1]
    return None


def is_silent(observation: Observation) -> Diagnosis | None:
    """A socket receives the datagram, and its program does not answer."""
    if observation.target is None:
        return None
    return silence(observation.question, observation.target, observation.seen)
