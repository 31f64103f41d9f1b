"""Policy routing rules: which routing table a node's kernel uses for a packet (ip-rule(8))."""

from __future__ import annotations

import os

from pytest_netns.addresses import Address
from pytest_netns.kernel.netlink.ip_rule import IpRule, decode_rule, rule_dump
from pytest_netns.kernel.netlink.rtnetlink import Selector
from pytest_netns.lab.nodes import Node


def matches(rule: IpRule, destination: Address, packet: Selector, iif: str) -> bool:
    """Whether a rule matches a packet; unknown properties of the packet do not match."""
    fits = (
        (rule.source is None or (packet.source is not None and packet.source in rule.source))
        and (rule.destination is None or destination in rule.destination)
        and (not rule.iif or rule.iif == (iif or "lo"))
        and not rule.oif
        and (rule.uid is None or (not iif and rule.uid[0] <= os.geteuid() <= rule.uid[1]))
        and (rule.mark is None or packet.mark & rule.mark[1] == rule.mark[0])
        and rule.protocol in (0, packet.protocol)
        and (rule.sport is None or rule.sport[0] <= packet.ports[0] <= rule.sport[1])
        and (rule.dport is None or rule.dport[0] <= packet.ports[1] <= rule.dport[1])
    )
    return fits != rule.inverted


def rules(node: Node, version: int) -> list[IpRule]:
    """The ip rules of a node, in their order."""
    return sorted(map(decode_rule, node.rtnl.dump(rule_dump(version))), key=lambda rule: rule.priority)


def marks(node: Node, version: int) -> list[int]:
    """The firewall marks that its ip rules ask for."""
    return [rule.mark[0] for rule in rules(node, version) if rule.mark and rule.mark[0] and not rule.inverted]
