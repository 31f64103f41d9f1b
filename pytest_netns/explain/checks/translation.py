"""NAT: a source address that no node has, a reply that bypasses the translating node, a rule that nearly matched."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from pytest_netns.errors import NetnsError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.nat_rules import NatRule, nat_rules
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.target_node import arrival
from pytest_netns.explain.way.on_link import has_address
from pytest_netns.lab.nodes import Node


def to_nobody(observation: Observation) -> Diagnosis | None:
    """A node translates the source to an address to which no reply can come."""
    if observation.answered or observation.of_role("reply"):
        return None
    for node, before, after in _source_changes(observation):
        address = ip_address(after)
        if any(has_address(other, address) for other in observation.lab):
            continue
        return Diagnosis(
            f"{node.name!r} translates the source {ip_address(before)} to {address} (snat), which no node of the lab "
            "has: "
            "no reply gets back",
            node.name,
            [rule.text for rule in _rules(node) if rule.kind in ("snat", "masquerade")],
        )
    return None


def past_the_translator(observation: Observation) -> Diagnosis | None:
    """The reply reaches the sender, but from an address other than the destination of the request."""
    question = observation.question
    asked = question.address.packed
    for reply in observation.of_role("reply"):
        at_asker = reply.frame.node == observation.name_of(question.node) and not reply.frame.outgoing
        if not at_asker or reply.source == asked:
            continue
        translator = _translator_of_destination(observation)
        if translator is None:
            return None
        way = list(dict.fromkeys(each.frame.node for each in observation.of_role("reply")))
        sender = ip_address(reply.source)
        if translator.name in way:
            return Diagnosis(
                f"{translator.name!r} rewrites the destination of the request and does not translate the reply back: "
                "the "
                f"answer comes from {sender}, another address than the one that was asked ({question.address})",
                translator.name,
            )
        return Diagnosis(
            f"the reply goes past {translator.name!r}, which has translated the request: it comes directly from "
            f"{sender}, "
            f"another address than the one that was asked ({question.address}); {translator.name!r} needs hairpin NAT, "
            "i.e. to masquerade what it sends back into that network",
            translator.name,
            [f"way of the reply: {' -> '.join(way)}"],
        )
    return None


def nearly_matched(observation: Observation) -> Diagnosis | None:
    """Nothing listens where the request ends, and a NAT rule there would have matched but for one condition."""
    target, question = observation.target, observation.question
    if observation.answered or target is None or question.kind == "ping" or not question.closed:
        return None
    arrived = arrival(observation.seen, target)
    own = target.inode == question.node.inode
    place = "" if arrived is None else arrived.frame.interface
    for rule in _rules(target):
        if rule.kind not in ("dnat", "redirect") or question.port not in rule.ports:
            continue
        if own:
            if rule.hook == "prerouting":
                return Diagnosis(
                    f"{target.name!r} forwards that port by a rule for prerouting (dnat), which what it sends itself "
                    "does "
                    f"not pass; that needs the same rule for output: {rule.text}",
                    target.name,
                    [rule.text],
                )
            continue
        differs = rule.first_difference(question.kind, question.port, place, observation.source, question.address)
        if differs is not None:
            return Diagnosis(
                f"{target.name!r} forwards that port by a rule (dnat) that does not match here: {differs}: {rule.text}",
                target.name,
                [rule.text],
            )
    return None


def _rules(node: Node) -> list[NatRule]:
    try:
        return nat_rules(node)
    except NetnsError:
        return []


def _source_changes(observation: Observation) -> Iterator[tuple[Node, bytes, bytes]]:
    """The node that forwards the request with another source address than it came in with."""
    came: dict[str, bytes] = {}
    for each in observation.of_role("request"):
        if not each.frame.outgoing:
            came[each.frame.node] = each.source
        elif came.get(each.frame.node, each.source) != each.source:
            node = observation.node_of(each)
            if node is not None:
                yield node, came[each.frame.node], each.source


def _translator_of_destination(observation: Observation) -> Node | None:
    came: dict[str, bytes] = {}
    for each in observation.of_role("request"):
        if not each.frame.outgoing:
            came[each.frame.node] = each.destination
        elif came.get(each.frame.node, each.destination) != each.destination:
            return observation.node_of(each)
    return None
