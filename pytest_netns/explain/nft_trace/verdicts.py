"""Verdicts: what rules and policies decided, and how far a packet came through a node's hooks."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pytest_netns.explain.nft_trace import parts
from pytest_netns.explain.nft_trace.headers import Headers
from pytest_netns.kernel.netlink.socket import attributes
from pytest_netns.lab.nodes import Node

#: What a verdict that ends a packet's way does to it.
_DOES = {
    parts.NF_DROP: "drops",
    parts.NF_STOLEN: "takes out of its way",
    parts.NF_QUEUE: "hands to a program in user space",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A packet behind a step of a node's netfilter hooks.

    Attributes:
        node: where.
        name: ``prerouting``, ``prerouted`` (behind address translation), ``input``, ``forward``, ``output``,
            ``postrouting``.
        packet: as it was there.
        before: as it came into the node.
    """

    node: Node
    name: str
    packet: Headers
    before: Headers


@dataclass(frozen=True, slots=True)
class Drop:
    """A rule, or the policy of a chain, that dropped a packet.

    Attributes:
        node: where.
        family: of the table: ``ip``, ``inet``, ...
        table: its name.
        chain: its name.
        rule: the rule's text, or ``policy drop``.
        packet: what was dropped; None if the kernel did not say.
    """

    node: Node
    family: str
    table: str
    chain: str
    rule: str
    packet: Headers | None = None
    verdict: int = parts.NF_DROP

    def cause(self, what: str) -> str:
        """One sentence with the node's name, ``what`` being the packet's role."""
        does = _DOES.get(self.verdict, f"ends (verdict {self.verdict})")
        verb, _, rest = does.partition(" ")
        place = f"{self.family} {self.table} {self.chain}"
        return f"a netfilter rule on {self.node.name!r} {verb} {what}{f' {rest}' if rest else ''}: {place}: {self.rule}"


def verdict_of(found: dict[int, bytes]) -> int | None:
    """What a rule or a policy decided; None if it is none, or decided nothing."""
    kind = struct.unpack("!I", found.get(parts.TRACE_TYPE, bytes(4)))[0]
    if kind == parts.TYPE_POLICY:
        policy = found.get(parts.TRACE_POLICY)
        return None if policy is None else int(struct.unpack("!I", policy)[0])
    if kind != parts.TYPE_RULE or parts.TRACE_VERDICT not in found:
        return None
    code = attributes(found[parts.TRACE_VERDICT]).get(1)
    number = parts.CONTINUE if code is None else struct.unpack("!i", code)[0]
    return None if number < 0 else number & 0xFF  # above stand an errno, or the number of a queue


def rule_text(listing: str, family: str, table: str, chain: str, handle: int) -> str:
    """The text of a rule, found by its handle in the listing."""
    here = ["", ""]
    for line in listing.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            here[0] = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            here[1] = words[1]
        elif here == [f"{family} {table}", chain] and line.endswith(f"# handle {handle}"):
            return line.rpartition("#")[0].strip()
    return f"handle {handle}"
