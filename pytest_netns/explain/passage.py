"""Passage: how a packet got through that was not to: its way, and which rule let it pass on each node."""

from __future__ import annotations

from ipaddress import ip_address

from pytest_netns.explain.nft_trace.verdicts import Drop
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observe import observe
from pytest_netns.explain.questions import Question
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import lab_of


def passage(question: Question) -> str:
    """Send it again and tell, in lines: the nodes that the request passed, and the last word of each chain there."""
    seen = observe(lab_of(question.node), question)
    if not seen.reached:
        return "the way: it was not seen again"
    switches = {node.name for node in seen.lab if isinstance(node, Bridge)}
    lines = [f"the way: {' -> '.join(name for name in seen.reached if name not in switches)}"]
    for name in seen.reached:
        for accepted in accepting(seen, name):
            lines.append(f"  {name}: {accepted.family} {accepted.table} {accepted.chain}: {accepted.rule}")
    return "\n".join(lines)


def accepting(seen: Observation, name: str) -> list[Drop]:
    """The rules and policies of a node that let the request on, in the order of the hooks."""
    destinations = {seen.question.address, *(ip_address(each.destination) for each in seen.of_role("request"))}
    return [
        each
        for each in seen.trace.accepts
        if seen.name_of(each.node) == name and each.packet is not None and each.packet.destination in destinations
    ]
