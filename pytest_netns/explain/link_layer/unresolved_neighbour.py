"""Neighbours: who has an address and is on the link, and yet does not answer for it."""

from __future__ import annotations

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.search import search
from pytest_netns.explain.link_layer.silence import why_unanswered
from pytest_netns.explain.way.flow import Walk
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

_UNANSWERED = ("FAILED", "INCOMPLETE")


def unresolved_neighbour(lab: Lab, way: Walk) -> Diagnosis | None:
    """The first next hop on a way that the kernel's question has not reached, asked once more."""
    for node, out, hop in way.hops:
        states = [n.state for n in node.neighbours() if (n.address, n.interface) == (hop, out.name)]
        if any(state in _UNANSWERED for state in states) and (fault := why_unresolved(lab, node, out, hop)) is not None:
            return fault
    return None


def why_unresolved(lab: Lab, node: Node, out: Interface, hop: Address) -> Diagnosis | None:
    """Why nobody answers, though somebody on the link has the address; None if now somebody does."""
    try:
        return why_unanswered(search(lab, node, out, hop))
    except NetnsError:
        return None
