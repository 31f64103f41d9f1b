"""Which nftables rule dropped a packet: the kernel's own trace (``meta nftrace``, nft(8)), switched on for a moment."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from pytest_netns.capture.bpf import attach as attach_filter
from pytest_netns.errors import NetnsError
from pytest_netns.explain.nft_trace import parts
from pytest_netns.explain.nft_trace.event_filter import TELLING
from pytest_netns.explain.nft_trace.headers import Headers, headers_of
from pytest_netns.explain.nft_trace.trace_tables import LAST, STAGES, TABLE, matches, tables, translated_ports
from pytest_netns.explain.nft_trace.verdicts import Drop, Stage, rule_text, verdict_of
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, attributes
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.nft import nft_with_handles

_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTRACE = 9
_NFT_MSG_TRACE = 10 << 8 | 17
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
#: Bytes of queue asked for; the kernel grants no more than net.core.rmem_max.
_BUFFER = 4 << 20


class RuleTrace:
    """Traces packets of some protocols through the rules of all nodes that have any, while a ``with`` block runs.

    ARP and neighbour discovery are traced too: without them no other packet goes out.

    Args:
        lab: the lab.
        protocols: numbers of IP protocols.
        ports: of TCP and UDP only what has one of these, or one that a rule translates to, at either end; all if empty.
    """

    def __init__(self, lab: Lab, protocols: Iterable[int], ports: Iterable[int] = ()) -> None:
        self._lab = lab
        self._protocols = {*protocols, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6}
        self._ports = set(ports)
        #: Each with the families of our tables there.
        self._traced: list[tuple[Node, socket.socket, list[str]]] = []
        self._listings: dict[int, str] = {}
        self._packets: dict[tuple[int, bytes], Headers] = {}
        self.drops: list[Drop] = []
        #: Verdicts that take a packet elsewhere: fwd, dup, synproxy, queue.
        self.taken: list[Drop] = []
        #: Rules and policies that let a packet on, the last word of each chain.
        self.accepts: list[Drop] = []
        self.stages: list[Stage] = []
        #: Whether the kernel had more to tell than the buffer holds.
        self.lost: bool = False
        #: What left each node, by the inode of its namespace, as address translation there made it.
        self.sent_on: dict[int, list[tuple[Headers, Headers]]] = {}
        self.skipped: list[str] = []

    def __enter__(self) -> Self:
        by_namespace: dict[int, Node] = {}
        for node in self._lab:
            if not node.closed:
                by_namespace.setdefault(node.inode, node)
        try:
            for node in by_namespace.values():
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
            ruleset = node.nft_ruleset()
            if not ruleset:
                return
        except NetnsError as error:
            self.skipped.append(f"{node.name}: cannot look at its rules: {str(error).splitlines()[0]}")
            return
        sock = open_socket(node, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        families: list[str] = []
        self._traced.append((node, sock, families))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        attach_filter(sock, TELLING)
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTRACE)
        ports = self._ports | translated_ports(ruleset) if self._ports else self._ports
        texts = list(tables(ruleset, list(matches(self._protocols, ports)), list(node.interfaces)))
        families += [text.split()[1] for text in texts]
        node.nft("\n".join(texts))

    def _stop(self) -> None:
        for node, sock, families in self._traced:
            sock.close()
            if not node.closed and families:
                # All at once: each change takes the kernel milliseconds. What is not there is added, to be deleted.
                node.nft("\n".join(f"add table {name} {TABLE}; delete table {name} {TABLE}" for name in families))
        self._traced = []

    def read(self) -> None:
        """Take in what the kernels have told so far. Call it inside the block."""
        for node, sock, _ in self._traced:
            while True:
                try:
                    data = sock.recv(1 << 16)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.lost = True  # what it has queued is there still
                    continue
                if len(data) >= 20 and struct.unpack_from("=H", data, 4)[0] == _NFT_MSG_TRACE:
                    self._take(node, _FAMILIES.get(data[16], str(data[16])), attributes(data, 20))

    def _take(self, node: Node, family: str, found: dict[int, bytes]) -> None:
        key = (node.inode, found.get(parts.TRACE_ID, b""))
        table, chain = _text(found.get(parts.TRACE_TABLE)), _text(found.get(parts.TRACE_CHAIN))
        headers = headers_of(family, found)
        if headers is not None:
            before = self._packets.setdefault(key, headers)
            if table == TABLE and chain in STAGES:
                self.stages.append(Stage(node, chain, headers, before))
            if (table, chain) == (TABLE, LAST):
                self.sent_on.setdefault(node.inode, []).append((before, headers))
        code = verdict_of(found)
        if code is None or table == TABLE:
            return
        places = {
            parts.NF_DROP: self.drops,
            parts.NF_STOLEN: self.taken,
            parts.NF_QUEUE: self.taken,
            parts.NF_ACCEPT: self.accepts,
        }
        if (known := places.get(code)) is not None:
            drop = Drop(
                node,
                family,
                table,
                chain,
                self._words(node, family, table, chain, found),
                self._packets.get(key),
                code,
            )
            if drop not in known:
                known.append(drop)

    def _words(self, node: Node, family: str, table: str, chain: str, found: dict[int, bytes]) -> str:
        """The text of what decided: a rule, or ``policy drop``."""
        if struct.unpack("!I", found.get(parts.TRACE_TYPE, bytes(4)))[0] == parts.TYPE_POLICY:
            return "policy accept" if verdict_of(found) == parts.NF_ACCEPT else "policy drop"
        if node.inode not in self._listings:
            self._listings[node.inode] = nft_with_handles(node)
        handle = struct.unpack("!Q", found.get(parts.TRACE_HANDLE, bytes(8)))[0]
        return rule_text(self._listings[node.inode], family, table, chain, handle)


def _text(raw: bytes | None) -> str:
    return (raw or b"").rstrip(b"\0").decode("utf-8", "replace")
