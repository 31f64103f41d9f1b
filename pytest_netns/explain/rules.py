"""Which nftables rule dropped a packet: the kernel's own trace (``meta nftrace``, nft(8)), switched on for a moment."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, attributes
from pytest_netns.kernel.syscalls import entered
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node

_TABLE = "pytest_netns_trace"
_LAST = "postrouting"
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTRACE = 9
_NFT_MSG_TRACE = 10 << 8 | 17
# enum nft_trace_attributes of linux/netfilter/nf_tables.h
_TRACE_TABLE, _TRACE_CHAIN, _TRACE_HANDLE, _TRACE_TYPE, _TRACE_VERDICT, _TRACE_ID = 1, 2, 3, 4, 5, 6
_TRACE_NETWORK_HEADER, _TRACE_TRANSPORT_HEADER, _TRACE_POLICY = 8, 9, 16
_TYPE_POLICY, _TYPE_RULE = 1, 3
_NF_DROP = 0
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_ICMPV6, _TCP, _UDP = 58, 6, 17


@dataclass(frozen=True, slots=True)
class Headers:
    """What a trace tells of a packet.

    Attributes:
        source: None for ARP.
        destination: None for ARP.
        ports: source and destination port of TCP and UDP; else zeros.
        neighbour: whether it is ARP or neighbour discovery.
        protocol: number of the IP protocol; 0 for ARP.
    """

    source: Address | None
    destination: Address | None
    ports: tuple[int, int] = (0, 0)
    neighbour: bool = False
    protocol: int = 0


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

    def cause(self, what: str) -> str:
        """One sentence with the node's name, ``what`` being the packet's role."""
        return (
            f"a netfilter rule on {self.node.name!r} drops {what}: {self.family} {self.table} {self.chain}: {self.rule}"
        )


class RuleTrace:
    """Traces packets of some protocols through the rules of all nodes that have any, while a ``with`` block runs.

    ARP and neighbour discovery are traced too: without them no other packet goes out.

    Args:
        lab: the lab.
        protocols: numbers of IP protocols.
    """

    def __init__(self, lab: Lab, protocols: Iterable[int]) -> None:
        self._lab = lab
        self._match = f"meta l4proto {{ {', '.join(map(str, sorted({*protocols, _ICMPV6})))} }}"
        self._traced: list[tuple[Node, socket.socket]] = []
        self._packets: dict[tuple[int, bytes], Headers] = {}
        self.drops: list[Drop] = []
        #: What left each node, by the inode of its namespace, as address translation there made it.
        self.sent_on: dict[int, list[tuple[Headers, Headers]]] = {}
        self.skipped: list[str] = []

    def __enter__(self) -> Self:
        try:
            by_namespace: dict[int, Node] = {}
            for node in self._lab:
                if not node.closed:
                    by_namespace.setdefault(node.inode, node)
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
        with entered(node):
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._traced.append((node, sock))
        sock.setblocking(False)
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTRACE)
        node.nft("\n".join(_tables(ruleset, self._match, list(node.interfaces))))

    def _stop(self) -> None:
        for node, sock in self._traced:
            sock.close()
            if node.closed:
                continue
            for family in (item["table"]["family"] for item in node.nft_ruleset() if _is_ours(item)):  # type: ignore[index]
                node.nft(f"delete table {family} {_TABLE}")
        self._traced = []

    def read(self) -> None:
        """Take in what the kernels have told so far. Call it inside the block."""
        for node, sock in self._traced:
            while True:
                try:
                    data = sock.recv(1 << 16)
                except BlockingIOError:
                    break
                if len(data) >= 20 and struct.unpack_from("=H", data, 4)[0] == _NFT_MSG_TRACE:
                    self._take(node, _FAMILIES.get(data[16], str(data[16])), attributes(data, 20))

    def _take(self, node: Node, family: str, found: dict[int, bytes]) -> None:
        key = (node.inode, found.get(_TRACE_ID, b""))
        table, chain = _text(found.get(_TRACE_TABLE)), _text(found.get(_TRACE_CHAIN))
        headers = _headers(family, found)
        if headers is not None:
            before = self._packets.setdefault(key, headers)
            if (table, chain) == (_TABLE, _LAST):
                self.sent_on.setdefault(node.inode, []).append((before, headers))
        rule = _dropping(node, family, table, chain, found)
        if rule is not None:
            drop = Drop(node, family, table, chain, rule, self._packets.get(key))
            if drop not in self.drops:
                self.drops.append(drop)


def _tables(ruleset: list[dict[str, object]], match: str, devices: list[str]) -> Iterator[str]:
    """Tables of ours that begin the trace, before all others: the chains of raw tables are at -300."""
    chains = [chain for item in ruleset if isinstance(chain := item.get("chain"), dict)]
    families = {chain["family"] for chain in chains}
    hooks = {chain.get("hook") for chain in chains}
    traced = f"{match} meta nftrace set 1;"

    def table(family: str, *bodies: str) -> str:
        return "\n".join([f"table {family} {_TABLE} {{", *(f"chain {body} }}" for body in bodies), "}"])

    first = [f"{hook} {{ type filter hook {hook} priority -450; {traced}" for hook in ("prerouting", "output")]
    # Behind those that translate addresses (srcnat is at 100): what it sees is what leaves.
    yield table("inet", *first, f"{_LAST} {{ type filter hook {_LAST} priority 450;")
    if "bridge" in families:
        yield table("bridge", *first)
    if "arp" in families:
        yield table(
            "arp",
            *(f"{hook} {{ type filter hook {hook} priority -450; meta nftrace set 1;" for hook in ("input", "output")),
        )
    on_devices = [hook for hook in ("ingress", "egress") if hook in hooks]
    if on_devices:
        yield table(
            "netdev",
            *(
                f'{hook}{number} {{ type filter hook {hook} device "{device}" priority -500; meta nftrace set 1;'
                for hook in on_devices
                for number, device in enumerate(devices)
            ),
        )


def _is_ours(item: dict[str, object]) -> bool:
    table = item.get("table")
    return isinstance(table, dict) and table.get("name") == _TABLE


def _text(raw: bytes | None) -> str:
    return (raw or b"").rstrip(b"\0").decode("utf-8", "replace")


def _headers(family: str, found: dict[int, bytes]) -> Headers | None:
    network, transport = found.get(_TRACE_NETWORK_HEADER, b""), found.get(_TRACE_TRANSPORT_HEADER, b"")
    if family == "arp" or network[:4] == b"\0\x01\x08\0":  # Ethernet and IPv4: the head of an ARP packet
        return Headers(None, None, neighbour=True)
    version = network[0] >> 4 if network else 0
    if version == 4 and len(network) >= 20:
        protocol, source, destination = network[9], network[12:16], network[16:20]
    elif version == 6 and len(network) >= 40:
        protocol, source, destination = network[6], network[8:24], network[24:40]
    else:
        return None
    ports = struct.unpack_from("!HH", transport) if protocol in (_TCP, _UDP) and len(transport) >= 4 else (0, 0)
    neighbour = protocol == _ICMPV6 and transport[:1] in (b"\x87", b"\x88")
    return Headers(ip_address(source), ip_address(destination), (ports[0], ports[1]), neighbour, protocol)


def _dropping(node: Node, family: str, table: str, chain: str, found: dict[int, bytes]) -> str | None:
    """The text of the rule if it dropped the packet."""
    kind = struct.unpack("!I", found.get(_TRACE_TYPE, bytes(4)))[0]
    if kind == _TYPE_POLICY:
        policy = found.get(_TRACE_POLICY)
        return None if policy is None or struct.unpack("!I", policy)[0] != _NF_DROP else "policy drop"
    if kind != _TYPE_RULE or _TRACE_VERDICT not in found:
        return None
    code = attributes(found[_TRACE_VERDICT]).get(1)
    if code is None or struct.unpack("!i", code)[0] != _NF_DROP:
        return None
    handle = struct.unpack("!Q", found.get(_TRACE_HANDLE, bytes(8)))[0]
    return _rule(node, family, table, chain, handle)


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
