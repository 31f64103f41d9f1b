"""Route lookup: how a node's kernel routes an incoming or outgoing packet, and which ip rule decides it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pytest_netns.addresses import Address
from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.explain.look.ip_rules import matches, rules
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.ip_rule import IpRule
from pytest_netns.kernel.netlink.rtnetlink import Selector, route_verdict
from pytest_netns.kernel.netlink.tables import Route, decode_link, decode_route
from pytest_netns.lab.nodes import Node

_MAIN_TABLES = {0, 253, 254, 255}


def route_of(node: Node, destination: Address, packet: Selector) -> Route:
    """What the kernel would do with a packet now.

    Args:
        node: whose kernel.
        destination: of the packet, as it is when the route is looked up.
        packet: what else decides.

    Raises:
        KernelError: it would refuse it, with its errno.
    """
    body = node.rtnl.get(route_verdict(destination, packet))
    names = {link.index: link.name for link in map(decode_link, node.rtnl.dump(rtnetlink.link_dump()))}
    return decode_route(body, names)[0]


def deciding_rule(node: Node, destination: Address, packet: Selector, iif: str) -> IpRule | None:
    """The ip rule beside the usual three that decides about a packet; None if it is one of those."""
    for rule in rules(node, destination.version):
        if not matches(rule, destination, packet, iif) or rule.action in ("goto", "nop"):
            continue
        if rule.action != "lookup":
            return rule
        if rule.table in _MAIN_TABLES:
            if has_route(node, rule.table, destination):
                return None
        elif has_route(node, rule.table, destination):
            return rule
    return None


def has_route(node: Node, table: int, destination: Address) -> bool:
    """Whether a routing table has anything for a destination."""
    return any(
        route.destination.version == destination.version and destination in route.destination and route.kind != "throw"
        for route in node.routes(table=table or 254)
    )


def best_route(node: Node, table: int, destination: Address) -> Route | None:
    """The most specific route of a table."""
    fitting = [
        r
        for r in node.routes(table=table)
        if r.destination.version == destination.version and destination in r.destination
    ]
    return max(fitting, key=lambda r: (r.destination.prefixlen, -r.metric), default=None)


def alternatives(node: Node, destination: Address, route: Route) -> list[Route]:
    """The routes that are as good as one, that included, if it is one of several next hops; else nothing."""
    fitting = [
        each
        for each in node.routes(table=None)
        if each.destination.version == destination.version
        and destination in each.destination
        and each.kind == route.kind == "unicast"
    ]
    chosen = next((r for r in fitting if (r.interface, r.gateway) == (route.interface, route.gateway)), None)
    if chosen is None:
        return []
    same = [
        r for r in fitting if (r.destination, r.metric, r.table) == (chosen.destination, chosen.metric, chosen.table)
    ]
    return same if len(same) > 1 else []


def sysctl(node: Node, name: str) -> int:
    """A sysctl as a number, 0 if there is none."""
    try:
        return int(node.sysctl[name])
    except (KeyError, ValueError, NetnsError):
        return 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the kernel refuses a packet.

    Attributes:
        reason: in words, to follow the node's name.
        evidence: lines that show it.
    """

    reason: str
    evidence: list[str]


def why_refused(node: Node, destination: Address, packet: Selector, iif: str, error: KernelError) -> Refusal | None:
    """What the kernel refuses a packet for, if the mere destination is not it."""
    evidence = [f"{node.name}: {error.operation}: {error.detail or os.strerror(error.errno)}"]
    rule = deciding_rule(node, destination, packet, iif)
    if rule is not None:
        evidence.append(f"{node.name}: ip rule: {rule}")
        if rule.action != "lookup":
            return Refusal(f"has an ip rule ({rule}) that makes it drop {_what(destination, packet)}", evidence)
        route = best_route(node, rule.table, destination)
        falls = f"{_what(destination, packet)} falls to {route or 'nothing'} of table {rule.table}"
        return Refusal(f"has an ip rule ({rule}) by which {falls}", evidence)
    if (iif and destination.is_loopback) or (packet.source is not None and packet.source.is_loopback and iif):
        name = f"net.ipv4.conf.{iif}.route_localnet"
        shown = f"{node.name}: sysctl {name} = {sysctl(node, f'net/ipv4/conf/{iif}/route_localnet')}"
        reason = f"a loopback address comes in at {iif!r}, and route_localnet is 0"
        return Refusal(f"drops {_what(destination, packet)} as a martian: {reason}", [*evidence, shown])
    if iif and packet.source is not None and any(each.ip == packet.source for each in node.addresses()):
        return Refusal(
            f"drops {_what(destination, packet)} as a martian: the source {packet.source} is its own address", evidence
        )
    return None


def _what(destination: Address, packet: Selector) -> str:
    return f"{packet.source or 'its own packets'} -> {destination}"
