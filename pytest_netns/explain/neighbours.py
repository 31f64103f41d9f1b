"""Neighbours: who has an address and is on the link, and yet does not answer for it."""

from __future__ import annotations

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.explain.carriers import carrier_of, protocols
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.rules import RuleTrace
from pytest_netns.explain.walk import Walk
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.arp import arp
from pytest_netns.stack.interface import Interface

#: Seconds to wait for the answer. Between its own questions a kernel waits for one.
_PATIENCE = 0.1
_UNANSWERED = ("FAILED", "INCOMPLETE")


def deaf_neighbour(lab: Lab, way: Walk) -> Diagnosis | None:
    """The first next hop on a way that the kernel's question has not reached, asked once more."""
    for node, out, hop in way.hops:
        states = [n.state for n in node.neighbours() if (n.address, n.interface) == (hop, out.name)]
        if any(state in _UNANSWERED for state in states) and (fault := deafness(lab, node, out, hop)) is not None:
            return fault
    return None


def deafness(lab: Lab, node: Node, out: Interface, hop: Address) -> Diagnosis | None:
    """Why nobody answers, though somebody on the link has the address; None if now somebody does."""
    protocol = "ARP" if hop.version == 4 else "neighbour discovery"
    with RuleTrace(lab, protocols(lab)) as trace:
        try:
            answered = bool(arp(node, hop, timeout=_PATIENCE))
        except NetnsError:
            return None
        trace.read()
    evidence = [f"{node.name}: ip neighbour show {hop}: unanswered before, {'answered' if answered else 'and'} now"]
    for drop in trace.drops:
        if drop.packet is not None and drop.packet.neighbour:
            return Diagnosis(drop.cause(protocol), drop.node.name, evidence)
    for drop in trace.drops:
        if drop.packet is not None and carrier_of(lab, drop.packet) == out:
            return Diagnosis(drop.cause(f"what {out} carries"), drop.node.name, evidence)
    if answered:
        return None
    return Diagnosis(
        f"{protocol} on {out} for {hop} is unanswered, though a node on that link has the address", node.name, evidence
    )
