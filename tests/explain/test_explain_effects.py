"""Explaining changes nothing: what nodes know of each other is the same before and after. Counters apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from explaining import chain_in

from pytest_netns import Bridge, Lab, Router, why
from pytest_netns.lab.nodes import Node

SHORT = 0.05

#: What rules count is not what they are.
_COUNTED = re.compile(r'"(packets|bytes|used)": \d+')


def picture(lab: Lab) -> dict[str, object]:
    """Neighbours, forwarding databases, routes with their caches, rules, and tracked connections of all nodes."""
    return {node.name: _of(node) for node in lab}


def _of(node: Node) -> dict[str, object]:
    found: dict[str, object] = {
        "neighbours": {(n.address, n.interface, n.mac) for n in node.neighbours() if n.mac is not None},
        "routes": [str(route) for route in node.routes(table=None)],
        "rules": _COUNTED.sub("", json.dumps(node.nft_ruleset())),
        "sysctls": [node.sysctl.get(f"net.ipv4.conf.{name}.rp_filter") for name in node.interfaces],
        "links": [(each.name, each.mtu, each.is_up) for each in node.interfaces.values()],
    }
    if isinstance(node, Bridge):
        found["fdb"] = {(entry.mac, entry.port) for entry in node.fdb()}
    if isinstance(node, Router):
        found["connections"] = {(each.protocol, str(each.original)) for each in node.connections}
    return found


def by_rule(lab: Lab) -> tuple[Node, Node]:
    """A counting rule in a router, which tracks connections, drops it."""
    chain = chain_in(lab)
    chain.r2.nft(
        "table inet f { chain c { type filter hook forward priority 0;"
        " ct state new counter; tcp dport 80 counter drop; icmp type echo-request counter drop; }; }"
    )
    return chain.red, chain.blue


def by_sysctl(lab: Lab) -> tuple[Node, Node]:
    chain = chain_in(lab)
    chain.r2.sysctl["net.ipv4.ip_forward"] = 0
    return chain.red, chain.blue


def at_a_switch(lab: Lab) -> tuple[Node, Node]:
    switch = lab.bridge("sw")
    red, blue = switch.host("red"), switch.host("blue")
    assert red.ping(blue)
    blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
    return red, blue


@pytest.mark.netns_requires("nft")
@pytest.mark.parametrize("plant", [by_rule, by_sysctl, at_a_switch])
@pytest.mark.parametrize("kind", ["ping", "tcp"])
def test_explaining_changes_nothing(lab: Lab, plant: Callable[[Lab], tuple[Node, Node]], kind: str) -> None:
    red, blue = plant(lab)
    result: object = red.ping(blue, timeout=SHORT) if kind == "ping" else red.tcp(blue, 80, timeout=SHORT)
    assert not result
    before = picture(lab)
    assert why(result).cause is not None
    assert picture(lab) == before
