"""The test itself broke it: a fault such as a block, a partition or a crash is still in force."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.on_link import has_address


def check(observation: Observation) -> Diagnosis | None:
    """A fault that stops the packets, with the node where they end."""
    lab, question, there = observation.lab, observation.question, observation.there
    holders = [n for n in lab if not n.closed and n not in there.nodes and has_address(n, question.address)]
    way = [*(there.nodes or [question.node]), *holders[:1]]
    carried = [(outer.nodes, f"; {device} leads over it") for device, outer in there.carriers if outer is not None]
    if (
        there.fault is not None and there.fault.node is not None and there.fault.node in lab
    ):  # a router that has crashed is where the way ends
        carried.append(([*there.nodes, lab[there.fault.node]], ""))
    for fault in lab.faults:
        if (node := fault.stops(way, question.kind)) is not None:
            return Diagnosis(f"a fault of the test is in force: {fault}", node.name, there.evidence)
        for nodes, words in carried:
            if (node := fault.stops(nodes, "ping")) is not None:
                return Diagnosis(f"a fault of the test is in force: {fault}{words}", node.name, there.evidence)
    return None
