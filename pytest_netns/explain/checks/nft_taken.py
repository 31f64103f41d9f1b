"""A rule of nftables takes a packet out of its way: fwd, dup, synproxy, or a queue that nobody serves."""

from __future__ import annotations

from ipaddress import ip_address

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation


def check(observation: Observation) -> Diagnosis | None:
    """The last word of the kernel's trace about a packet of the probe is not to drop it, and it went no further."""
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
