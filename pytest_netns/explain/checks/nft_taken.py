"""An nftables rule takes a packet off its path: fwd, dup, synproxy, or a queue that no program reads."""

from __future__ import annotations

from ipaddress import ip_address

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation


def check(observation: Observation) -> Diagnosis | None:
    """The kernel's trace of a packet ends with another verdict than drop, and it got no further."""
    if observation.answered:
        return None
    asked = {observation.question.address, *(ip_address(each.destination) for each in observation.of_role("request"))}
    for taken in observation.trace.taken:
        packet = taken.packet
        if packet is None or packet.neighbour or not asked & {packet.destination, packet.source}:
            continue
        what = "the request" if packet.destination in asked else "the reply"
        return Diagnosis(taken.cause(what), taken.node.name, [f"traced: {taken.cause(what)}"])
    return None
