"""Marking: whether rules of a node give firewall marks to packets."""

from __future__ import annotations

import json

from pytest_netns.errors import NetnsError
from pytest_netns.explain.look.iptables import legacy_rules
from pytest_netns.lab.nodes import Node

#: In the form of libnftables-json(5): ``meta mark set``, ``ct mark``, and the targets of iptables-nft.
_OF_NFT = (
    '"mangle": {"key": {"meta": {"key": "mark"}}',
    '"ct": {"key": "mark"}',
    '"name": "MARK"',
    '"name": "CONNMARK"',
)
_OF_IPTABLES = ("-j MARK ", "-j CONNMARK ")


def sets_marks(node: Node) -> bool:
    """Whether any rule of nftables or iptables does."""
    try:
        rules = json.dumps(node.nft_ruleset())
    except NetnsError:
        rules = ""
    return any(each in rules for each in _OF_NFT) or any(
        each in rule for rule in legacy_rules(node) for each in _OF_IPTABLES
    )
