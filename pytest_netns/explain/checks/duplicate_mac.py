"""Two interfaces on one link have the same MAC address: a bridge forwards to the port that it last learnt it from."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.on_link import reach


def check(observation: Observation) -> Diagnosis | None:
    """Whether a next hop of the request shares its MAC address with another interface on that link."""
    for _, out, hop in observation.there.hops:
        within = reach(observation.lab, out)
        for owner in within.owners(hop):
            if not owner.mac:  # a device without a link layer has none
                continue
            others = [each for each in within.members if each.mac == owner.mac and each.node.inode != owner.node.inode]
            if others:
                return Diagnosis(
                    f"{others[0]} has the same MAC address as {owner} ({owner.mac}): what is sent to it goes to "
                    "whoever "
                    "spoke last",
                    others[0].node.name,
                    [f"{each}: {each.mac}" for each in (owner, *others)],
                )
    return None
