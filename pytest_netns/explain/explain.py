"""Explanation: what was observed, the cause in one sentence, and the evidence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from pytest_netns.errors import NetnsError, NetnsWarning
from pytest_netns.explain.listeners import dead_processes, listeners
from pytest_netns.explain.rules import Drop, RuleTrace
from pytest_netns.explain.segment import has_address
from pytest_netns.explain.sighting import Kind, Sighting, sightings
from pytest_netns.explain.walk import Fault, Flow, Walk, rp_filter_fault, walk
from pytest_netns.interface import Interface
from pytest_netns.kernel.rtnetlink import Address
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.node import Node
from pytest_netns.process import exit_words
from pytest_netns.ready import Transport

#: Seconds to wait for the answer when the probe is sent again.
PATIENCE = 0.15
_OVERHEAD = {("ping", 4): 28, ("ping", 6): 48, ("tcp", 4): 44, ("tcp", 6): 64, ("udp", 4): 28, ("udp", 6): 48}


@dataclass(slots=True)
class Question:
    """A probe that failed, and how to send it again.

    Attributes:
        node: who asked.
        address: whom.
        kind: how.
        again: sends it again with a timeout; returns whether it succeeded.
        port: for tcp and udp.
        size: bytes of payload.
        ttl: time to live.
        df: whether fragments are forbidden.
        closed: whether the port was found closed.
    """

    node: Node
    address: Address
    kind: Kind
    again: Callable[[float], object]
    port: int = 0
    size: int = 0
    ttl: int = 64
    df: bool = False
    closed: bool = False


@dataclass(slots=True)
class Explanation:
    """Why a probe failed.

    Attributes:
        observed: what happened on the wire.
        cause: one sentence with the node's name; None if it could not be told.
        node: name of the node at fault; None likewise.
        evidence: lines that show it.
        ruled_out: what it is not.
    """

    observed: str
    cause: str | None = None
    node: str | None = None
    evidence: list[str] = field(default_factory=list)
    ruled_out: list[str] = field(default_factory=list)

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
        return "\n".join(lines)


def explain(lab: Lab, question: Question) -> Explanation:
    """Send the probe again under observation and find out why it fails. Changes nothing in the lab."""
    seen, drops, answered, skipped = _observe(lab, question)
    source_address = _source_of(question, seen)
    flow = Flow(
        source_address,
        question.address,
        question.size + _OVERHEAD[question.kind, question.address.version],
        question.ttl,
        question.df,
    )
    there = walk(lab, question.node, flow)
    found = Explanation(_observed(question, seen), evidence=[*skipped])
    if len({i.node.name for i in there.duplicates}) > 1:
        return _duplicate(found, there.duplicates)
    if drops:
        drop = drops[0]
        return _because(found, drop.cause, drop.node.name, [f"traced: {d.cause}" for d in drops])
    if there.fault is not None:
        return _because(found, there.fault.cause, there.fault.node.name, [*there.evidence, *there.fault.evidence])
    found.evidence += there.evidence
    found.ruled_out += [
        f"way there: {' -> '.join(node.name for node in there.nodes)}; links, ports, routes, neighbours are in order",
        "netfilter: no nftables rule dropped it" if not skipped else "netfilter: not looked at, see evidence",
    ]
    target = _final_node(lab, seen, there)
    if target is not None and (fault := _at_target(question, target, seen)) is not None:
        return _because(found, fault.cause, fault.node.name, fault.evidence)
    if target is not None and source_address is not None:
        back = _way_back(lab, question, target, seen, source_address)
        if back.fault is not None:
            return _because(
                found,
                f"the request reaches {target.name!r}, and its reply does not come back: {back.fault.cause}",
                back.fault.node.name,
                [*back.evidence, *back.fault.evidence],
            )
        found.ruled_out.append(f"way back: {' -> '.join(n.name for n in back.nodes)}")
        found.evidence += back.evidence
    if answered:
        return _because(found, "it works now: asked again, it was answered at once", question.node.name, [])
    found.ruled_out += _ruled_out(question, target)
    return found


def _because(found: Explanation, cause: str, node: str, evidence: list[str]) -> Explanation:
    found.cause, found.node = cause, node
    found.evidence += evidence
    return found


def _observe(lab: Lab, question: Question) -> tuple[list[Sighting], list[Drop], bool, list[str]]:
    version = question.address.version
    protocol = {"ping": "icmp" if version == 4 else "ipv6-icmp"}.get(question.kind, question.kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetnsWarning)  # a capture that lost frames shows less, which is not news here
        capture = lab.capture(chatter=True)
        with RuleTrace(lab, f"meta l4proto {protocol}") as trace, capture:
            try:
                answered = bool(question.again(PATIENCE))
            except NetnsError:
                answered = False
            drops = trace.drops()
    frames = capture.frames
    found = sightings(frames, question.kind, question.node.name, question.address, question.port)
    return found, drops, answered, trace.skipped


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
            first, last = of_role[0], _last(of_role)
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


def _at_target(question: Question, target: Node, seen: list[Sighting]) -> Fault | None:
    """What is wrong at the node that the request reaches."""
    arrived = next((s for s in reversed(seen) if s.role == "request" and not s.frame.outgoing), None)
    if arrived is not None and (place := target.interfaces.get(arrived.frame.interface)) is not None:
        flow = Flow(ip_address(arrived.source), ip_address(arrived.destination))
        if (fault := rp_filter_fault(target, place, flow)) is not None and not _replied(seen, target):
            return fault
    if question.kind == "ping":
        return _echo_fault(question, target)
    return _port_fault(question, target, arrived)


def _replied(seen: list[Sighting], target: Node) -> bool:
    return any(s.role == "reply" and s.frame.node == target.name for s in seen)


def _echo_fault(question: Question, target: Node) -> Fault | None:
    name = "net.ipv4.icmp_echo_ignore_all" if question.address.version == 4 else "net.ipv6.icmp.echo_ignore_all"
    if target.sysctl.get(name) == "1":
        return Fault(f"{target.name!r} ignores echo requests: {name} is 1", target, [f"{target.name}: {name} = 1"])
    return None


def _port_fault(question: Question, target: Node, arrived: Sighting | None) -> Fault | None:
    protocol: Transport = "tcp" if question.kind == "tcp" else "udp"
    there = listeners(target, protocol)
    address, port = question.address, question.port
    if arrived is not None:  # as address translation has left it
        address = ip_address(arrived.destination)
        offset = 14 + ((arrived.frame.data[14] & 15) * 4 if address.version == 4 else 40)
        port = int.from_bytes(arrived.frame.data[offset + 2 : offset + 4], "big")
    if any(listener.port == port and listener.takes(address) for listener in there):
        return None
    evidence = [f"{target.name}: listening: {', '.join(map(str, there)) or 'nothing'}"]
    dead = dead_processes(target)
    evidence += [f"{target.name}: {p!r}; its output ends: {p.output.rstrip()[-200:]!r}" for p in dead]
    others = [listener for listener in there if listener.port == port]
    if others:
        bound = ", ".join(str(listener.address) for listener in others)
        return Fault(
            f"the server on {protocol} port {port} of {target.name!r} is bound to {bound} only, not to {address}",
            target,
            evidence,
        )
    what = ", ".join(map(str, there)) or "nothing does on any port"
    if dead:
        process = dead[-1]
        return Fault(
            f"nothing listens on {protocol} port {port} of {target.name!r}; its process {process.argv[0]!r} is dead "
            f"({exit_words(process.returncode)})",
            target,
            evidence,
        )
    return Fault(f"nothing listens on {protocol} port {port} of {target.name!r} (listening: {what})", target, evidence)


def _way_back(lab: Lab, question: Question, target: Node, seen: list[Sighting], source: Address) -> Walk:
    arrived = next((s for s in reversed(seen) if s.role == "request" and s.frame.node == target.name), None)
    reply_to = ip_address(arrived.source) if arrived is not None else source
    size = question.size + _OVERHEAD[question.kind, question.address.version]
    return walk(lab, target, Flow(question.address, reply_to, size))


def _ruled_out(question: Question, target: Node | None) -> list[str]:
    rest = ["rules of iptables-legacy, tc filters and XDP or BPF programs were not looked at"]
    if target is None:
        rest.append(f"no node of the lab has {question.address}")
    elif question.kind != "ping":
        rest.append(f"something listens on {question.kind} port {question.port} of {target.name!r}")
    return rest
