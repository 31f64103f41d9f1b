"""Blocked: whether a packet reached a node and was dropped or rejected by a rule of that node."""

from __future__ import annotations

from pytest_netns.addresses import Address
from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.explain import conclude
from pytest_netns.explain.nft_trace.rule_trace import RuleTrace
from pytest_netns.explain.nft_trace.verdicts import Drop
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observe import observe
from pytest_netns.explain.observation.observed_packets import last_of
from pytest_netns.explain.questions import Question
from pytest_netns.explain.sent import sought
from pytest_netns.lab.lab import Lab, lab_of
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.arp import ask_arp
from pytest_netns.stack.destination import Destination


def blocked(lab: Lab, question: Question, by: Node) -> tuple[bool, Explanation]:
    """Send a probe again under observation.

    Args:
        lab: the lab of the probe.
        question: the probe.
        by: the node that should drop or reject its request.

    Returns:
        Whether a rule of that node did so, and the explanation: which rule, or what stopped the packet instead.
    """
    observation = observe(lab, question)
    cause = None if observation.answered else _rule_of(observation, by)
    if cause is None:
        return False, conclude(observation)
    return True, Explanation(observation.observed, cause, by.name, ladder=observation.drawing)


def _rule_of(observation: Observation, by: Node) -> str | None:
    """A sentence that names the node's rule that stopped the request; None if no rule of the node did."""
    is_sender = by.inode == observation.question.node.inode
    is_reached = is_sender or observation.name_of(by) in observation.reached
    for drop, what in observation.drops:
        if what == "the request" and drop.node.inode == by.inode and (is_reached or drop.packet is not None):
            return drop.cause(what)
    # iptables-legacy has no trace of single packets: its counter grew on the node where this packet was last seen.
    requests = observation.of_role("request")
    if requests:
        last = last_of(requests).frame
        ends_here = last.node == observation.name_of(by) and not last.outgoing
    else:
        ends_here = is_sender
    if ends_here:
        for growth in observation.grown.get(observation.name_of(by), ()):
            if growth.name.startswith(("iptables", "ip6tables")):
                return f"iptables (legacy) on {by.name!r} drops the request: {growth.name}"
    return None


def arp_blocked(source: Node, destination: Destination, address: Address, by: Node) -> tuple[bool, str]:
    """Resolve an address again by ARP or neighbour discovery.

    Args:
        source: the node that sends the request.
        destination: the target of the probe.
        address: the address to resolve.
        by: the node that should drop the request.

    Returns:
        Whether a rule of that node did so, and which; or what was observed instead.
    """
    lab = lab_of(source)
    capture = lab.capture(chatter=True)
    capture.internal = True
    with RuleTrace(lab, ()) as trace, capture:
        result = ask_arp(source, destination, timeout=0.15)
        trace.read()
    at = {frame.node for frame in capture.frames if sought(frame) == address.packed}
    if result:
        return False, f"nothing: it was answered: {result!r}"
    drops = [drop for drop in trace.drops if drop.packet is not None and drop.packet.neighbour]
    mine = [drop for drop in drops if drop.node.inode == by.inode]
    sharing = {node.name for node in lab if not node.closed and node.inode == by.inode}
    if mine and (sharing & at or by.inode == source.inode):
        return True, _words(mine[0])
    others = [_words(drop) for drop in drops if drop not in mine]
    seen = f"the question was seen at {', '.join(sorted(at))}" if at else "the question has left nowhere"
    return False, "; ".join([*others, seen, *([str(result.error)] if result.error else [])])


def _words(drop: Drop) -> str:
    return drop.cause("the question")
