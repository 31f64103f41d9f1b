"""Passage: how a packet that should have been blocked got through: its path, and the rule that accepted it per node."""

from __future__ import annotations

from ipaddress import ip_address
from socket import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP

from pytest_netns.addresses import Address
from pytest_netns.capture.frame import Frame
from pytest_netns.explain.explain import once
from pytest_netns.explain.link_layer.search import search
from pytest_netns.explain.nft_trace.verdicts import Drop
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observe import observe
from pytest_netns.explain.observation.observed_packets import parsed
from pytest_netns.explain.questions import Question
from pytest_netns.explain.way.on_link import has_address
from pytest_netns.kernel.netlink.tables import mac_text
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab, lab_of
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.icmp import ECHO_REQUEST, ECHO_REQUEST6
from pytest_netns.probe.ping import ping
from pytest_netns.probe.tcp import tcp
from pytest_netns.probe.udp import udp


def passage(question: Question) -> str:
    """Send a probe again and list the nodes that its request passed, with the verdict of each chain there."""
    seen = observe(lab_of(question.node), question)
    if not seen.reached:
        return "the way: it was not seen again"
    skipped = [f"  {line}" for line in once(seen.trace.skipped)]
    switches = {node.name for node in seen.lab if isinstance(node, Bridge)}
    lines = [f"the way: {' -> '.join(name for name in seen.reached if name not in switches)}"]
    for name in seen.reached:
        for accepted in accepting(seen, name):
            lines.append(f"  {name}: {accepted.family} {accepted.table} {accepted.chain}: {accepted.rule}")
    if len(lines) == 1 and not skipped:
        lines.append("  no rule of nftables was asked on the way")
    return "\n".join([*lines, *skipped])


def arp_passage(node: Node, interface: str, address: Address) -> str:
    """Resolve an address again and list the interfaces that request and reply passed, and the rules that accepted them.

    Args:
        node: the node that sends the ARP request or neighbour solicitation.
        interface: name of the interface that it is sent from.
        address: the address to resolve.
    """
    seen = search(lab_of(node), node, node.interface(interface), address)
    if not seen.answers:
        return "the way: it was not seen again"
    answerer = seen.answers[0].data[6:12]  # the sender of the unicast reply: a broadcast request reaches others too
    answer = [frame for frame in seen.answers if frame.data[6:12] == answerer]
    passed = {(frame.node, frame.interface, not frame.outgoing) for frame in answer}
    question = [each for each in seen.questions if (each.node, each.interface, each.outgoing) in passed]
    lines = [
        f"the way of the {seen.protocol} request: {_places(question)}",
        f"the way of the answer of {mac_text(answerer)}: {_places(answer)}",
    ]
    if others := {frame.data[6:12] for frame in seen.answers} - {answerer}:
        lines.append(f"  {' and '.join(sorted(map(mac_text, others)))} answered too")
    on_the_way = {frame.node for frame in answer}
    rules = [
        f"  {seen.names[each.node.inode]}: {each.family} {each.table} {each.chain}: {each.rule}"
        for each in seen.trace.accepts
        if each.packet is not None and each.packet.neighbour and seen.names.get(each.node.inode) in on_the_way
    ]
    skipped = [f"  {line}" for line in once(seen.trace.skipped)]
    if not rules and not skipped:
        rules = [f"  no rule of nftables was asked about {seen.protocol} on the way"]
    return "\n".join([*lines, *dict.fromkeys(rules), *skipped])


def _places(frames: list[Frame]) -> str:
    return " -> ".join(dict.fromkeys(frame.place for frame in sorted(frames, key=lambda frame: frame.time)))


def question_about(lab: Lab, frame: Frame) -> Question | None:
    """How to repeat a frame as a probe: an echo request, a SYN or a datagram sent by a node of the lab; else None."""
    packet = parsed(frame)
    if packet is None:
        return None
    source, address = ip_address(packet.source), ip_address(packet.destination)
    node = next((each for each in lab if has_address(each, source)), None)
    if node is None or len(packet.payload) < 8:
        return None
    kind, port = packet.payload[0], int.from_bytes(packet.payload[2:4], "big")
    if packet.protocol in (IPPROTO_ICMP, IPPROTO_ICMPV6) and kind in (ECHO_REQUEST, ECHO_REQUEST6):
        return Question(node, address, "ping", lambda timeout: ping(node, address, timeout=timeout), size=56)
    if packet.protocol == IPPROTO_TCP:
        return Question(node, address, "tcp", lambda timeout: tcp(node, address, port, timeout=timeout), port=port)
    if packet.protocol == IPPROTO_UDP:
        data = packet.payload[8:]
        return Question(
            node, address, "udp", lambda timeout: udp(node, address, port, data, timeout=timeout), port, len(data)
        )
    return None


def accepting(seen: Observation, name: str) -> list[Drop]:
    """The rules and policies of a node that accepted the request, in the order of the hooks."""
    destinations = {seen.question.address, *(ip_address(each.destination) for each in seen.of_role("request"))}
    return [
        each
        for each in seen.trace.accepts
        if seen.name_of(each.node) == name and each.packet is not None and each.packet.destination in destinations
    ]
