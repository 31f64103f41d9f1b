"""Which nftables rule dropped a packet: the kernel's own trace (``meta nftrace``, nft(8)), switched on for a moment."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink import NETLINK_NETFILTER, attributes
from pytest_netns.kernel.syscalls import entered
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.node import Node

_TABLE = "pytest_netns_trace"
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTRACE = 9
_NFT_MSG_TRACE = 10 << 8 | 17
_TRACE_TABLE, _TRACE_CHAIN, _TRACE_HANDLE, _TRACE_TYPE, _TRACE_VERDICT = 1, 2, 3, 4, 5
_TYPE_POLICY, _TYPE_RULE = 1, 3
_NF_DROP = 0
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}


@dataclass(frozen=True, slots=True)
class Drop:
    """A rule, or the policy of a chain, that dropped a packet.

    Attributes:
        node: where.
        family: of the table: ``ip``, ``inet``, ...
        table: its name.
        chain: its name.
        rule: the rule's text, or ``policy drop``.
    """

    node: Node
    family: str
    table: str
    chain: str
    rule: str

    @property
    def cause(self) -> str:
        """One sentence with the node's name."""
        return f"a netfilter rule on {self.node.name!r} drops it: {self.family} {self.table} {self.chain}: {self.rule}"


class RuleTrace:
    """Traces packets of a protocol through the rules of all nodes that have any, while a ``with`` block runs.

    Args:
        lab: the lab.
        match: which packets, as nft(8) writes it, e.g. ``meta l4proto icmp``.
    """

    def __init__(self, lab: Lab, match: str) -> None:
        self._lab = lab
        self._match = match
        self._traced: list[tuple[Node, socket.socket]] = []
        self.skipped: list[str] = []

    def __enter__(self) -> Self:
        try:
            for node in {node.inode: node for node in self._lab if not node.closed}.values():
                self._trace(node)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _trace(self, node: Node) -> None:
        try:
            if not node.nft_ruleset():
                return
        except NetnsError as error:
            self.skipped.append(f"{node.name}: cannot look at its rules: {str(error).splitlines()[0]}")
            return
        with entered(node.fd):
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._traced.append((node, sock))
        sock.setblocking(False)
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTRACE)
        families = ["inet", "bridge"] if isinstance(node, Bridge) else ["inet"]
        text = []
        for family in families:
            text.append(f"table {family} {_TABLE} {{")
            for hook in ("prerouting", "output"):  # before all others: those of raw tables are at -300
                text.append(
                    f"chain {hook} {{ type filter hook {hook} priority -450; {self._match} meta nftrace set 1; }}"
                )
            text.append("}")
        node.nft("\n".join(text))

    def _stop(self) -> None:
        for node, sock in self._traced:
            sock.close()
            for family in ("inet", "bridge"):
                if not node.closed and any(_is_ours(item, family) for item in node.nft_ruleset()):
                    node.nft(f"delete table {family} {_TABLE}")
        self._traced = []

    def drops(self) -> list[Drop]:
        """What was dropped so far, and by which rule. Call it inside the block."""
        found: list[Drop] = []
        for node, sock in self._traced:
            while True:
                try:
                    data = sock.recv(1 << 16)
                except BlockingIOError:
                    break
                drop = _decode(node, data)
                if drop is not None and drop not in found:
                    found.append(drop)
        return found


def _is_ours(item: dict[str, object], family: str) -> bool:
    table = item.get("table")
    return isinstance(table, dict) and (table.get("family"), table.get("name")) == (family, _TABLE)


def _text(raw: bytes | None) -> str:
    return (raw or b"").rstrip(b"\0").decode("utf-8", "replace")


def _decode(node: Node, data: bytes) -> Drop | None:
    if len(data) < 20 or struct.unpack_from("=H", data, 4)[0] != _NFT_MSG_TRACE:
        return None
    family = _FAMILIES.get(data[16], str(data[16]))
    found = attributes(data, 20)
    kind = struct.unpack("!I", found.get(_TRACE_TYPE, bytes(4)))[0]
    if kind == _TYPE_POLICY:
        policy = found.get(16)  # NFTA_TRACE_POLICY
        if policy is None or struct.unpack("!I", policy)[0] != _NF_DROP:
            return None
        return Drop(node, family, _text(found.get(_TRACE_TABLE)), _text(found.get(_TRACE_CHAIN)), "policy drop")
    if kind != _TYPE_RULE or _TRACE_VERDICT not in found:
        return None
    code = attributes(found[_TRACE_VERDICT]).get(1)
    if code is None or struct.unpack("!i", code)[0] != _NF_DROP:
        return None
    handle = struct.unpack("!Q", found.get(_TRACE_HANDLE, bytes(8)))[0]
    table, chain = _text(found.get(_TRACE_TABLE)), _text(found.get(_TRACE_CHAIN))
    return Drop(node, family, table, chain, _rule(node, family, table, chain, handle))


def _rule(node: Node, family: str, table: str, chain: str, handle: int) -> str:
    """The text of a rule, found by its handle in the listing."""
    here = ["", ""]
    for line in node.nft_with_handles().splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            here[0] = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            here[1] = words[1]
        elif here == [f"{family} {table}", chain] and line.endswith(f"# handle {handle}"):
            return line.rpartition("#")[0].strip()
    return f"handle {handle}"
