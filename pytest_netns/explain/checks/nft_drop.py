"""An nftables rule, or the policy of a chain, drops a packet: the kernel's trace says which."""

from __future__ import annotations

from collections.abc import Callable

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import OF_THE_PROBE, Observation


def of_the_probe(observation: Observation) -> Diagnosis | None:
    """The request or the reply itself was dropped."""
    return _first(observation, lambda what: what in OF_THE_PROBE)


def of_the_search(observation: Observation) -> Diagnosis | None:
    """An ARP or neighbour discovery packet, or a packet inside a tunnel, was dropped."""
    return _first(observation, lambda what: what not in OF_THE_PROBE)


def _first(observation: Observation, wanted: Callable[[str], bool]) -> Diagnosis | None:
    for drop, what in observation.drops:
        if wanted(what):
            evidence = [f"traced: {each.cause(role)}" for each, role in observation.drops]
            return Diagnosis(drop.cause(what), drop.node.name, evidence)
    return None
