"""Observation: a probe that failed, sent again while the whole lab is watched. What all checks look at."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_address
from socket import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP

from pytest_netns.addresses import Address
from pytest_netns.capture.frame import Frame, is_search
from pytest_netns.errors import NetnsError, NetnsWarning
from pytest_netns.explain.carriers import carrier_of, protocols
from pytest_netns.explain.conditions import Condition, conditions, extra_patience
from pytest_netns.explain.questions import Question
from pytest_netns.explain.rules import Drop, RuleTrace
from pytest_netns.explain.segment import has_address
from pytest_netns.explain.sighting import Role, Sighting, sightings
from pytest_netns.explain.target import arrival
from pytest_netns.explain.walk import Flow, Walk, walk
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node

#: Seconds to wait for the answer when the probe is sent again.
PATIENCE = 0.15
#: Rows of the sequence diagram.
_ROWS = 16
#: Bytes of the headers around the payload, by kind of probe and version of IP.
_HEADERS = {("ping", 4): 28, ("ping", 6): 48, ("tcp", 4): 44, ("tcp", 6): 64, ("udp", 4): 28, ("udp", 6): 48}
#: What a rule may have dropped; all else are the searches for the next hop, and packets of tunnels.
OF_THE_PROBE = ("the request", "the reply")


@dataclass(frozen=True)
class Observation:
    """What was seen when a probe was sent again.

    Attributes:
        lab: where.
        question: the probe.
        answered: whether it succeeded this time.
        seen: its packets, wherever they passed an interface, in the order of time.
        trace: what the nftables rules of all nodes did to them.
        drawing: the conversation as a sequence diagram.
    """

    lab: Lab
    question: Question
    answered: bool
    seen: list[Sighting]
    trace: RuleTrace
    drawing: str

    # ---------------------------------------------------------- on the wire

    def of_role(self, role: Role) -> list[Sighting]:
        """The packets of one role: requests, replies, or ICMP errors about them."""
        return [each for each in self.seen if each.role == role]

    @cached_property
    def source(self) -> Address | None:
        """The address that the probe was sent from; None if the node has none."""
        kind = type(self.question.address)
        for each in self.of_role("request"):
            return kind(each.source)
        own = self.question.node.addresses()
        return next((a.ip for a in own if a.version == self.question.address.version), None)

    @cached_property
    def observed(self) -> str:
        """In words: how far request, reply and errors came."""
        if not self.seen:
            return f"nothing left {self.question.node.name!r} for {self.question.address}"
        parts = []
        for role in ("request", "reply", "error"):
            of_role = self.of_role(role)
            if of_role:
                first, last = first_of(of_role), last_of(of_role)
                way = "left" if last.frame.outgoing else "arrived at"
                if first is last:
                    parts.append(str(first))
                else:
                    start = f"the {role} left {first.frame.place}"
                    parts.append(f"{start} and was last seen when it {way} {last.frame.place}")
        if not self.of_role("reply"):
            parts.append("no reply was seen anywhere")
        return "; ".join(parts)

    @cached_property
    def last_seen(self) -> Sighting | None:
        """How far the request came; None if it did not leave its node."""
        requests = self.of_role("request")
        return last_of(requests) if requests else None

    @cached_property
    def reached(self) -> list[str]:
        """The nodes that the request was seen at, in order."""
        return list(dict.fromkeys(each.frame.node for each in self.of_role("request")))

    # ------------------------------------------------------------- by rules

    @property
    def dropped(self) -> tuple[Drop, str] | None:
        """Which rule, of which node, dropped the request or the reply, and which of the two; None if no rule did."""
        return next(((drop, what) for drop, what in self.drops if what in OF_THE_PROBE), None)

    @cached_property
    def drops(self) -> list[tuple[Drop, str]]:
        """Which node's which rule dropped what belongs to the probe: ``the request``, ``the reply``, ``ARP``, ...

        Others are dropped for other reasons.
        """
        asked = {self.question.address, *(ip_address(each.destination) for each in self.of_role("request"))}
        asking = {ip_address(each.source) for each in self.of_role("request")}
        ports = {0}
        if self.question.port:
            ports = {self.question.port, *(port for each in self.seen for port in each.ports)}
        found = []
        for drop in self.trace.drops:
            packet = drop.packet
            if packet is None:
                found.append((drop, "the request"))
            elif packet.neighbour:
                found.append((drop, "ARP" if packet.source is None else "neighbour discovery"))
            elif (device := carrier_of(self.lab, packet)) is not None:
                # Other hosts send by tunnels too, unasked; the far end of this one does so for the probe if it replied.
                if self.of_role("reply") or any(device is each for each, _ in self.there.carriers):
                    found.append((drop, f"what {device} carries"))
            elif ports.isdisjoint(packet.ports):
                continue
            elif packet.destination in asked:
                found.append((drop, "the request"))
            elif packet.source in asked and packet.destination in asking:
                found.append((drop, "the reply"))
        return found

    # ------------------------------------------------------------ by tables

    @cached_property
    def there(self) -> Walk:
        """The way of the request by the tables of the nodes."""
        question = self.question
        flow = Flow(self.source, question.address, self._size, question.ttl, question.df)
        return walk(self.lab, question.node, flow, self._translated)

    @cached_property
    def target(self) -> Node | None:
        """Where the request ends: by what was seen, which knows of address translation, or else by the tables."""
        requests = self.of_role("request")
        if requests and not requests[-1].frame.outgoing:
            node = next((node for node in self.lab if node.name == requests[-1].frame.node), None)
            if node is not None and has_address(node, ip_address(requests[-1].destination)):
                return node
        return self.there.arrived

    @cached_property
    def back(self) -> Walk | None:
        """The way of the reply by the tables; None if the request does not get to anybody."""
        if self.target is None or self.source is None:
            return None
        arrived = arrival(self.seen, self.target)
        reply_to = ip_address(arrived.source) if arrived is not None else self.source
        back = walk(self.lab, self.target, Flow(self.question.address, reply_to, self._size))
        if back.fault is not None or back.arrived is None or back.arrived.inode == self.question.node.inode:
            return back
        # Whoever stood in as source sends it on to the real one.
        rest = walk(self.lab, back.arrived, Flow(self.question.address, self.source, self._size))
        rest.nodes[:1] = back.nodes
        rest.evidence[:0] = back.evidence
        rest.hops[:0] = back.hops
        return rest

    @cached_property
    def impaired_there(self) -> list[Condition]:
        """The impairments that the request passes."""
        return conditions(self.lab, self.there)

    @cached_property
    def impaired(self) -> list[Condition]:
        """Those that the request or the reply passes."""
        return conditions(self.lab, self.there, self.back) if self.back is not None else self.impaired_there

    @property
    def _size(self) -> int:
        return self.question.size + _HEADERS[self.question.kind, self.question.address.version]

    def _translated(self, node: Node, flow: Flow) -> Flow:
        """What a node makes of the addresses of a packet, by what its rules were seen to do."""
        for before, after in self.trace.sent_on.get(node.inode, ()):
            if (before.source, before.destination) == (flow.source, flow.destination) and after.destination is not None:
                return replace(flow, source=after.source, destination=after.destination)
        return flow


def observe(lab: Lab, question: Question) -> Observation:
    """Send a probe again and watch every interface and every nftables rule of its lab. Changes nothing there."""
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
    seen = sightings(frames, question.kind, question.node.name, question.address, question.port)
    shown = _shown(frames, seen)
    return Observation(lab, question, answered, seen, trace, capture.ladder(shown, most=_ROWS) if shown else "")


def _shown(frames: list[Frame], seen: list[Sighting]) -> list[Frame]:
    ours = {id(each.frame) for each in seen}
    return [frame for frame in frames if id(frame) in ours or is_search(frame.data, frame.ethernet)]


def _names(lab: Lab, asker: Node) -> dict[str, str]:
    """One name for all nodes in one namespace: that of who asks, or that of the first."""
    first = {asker.inode: asker.name}
    nodes = [node for node in lab if not node.closed]
    for node in nodes:
        first.setdefault(node.inode, node.name)
    return {node.name: first[node.inode] for node in nodes}


def first_of(of_role: list[Sighting]) -> Sighting:
    """Where it came from: who sent it and did not get it before. Stamps alone may be out of order."""
    passed_on = {each.frame.node for each in of_role if not each.frame.outgoing}
    departures = [each for each in of_role if each.frame.outgoing]
    return next((each for each in departures if each.frame.node not in passed_on), (departures or of_role)[0])


def last_of(of_role: list[Sighting]) -> Sighting:
    """Where it was seen last. Stamps of one packet within microseconds may be out of order: arriving comes last."""
    last = of_role[-1]
    close = [each for each in of_role if last.frame.time - each.frame.time < 50_000 and not each.frame.outgoing]
    return close[-1] if last.frame.outgoing and close and _follows(close[-1], of_role) else last


def _follows(arrived: Sighting, of_role: list[Sighting]) -> bool:
    return not any(each.frame.outgoing and each.frame.node == arrived.frame.node for each in of_role)
