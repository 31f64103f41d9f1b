"""Silence: why a search for a neighbour that is on the link is not answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_netns.addresses import Address, is_of_link
from pytest_netns.errors import NetnsError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.frame_path import gap, l2_path
from pytest_netns.explain.link_layer.losses import filtered, lost_at, queue_drop
from pytest_netns.explain.link_layer.search import Search
from pytest_netns.explain.look.encapsulation import carrier_of
from pytest_netns.explain.look.links import IFF_NOARP, details
from pytest_netns.explain.look.nat_rules import changes_of
from pytest_netns.explain.look.route_lookup import sysctl
from pytest_netns.explain.look.tunnel_ends import tunnel_fault
from pytest_netns.explain.way.delivery import not_local
from pytest_netns.explain.way.flow import Flow
from pytest_netns.explain.way.forwarding import rp_filter_fault
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

_MACVLAN_MODE, _MACVLAN_PRIVATE, _MACVLAN_VEPA = 1, 1, 2


def _dropped(seen: Search) -> Diagnosis | None:
    for drop in seen.trace.drops:
        if drop.packet is not None and drop.packet.neighbour:
            return Diagnosis(drop.cause(seen.protocol), drop.node.name)
    for drop in seen.trace.drops:
        if drop.packet is not None and carrier_of(seen.lab, drop.packet) == seen.out:
            return Diagnosis(drop.cause(f"what {seen.out} carries"), drop.node.name)
    return None


def _queued(seen: Search) -> Diagnosis | None:
    if seen.queued is None or seen.queued[1].node.impairments.setting(seen.queued[1]) is not None:
        return None
    return queue_drop(*seen.queued, seen.protocol)


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
    asker = next((a.ip for a in seen.out.addresses if a.version == hop.version and not is_of_link(a)), None)
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
            if rule.hook != "forward":
                return Diagnosis(
                    f"{node.name!r} rewrites the hop limit (hoplimit) of neighbour discovery, which is taken "
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
    _queued,
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
