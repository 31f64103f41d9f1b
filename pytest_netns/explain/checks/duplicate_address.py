"""Two nodes on one link have the same address."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation


def check(observation: Observation) -> Diagnosis | None:
    """Whether several interfaces answer for a next hop of the request."""
    holders = observation.there.duplicates
    if len({interface.node.inode for interface in holders}) < 2:
        return None
    shown = " and ".join(f"{interface} ({interface.mac})" for interface in holders)
    return Diagnosis(f"duplicate address: {shown} have the same one on one link", holders[0].node.name)
