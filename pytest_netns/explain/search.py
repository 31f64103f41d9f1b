"""Search: somebody is asked for by ARP or neighbour discovery, and how far the question and the answer come."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_netns.addresses import Address
from pytest_netns.capture.frame import Frame
from pytest_netns.errors import NetnsError, NetnsWarning
from pytest_netns.explain.carriers import carrier_of, protocols
from pytest_netns.explain.departure import answered_for, sought
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.l2_faults import filtered, lost_at
from pytest_netns.explain.l2_path import gap, l2_path
from pytest_netns.explain.links import IFF_NOARP, details
from pytest_netns.explain.nat_rules import changes_of
from pytest_netns.explain.routing import sysctl
from pytest_netns.explain.rules import RuleTrace
from pytest_netns.explain.segment import reach
from pytest_netns.explain.tunnel_ends import tunnel_fault
from pytest_netns.explain.walk import Flow, not_local, rp_filter_fault
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.arp import arp
from pytest_netns.stack.interface import Interface

#: Seconds to wait for the answer. Between its own questions a kernel waits for one.
_PATIENCE = 0.1
_MACVLAN_MODE, _MACVLAN_PRIVATE, _MACVLAN_VEPA = 1, 1, 2


@dataclass(frozen=True)
class Search:
    """A question of ARP or neighbour discovery, asked under observation.

    Attributes:
        lab: where.
        node: who asks.
        out: on which interface.
        hop: for whom.
        owner: the interface on that link whose node has the address; None if there is none.
        answered: whether an answer came.
        questions: the question, wherever it was seen.
        answers: the answer likewise.
        trace: what nftables rules did to them, and to what carries them.
        names: what captures call each namespace, by inode.
    """

    lab: Lab
    node: Node
    out: Interface
    hop: Address
    owner: Interface | None
    answered: bool
    questions: list[Frame]
    answers: list[Frame]
    trace: RuleTrace
    names: dict[int, str]

    @property
    def protocol(self) -> str:
        """ARP, or neighbour discovery."""
        return "ARP" if self.hop.version == 4 else "neighbour discovery"

    def saw(self, frames: Sequence[Frame], interface: Interface, outgoing: bool) -> bool:
        """Whether one of some frames passed an interface."""
        name = self.names.get(interface.node.inode, interface.node.name)
        return any((f.node, f.interface, f.outgoing) == (name, interface.name, outgoing) for f in frames)


def search(lab: Lab, node: Node, out: Interface, hop: Address) -> Search:
    """Ask. Raises NetnsError if it cannot be asked there."""
    names: dict[int, str] = {}
    for each in lab:
        if not each.closed:
            names.setdefault(each.inode, each.name)
    capture = lab.capture(chatter=True)
    capture.internal = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetnsWarning)
        with RuleTrace(lab, protocols(lab)) as trace, capture:
            answered = bool(arp(node, hop, timeout=_PATIENCE))
            trace.read()
    for frame in capture.frames:
        frame.node = next((name for inode, name in names.items() if lab[frame.node].inode == inode), frame.node)
    questions = [frame for frame in capture.frames if sought(frame) == hop.packed]
    answers = [frame for frame in capture.frames if answered_for(frame) == hop.packed]
    owner = next(iter(reach(lab, out).owners(hop)), None)
    return Search(lab, node, out, hop, owner, answered, questions, answers, trace, names)


def _dropped(seen: Search) -> Diagnosis | None:
    for drop in seen.trace.drops:
        if drop.packet is not None and drop.packet.neighbour:
            return Diagnosis(drop.cause(seen.protocol), drop.node.name)
    for drop in seen.trace.drops:
        if drop.packet is not None and carrier_of(seen.lab, drop.packet) == seen.out:
            return Diagnosis(drop.cause(f"what {seen.out} carries"), drop.node.name)
    return None


def _tunnel(seen: Search) -> Diagnosis | None:
    return tunnel_fault(seen.lab, seen.out, seen.owner, seen.hop) if not seen.answered else None


def _macvlan(seen: Search) -> Diagnosis | None:
    """Devices upon the same interface that do not talk to each other by their mode."""
    owner = seen.owner
    if owner is None or not isinstance(owner.node, Node) or {seen.out.kind, owner.kind} != {"macvlan"}:
        return None
    for device in (owner, seen.out):
        assert isinstance(device.node, Node)
        mode = details(device.node)[device.name].number(_MACVLAN_MODE)
        word = {_MACVLAN_PRIVATE: "private", _MACVLAN_VEPA: "vepa"}.get(mode)
        if word is not None:
            return Diagnosis(
                f"{device} is a macvlan in mode {word}: it does not talk to others upon the same interface, such as "
                f"{seen.out if device is owner else owner}",
                device.node.name,
                [f"{device.node.name}: ip -d link show {device.name}: macvlan mode {word}"],
                cures=[f'{device.node.name}.add_macvlan("{device.name}", mode="bridge", ...)'],
            )
    return None


def _question_lost(seen: Search) -> Diagnosis | None:
    if seen.owner is None:
        return None
    path = l2_path(seen.lab, seen.out, seen.owner)
    lost = gap(path, seen.questions, seen.names) if path else None
    return lost_at(seen.lab, lost) if lost is not None else None


def _not_answered(seen: Search) -> Diagnosis | None:
    """The question arrives, and the node does not answer."""
    owner = seen.owner
    if owner is None or not isinstance(owner.node, Node) or not seen.saw(seen.questions, owner, outgoing=False):
        return None
    if seen.saw(seen.answers, owner, outgoing=True):
        return None
    node, hop = owner.node, seen.hop
    state = owner.state
    if hop.version == 4 and state.flags & IFF_NOARP:
        return Diagnosis(
            f"{owner} does not answer ARP: it is switched off there (NOARP)",
            node.name,
            [f"{node.name}: ip link show {owner.name}: NOARP"],
            cures=[f"{node.name}.run(['ip', 'link', 'set', '{owner.name}', 'arp', 'on'])"],
        )
    if (fault := not_local(node, owner, hop)) is not None:
        return fault
    asker = next((a.ip for a in seen.out.addresses if a.version == hop.version and not a.is_link_local), None)
    if hop.version == 4 and asker is not None:
        if (fault := _arp_ignore(node, owner, hop)) is not None:
            return fault
        if (fault := _arp_filter(node, owner, asker)) is not None:
            return fault
        if (fault := rp_filter_fault(node, owner, Flow(asker, hop))) is not None:
            return fault
    return filtered(owner, "ingress") or filtered(owner, "egress")


def _arp_ignore(node: Node, owner: Interface, hop: Address) -> Diagnosis | None:
    name = f"net/ipv4/conf/{owner.name}/arp_ignore"
    value = max(sysctl(node, "net/ipv4/conf/all/arp_ignore"), sysctl(node, name))
    own = any(a.ip == hop for a in owner.addresses)
    if not value or (own and value < 8 and value != 3):
        return None
    places = ", ".join(i.name for i in node.interfaces.values() if any(a.ip == hop for a in i.addresses))
    return Diagnosis(
        f"{node.name!r} does not answer ARP for {hop} on {owner.name!r}: arp_ignore is {value}"
        f"{f', and the address is on {places}' if places and not own else ''}",
        node.name,
        [f"{node.name}: sysctl net.ipv4.conf.{owner.name}.arp_ignore = {sysctl(node, name)}"],
        cures=[f'{node.name}.sysctl["net.ipv4.conf.{owner.name}.arp_ignore"] = 0'],
    )


def _arp_filter(node: Node, owner: Interface, asker: Address) -> Diagnosis | None:
    name = f"net/ipv4/conf/{owner.name}/arp_filter"
    if not (sysctl(node, "net/ipv4/conf/all/arp_filter") or sysctl(node, name)):
        return None
    try:
        route = node.route_to(asker)
    except NetnsError:
        return None
    if route.interface == owner.name:
        return None
    return Diagnosis(
        f"{node.name!r} does not answer ARP on {owner.name!r}: arp_filter is 1, and its route to {asker} leads out of "
        f"{route.interface!r}",
        node.name,
        [f"{node.name}: sysctl net.ipv4.conf.{owner.name}.arp_filter = {sysctl(node, name)}", f"{node.name}: {route}"],
        cures=[f'{node.name}.sysctl["net.ipv4.conf.{owner.name}.arp_filter"] = 0'],
    )


def _rewritten(seen: Search) -> Diagnosis | None:
    """Ours is answered, which passes no rules; that of the kernel is rewritten (RFC 4861 7.1: only 255 is taken)."""
    nodes = [seen.node, *([seen.owner.node] if seen.owner is not None and isinstance(seen.owner.node, Node) else [])]
    for node in nodes if seen.hop.version == 6 and seen.answered else ():
        for rule in changes_of(node, "ip6", "hoplimit"):
            if rule.hook in ("output", "postrouting"):
                return Diagnosis(
                    f"{node.name!r} rewrites the hop limit (hoplimit) of its own neighbour discovery, which is taken "
                    "only "
                    f"with 255 (RFC 4861 7.1): {rule.text}",
                    node.name,
                    [rule.text],
                )
    return None


def _answer_lost(seen: Search) -> Diagnosis | None:
    if seen.owner is None or not seen.saw(seen.questions, seen.owner, outgoing=False):
        return None
    path = l2_path(seen.lab, seen.owner, seen.out)
    lost = gap(path, seen.answers, seen.names) if path else None
    return lost_at(seen.lab, lost) if lost is not None else None


#: In the order in which they are asked: what the kernel itself has said, what the devices are by themselves, and then
#: along the way of the question and the answer, which ends at the first place that does not pass it on.
_CHECKS: Sequence[Callable[[Search], Diagnosis | None]] = (
    _dropped,
    _rewritten,
    _tunnel,
    _macvlan,
    _question_lost,
    _not_answered,
    _answer_lost,
)


def why_unanswered(seen: Search) -> Diagnosis | None:
    """Why nobody answers, though somebody on the link has the address; None if somebody does and nothing is wrong."""
    now = "answered" if seen.answered else "and"
    evidence = [f"{seen.node.name}: ip neighbour show {seen.hop}: unanswered before, {now} now"]
    for check in _CHECKS:
        if (seen.answered and check not in (_dropped, _rewritten)) or (found := check(seen)) is None:
            continue
        found.evidence = [*evidence, *found.evidence]
        return found
    if seen.answered:
        return None
    text = f"{seen.protocol} on {seen.out} for {seen.hop} is unanswered, though a node on that link has the address"
    if seen.owner is not None and seen.saw(seen.questions, seen.owner, outgoing=False):
        answers = seen.saw(seen.answers, seen.owner, outgoing=True)
        text += (
            f"; the question arrives at {seen.owner}, {'and its answer is lost' if answers else 'and is not answered'}"
        )
    return Diagnosis(text, seen.node.name, evidence)
