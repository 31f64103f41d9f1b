"""Explanation: what was observed, the cause in one sentence, and the evidence."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from socket import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP

from pytest_netns.capture.frame import is_search
from pytest_netns.errors import NetnsError, NetnsWarning
from pytest_netns.explain import questions
from pytest_netns.explain.carriers import carrier_of, protocols
from pytest_netns.explain.conditions import MOSTLY, OFTEN, as_cause, as_delay, conditions, extra_patience
from pytest_netns.explain.neighbours import deaf_neighbour
from pytest_netns.explain.questions import Question
from pytest_netns.explain.rules import Drop, RuleTrace
from pytest_netns.explain.segment import has_address
from pytest_netns.explain.sighting import Sighting, sightings
from pytest_netns.explain.target import arrival, silence, target_fault
from pytest_netns.explain.walk import Flow, Walk, walk
from pytest_netns.interface import Interface
from pytest_netns.kernel.rtnetlink import Address
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.node import Failure, Node

#: Seconds to wait for the answer when the probe is sent again.
PATIENCE = 0.15
#: Rows of the sequence diagram.
_ROWS = 16
_WORKS_NOW = "it works now"
_NOT_TRACED = "netfilter: not looked at, see evidence"
_OVERHEAD = {("ping", 4): 28, ("ping", 6): 48, ("tcp", 4): 44, ("tcp", 6): 64, ("udp", 4): 28, ("udp", 6): 48}


@dataclass(slots=True)
class Explanation:
    """Why a probe failed.

    Attributes:
        observed: what happened on the wire.
        cause: one sentence with the node's name; None if it could not be told.
        node: name of the node at fault; None likewise.
        evidence: lines that show it.
        ruled_out: what it is not.
        ladder: the conversation as a sequence diagram, when it was asked again; empty if nothing was sent.
    """

    observed: str
    cause: str | None = None
    node: str | None = None
    evidence: list[str] = field(default_factory=list)
    ruled_out: list[str] = field(default_factory=list)
    ladder: str = ""

    def __str__(self) -> str:
        lines = [f"observed: {self.observed}"]
        if self.cause is not None:
            lines.append(f"cause: {self.cause}")
        else:
            lines.append("cause: not found; ruled out:")
            lines += [f"  {line}" for line in self.ruled_out]
        if self.evidence:
            lines.append("evidence:")
            lines += [f"  {line}" for line in dict.fromkeys(self.evidence)]
        if self.ladder:
            lines.append("asked again:")
            lines += [f"  {line}" for line in self.ladder.splitlines()]
        return "\n".join(lines)


def explain(lab: Lab, question: Question) -> Explanation:
    """Send the probe again under observation and find out why it fails. Changes nothing in the lab."""
    seen, trace, answered, drawing = _observe(lab, question)
    source_address = _source_of(question, seen)
    flow = Flow(
        source_address,
        question.address,
        question.size + _OVERHEAD[question.kind, question.address.version],
        question.ttl,
        question.df,
    )
    there = walk(lab, question.node, flow, lambda node, flow: _translated(trace, node, flow))
    found = Explanation(_observed(question, seen), evidence=[*trace.skipped], ladder=drawing)
    if len({i.node.inode for i in there.duplicates}) > 1:
        return _duplicate(found, there.duplicates)
    if (broken := _broken_on_purpose(lab, question, there)) is not None:
        node, what = broken
        return _because(found, f"a fault of the test is in force: {what}", node.name, there.evidence)
    found.evidence += [f"in force: {each}" for each in lab.faults]
    drops = _relevant(lab, question, seen, there, trace.drops)
    for drop, what in drops:
        if what in _OURS:
            return _because(found, drop.cause(what), drop.node.name, [f"traced: {d.cause(w)}" for d, w in drops])
    if there.fault is not None:
        return _because(found, there.fault.cause, there.fault.node, [*there.evidence, *there.fault.evidence])
    for drop, what in drops:
        return _because(found, drop.cause(what), drop.node.name, [f"traced: {d.cause(w)}" for d, w in drops])
    impaired = conditions(lab, there)
    found.evidence += [f"impaired: {each}" for each in impaired]
    if (cause := as_cause(impaired, least=MOSTLY)) is not None:
        return _because(found, cause, impaired[0].interface.node.name, there.evidence)
    if (fault := deaf_neighbour(lab, there)) is not None:
        cause = as_cause(impaired, least=OFTEN) or f"{fault.cause}{as_delay(impaired, rates=False)}"
        return _because(found, cause, fault.node, [*there.evidence, *fault.evidence])
    found.evidence += there.evidence
    found.ruled_out += [
        f"way there: {' -> '.join(node.name for node in there.nodes)}; links, ports, routes, neighbours are in order",
        f"netfilter: no nftables rule dropped it{_untraced(there)}" if not trace.skipped else _NOT_TRACED,
    ]
    target = _final_node(lab, seen, there)
    if target is not None and (fault := target_fault(question, target, seen)) is not None:
        return _because(found, fault.cause, fault.node, fault.evidence)
    if target is not None and source_address is not None:
        back = _way_back(lab, question, target, seen, source_address)
        impaired = conditions(lab, there, back)
        fault = back.fault or deaf_neighbour(lab, back)
        if fault is not None:
            late = as_delay(impaired, rates=False) if fault is not back.fault else ""
            return _because(
                found,
                f"the request reaches {target.name!r}, and its reply does not come back: {fault.cause}{late}",
                fault.node,
                [*back.evidence, *fault.evidence],
            )
        found.evidence += [f"impaired: {each}" for each in impaired]
        found.ruled_out.append(f"way back: {' -> '.join(n.name for n in back.nodes)}")
        found.evidence += back.evidence
    if answered and impaired:
        cause = as_cause(impaired) or f"{_WORKS_NOW}: asked again, it was answered{as_delay(impaired)}"
        return _because(found, cause, impaired[0].interface.node.name, [])
    if answered:
        return _because(found, f"{_WORKS_NOW}: asked again, it was answered at once", question.node.name, [])
    if (cause := as_cause(impaired)) is not None:
        return _because(found, cause, impaired[0].interface.node.name, [])
    if target is not None and (fault := silence(question, target, seen)) is not None:
        return _because(found, fault.cause, fault.node, fault.evidence)
    if late := as_delay(impaired):
        return _because(found, f"no answer came in time{late}", impaired[0].interface.node.name, [])
    found.ruled_out += _ruled_out(question, target)
    return found


def _broken_on_purpose(lab: Lab, question: Question, there: Walk) -> tuple[Node, str] | None:
    """A fault that keeps packets from getting there, with the node where they end."""
    holders = [n for n in lab if not n.closed and n not in there.nodes and has_address(n, question.address)]
    way = [*(there.nodes or [question.node]), *holders[:1]]
    carried = [(outer.nodes, f"; {device} leads over it") for device, outer in there.carriers if outer is not None]
    if there.fault is not None and there.fault.node in lab:  # a router that has crashed is where the way ends
        carried.append(([*there.nodes, lab[there.fault.node]], ""))
    for fault in lab.faults:
        if (node := fault.stops(way, question.kind)) is not None:
            return node, str(fault)
        for nodes, words in carried:
            if (node := fault.stops(nodes, "ping")) is not None:
                return node, f"{fault}{words}"
    return None


def _untraced(there: Walk) -> str:
    """Which packets on the way the trace did not see: those of tunnels that have several far ends, or peers."""
    places = ", ".join(str(device) for device, outer in there.carriers if outer is None)
    return f"; the packets in which {places} carries it were not looked at" if places else ""


def explain_failure(failure: Failure) -> Explanation:
    """Why a probe failed that a node has kept."""
    make = getattr(questions, failure.question)
    lab = failure.node.lab
    found = explain(lab, make(failure.node, failure.result, *failure.details))
    now = lab.in_force()
    undone = "; ".join(each for each in failure.in_force if each not in now)
    if undone and (found.cause is None or found.cause.startswith(_WORKS_NOW)):
        # A "with" block has mended it on the way here.
        found.cause, found.node = f"when it was asked, this was in force, and has been undone since: {undone}", None
        found.ruled_out.clear()
    elif undone:
        found.evidence.append(f"in force when it was asked, and undone since: {undone}")
    return found


def _because(found: Explanation, cause: str, node: str, evidence: list[str]) -> Explanation:
    found.cause, found.node = cause, node
    found.evidence += evidence
    return found


def _observe(lab: Lab, question: Question) -> tuple[list[Sighting], RuleTrace, bool, str]:
    version = question.address.version
    protocol = {"ping": IPPROTO_ICMP if version == 4 else IPPROTO_ICMPV6, "tcp": IPPROTO_TCP, "udp": IPPROTO_UDP}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetnsWarning)  # a capture that lost frames shows less, which is not news here
        capture = lab.capture(chatter=True)
        capture.internal = True
        with RuleTrace(lab, {protocol[question.kind], *protocols(lab)}) as trace, capture:
            try:
                answered = bool(question.again(PATIENCE + extra_patience(lab)))
            except NetnsError:
                answered = False
            trace.read()
    frames = capture.frames
    names = _names(lab, question.node)
    for frame in frames:
        frame.node = names.get(frame.node, frame.node)
    found = sightings(frames, question.kind, question.node.name, question.address, question.port)
    ours = {id(sighting.frame) for sighting in found}
    shown = [frame for frame in frames if id(frame) in ours or is_search(frame.data, frame.ethernet)]
    return found, trace, answered, capture.ladder(shown, most=_ROWS) if shown else ""


def _names(lab: Lab, asker: Node) -> dict[str, str]:
    """One name for all nodes in one namespace: that of who asks, or that of the first."""
    first = {asker.inode: asker.name}
    nodes = [node for node in lab if not node.closed]
    for node in nodes:
        first.setdefault(node.inode, node.name)
    return {node.name: first[node.inode] for node in nodes}


#: What a drop may be of; all else are the searches for the next hop, and packets of tunnels.
_OURS = ("the request", "the reply")


def _relevant(
    lab: Lab, question: Question, seen: list[Sighting], there: Walk, drops: list[Drop]
) -> list[tuple[Drop, str]]:
    """The drops of packets that belong to the probe, with the role of each. Others are dropped for other reasons."""
    asked = {question.address, *(ip_address(s.destination) for s in seen if s.role == "request")}
    asking = {ip_address(s.source) for s in seen if s.role == "request"}
    ports = {question.port, *(port for s in seen for port in s.ports)} if question.port else {0}
    found = []
    for drop in drops:
        packet = drop.packet
        if packet is None:
            found.append((drop, "the request"))
        elif packet.neighbour:
            found.append((drop, "ARP" if packet.source is None else "neighbour discovery"))
        elif (device := carrier_of(lab, packet)) is not None:
            # Other hosts send by tunnels too, unasked; the far end of this one does so for the probe if it replied.
            if any(s.role == "reply" for s in seen) or any(device is each for each, _ in there.carriers):
                found.append((drop, f"what {device} carries"))
        elif ports.isdisjoint(packet.ports):
            continue
        elif packet.destination in asked:
            found.append((drop, "the request"))
        elif packet.source in asked and packet.destination in asking:
            found.append((drop, "the reply"))
    return found


def _translated(trace: RuleTrace, node: Node, flow: Flow) -> Flow:
    """What a node makes of the addresses of a packet, by what its rules were seen to do."""
    for before, after in trace.sent_on.get(node.inode, ()):
        if (before.source, before.destination) == (flow.source, flow.destination) and after.destination is not None:
            return replace(flow, source=after.source, destination=after.destination)
    return flow


def _first(of_role: list[Sighting]) -> Sighting:
    """Where it came from: who sent it and did not get it before. Stamps alone may be out of order."""
    passed_on = {s.frame.node for s in of_role if not s.frame.outgoing}
    departures = [s for s in of_role if s.frame.outgoing]
    return next((s for s in departures if s.frame.node not in passed_on), (departures or of_role)[0])


def _last(of_role: list[Sighting]) -> Sighting:
    """Where it was seen last. Stamps of one packet within microseconds may be out of order: arriving comes last."""
    last = of_role[-1]
    close = [s for s in of_role if last.frame.time - s.frame.time < 50_000 and not s.frame.outgoing]
    return close[-1] if last.frame.outgoing and close and _follows(close[-1], of_role) else last


def _follows(arrival: Sighting, of_role: list[Sighting]) -> bool:
    return not any(s.frame.outgoing and s.frame.node == arrival.frame.node for s in of_role)


def _source_of(question: Question, seen: list[Sighting]) -> Address | None:
    kind = type(question.address)
    for sighting in seen:
        if sighting.role == "request":
            return kind(sighting.source)
    return next((a.ip for a in question.node.addresses() if a.version == question.address.version), None)


def _observed(question: Question, seen: list[Sighting]) -> str:
    if not seen:
        return f"nothing left {question.node.name!r} for {question.address}"
    parts = []
    for role in ("request", "reply", "error"):
        of_role = [s for s in seen if s.role == role]
        if of_role:
            first, last = _first(of_role), _last(of_role)
            way = "left" if last.frame.outgoing else "arrived at"
            if first is last:
                parts.append(str(first))
            else:
                parts.append(f"the {role} left {first.frame.place} and was last seen when it {way} {last.frame.place}")
    if not any(s.role == "reply" for s in seen):
        parts.append("no reply was seen anywhere")
    return "; ".join(parts)


def _final_node(lab: Lab, seen: list[Sighting], there: Walk) -> Node | None:
    """Where the request ended: by what was seen, which knows of address translation, or else by the tables."""
    requests = [s for s in seen if s.role == "request"]
    if requests and not requests[-1].frame.outgoing:
        node = next((node for node in lab if node.name == requests[-1].frame.node), None)
        if node is not None and has_address(node, ip_address(requests[-1].destination)):
            return node
    return there.arrived


def _duplicate(found: Explanation, holders: list[Interface]) -> Explanation:
    shown = " and ".join(f"{i} ({i.mac})" for i in holders)
    return _because(found, f"duplicate address: {shown} have the same one on one link", holders[0].node.name, [])


def _way_back(lab: Lab, question: Question, target: Node, seen: list[Sighting], source: Address) -> Walk:
    arrived = arrival(seen, target)
    reply_to = ip_address(arrived.source) if arrived is not None else source
    size = question.size + _OVERHEAD[question.kind, question.address.version]
    back = walk(lab, target, Flow(question.address, reply_to, size))
    if back.fault is not None or back.arrived is None or back.arrived.inode == question.node.inode:
        return back
    # Whoever stood in as source sends it on to the real one.
    rest = walk(lab, back.arrived, Flow(question.address, source, size))
    rest.nodes[:1] = back.nodes
    rest.evidence[:0] = back.evidence
    rest.hops[:0] = back.hops
    return rest


def _ruled_out(question: Question, target: Node | None) -> list[str]:
    rest = ["rules of iptables-legacy, tc filters and XDP or BPF programs were not looked at"]
    if target is None:
        rest.append(f"no node of the lab has {question.address}")
    elif question.kind != "ping":
        rest.append(f"something listens on {question.kind} port {question.port} of {target.name!r}")
    return rest
