"""A program that forwards frames has forwarded one with a partial checksum (checksum offload)."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observed_packets import ObservedPacket, Role

_ROLES: tuple[Role, ...] = ("request", "reply")


def check(observation: Observation) -> Diagnosis | None:
    """The node that received a packet with a partial checksum and forwarded it as complete, if it was wrong then."""
    if observation.answered:
        return None
    for role in _ROLES:
        seen = observation.of_role(role)
        node = _forwarder(seen)
        if node is None:
            continue
        end = seen[-1].frame.node
        wrong = [growth for growth in observation.grown.get(end, ()) if growth.name.endswith("InCsumErrors")]
        if not wrong:
            continue
        return Diagnosis(
            f"a program on {node!r} sends the {role} on with the unfinished checksum with which it got it, and {end!r} "
            f"drops it ({wrong[0].name} +{wrong[0].by})",
            node,
            [f"{end}: {growth}" for growth in wrong],
            ["lab.connect(..., offload=False), or Lab(offload=False): frames are finished before they are sent"],
        )
    return None


def _forwarder(seen: list[ObservedPacket]) -> str | None:
    """The node where a packet came in with a partial checksum, and went out marked as complete."""
    unfinished = {each.frame.node for each in seen if not each.frame.outgoing and each.frame.offload is not None}
    for each in seen:
        if each.frame.outgoing and each.frame.offload is None and each.frame.node in unfinished:
            return each.frame.node
    return None
