"""A frame leaves one interface and does not arrive at the next: a bridge, an MTU, XDP or a tc filter drops it."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.frame_path import gap, l2_path
from pytest_netns.explain.link_layer.losses import lost_at
from pytest_netns.explain.look.tunnel_ends import tunnel_fault
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observed_packets import Role
from pytest_netns.explain.way.flow import Walk
from pytest_netns.explain.way.on_link import reach
from pytest_netns.stack.interface import Interface


def check(observation: Observation) -> Diagnosis | None:
    """Hop by hop along the path of the request, then of the reply, as far as they were captured."""
    if observation.answered:
        return None
    found = _along(observation, "request", observation.there)
    if found is None and observation.of_role("reply") and observation.back is not None:
        found = _along(observation, "reply", observation.back)
    return found


def _along(observation: Observation, role: Role, way: Walk) -> Diagnosis | None:
    for _, out, hop in way.hops:
        leaving = observation.passed(role, out, outgoing=True)
        owner = next(iter(reach(observation.lab, out).owners(hop)), None)
        if not leaving or owner is None:
            return None  # how far it came is seen elsewhere
        path = l2_path(observation.lab, out, owner)
        if not path:
            if not observation.passed(role, owner, outgoing=False):
                return _in_tunnel(observation, out, owner)
            continue
        sent = {each.frame.data for each in leaving}
        lost = gap(path, (frame for frame in observation.frames if frame.data in sent), dict(observation.names))
        if lost is not None:
            return lost_at(observation.lab, lost)
    return None


def _in_tunnel(observation: Observation, out: Interface, owner: Interface) -> Diagnosis | None:
    return tunnel_fault(observation.lab, out, owner, observation.question.address)
