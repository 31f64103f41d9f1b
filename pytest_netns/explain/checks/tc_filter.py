"""A tc filter drops or redirects a packet at ingress or egress."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.losses import filtered
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def check(observation: Observation) -> Diagnosis | None:
    """At the node where the packet ends: it came in but netfilter did not see it, or it should have gone out."""
    if observation.answered:
        return None
    if not observation.seen:
        return _leaving(observation, observation.question.node)
    if observation.stuck is None:
        return _misled(observation)
    role, node, place = observation.stuck
    if not observation.stages(node, role):  # ingress filters run before netfilter
        found = filtered(place, "ingress")
        if found is not None:
            return found
    return _leaving(observation, node)


def _leaving(observation: Observation, node: Node) -> Diagnosis | None:
    for way in (observation.there, observation.back):
        for each, out, _ in way.hops if way is not None else ():
            if each.inode == node.inode and not _left(observation, out):
                found = filtered(out, "egress")
                if found is not None:
                    return found
    return None


def _left(observation: Observation, out: Interface) -> bool:
    return any(observation.passed(role, out, outgoing=True) for role in ("request", "reply"))


def _misled(observation: Observation) -> Diagnosis | None:
    """A packet last seen off its path may have been redirected at the interface that it should have left by."""
    if (back := observation.back) is None or not observation.of_role("reply"):
        return None
    node, out, _ = back.hops[0] if back.hops else (None, None, None)
    if node is None or out is None or observation.passed("reply", out, outgoing=True):
        return None
    return filtered(out, "egress")
