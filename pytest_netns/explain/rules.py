"""Which nftables rule dropped a packet: the kernel's own trace (``meta nftrace``, nft(8)), switched on for a moment."""

from __future__ import annotations

import errno
import json
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from pytest_netns.addresses import Address
from pytest_netns.capture.bpf import attach as attach_filter
from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, attributes
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node

_TABLE = "pytest_netns_trace"
_LAST = "postrouting"
#: Where each chain of ours in the inet family stands: before all others (raw tables are at -300), or behind them
#: (srcnat is at 100), so that what they see tells how far a packet came in its node, and what address translation made
#: of it.
_FIRST, _BEHIND = -450, 450
_STAGES = {
    "prerouting": ("prerouting", _FIRST),
    "output": ("output", _FIRST),
    "prerouted": ("prerouting", _BEHIND),
    "input": ("input", _BEHIND),
    "forward": ("forward", _BEHIND),
    _LAST: ("postrouting", _BEHIND),
}
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTRACE = 9
_NFT_MSG_TRACE = 10 << 8 | 17
# enum nft_trace_attributes of linux/netfilter/nf_tables.h
_TRACE_TABLE, _TRACE_CHAIN, _TRACE_HANDLE, _TRACE_TYPE, _TRACE_VERDICT, _TRACE_ID = 1, 2, 3, 4, 5, 6
_TRACE_NETWORK_HEADER, _TRACE_TRANSPORT_HEADER, _TRACE_POLICY = 8, 9, 16
_TYPE_POLICY, _TYPE_RULE = 1, 3
_NF_DROP, _NF_ACCEPT, _NF_STOLEN, _NF_QUEUE, _CONTINUE = 0, 1, 2, 3, -1
#: What a verdict that ends a packet's way does to it.
_DOES = {_NF_DROP: "drops", _NF_STOLEN: "takes out of its way", _NF_QUEUE: "hands to a program in user space"}
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_ICMP, _ICMPV6, _TCP, _UDP = 1, 58, 6, 17


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

    @property
    def destination_bytes(self) -> bytes:
        """The destination as it is in a packet; empty for ARP."""
        return self.destination.packed if self.destination is not None else b""


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
    verdict: int = _NF_DROP

    @property
    def is_drop(self) -> bool:
        """Whether it ends the packet for good; others take it elsewhere."""
        return self.verdict == _NF_DROP

    def cause(self, what: str) -> str:
        """One sentence with the node's name, ``what`` being the packet's role."""
        does = _DOES.get(self.verdict, f"ends (verdict {self.verdict})")
        verb, _, rest = does.partition(" ")
        place = f"{self.family} {self.table} {self.chain}"
        return f"a netfilter rule on {self.node.name!r} {verb} {what}{f' {rest}' if rest else ''}: {place}: {self.rule}"


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
        self._protocols = {*protocols, _ICMP, _ICMPV6}
        self._ports = set(ports)
        self._traced: list[tuple[Node, socket.socket]] = []
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
        sock = open_socket(node, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._traced.append((node, sock))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        attach_filter(sock, _TELLING)
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTRACE)
        ports = self._ports | _translated_ports(ruleset) if self._ports else self._ports
        node.nft("\n".join(_tables(ruleset, list(_matches(self._protocols, ports)), list(node.interfaces))))

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
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.lost = True  # what it has queued is there still
                    continue
                if len(data) >= 20 and struct.unpack_from("=H", data, 4)[0] == _NFT_MSG_TRACE:
                    self._take(node, _FAMILIES.get(data[16], str(data[16])), attributes(data, 20))

    def _take(self, node: Node, family: str, found: dict[int, bytes]) -> None:
        key = (node.inode, found.get(_TRACE_ID, b""))
        table, chain = _text(found.get(_TRACE_TABLE)), _text(found.get(_TRACE_CHAIN))
        headers = _headers(family, found)
        if headers is not None:
            before = self._packets.setdefault(key, headers)
            if table == _TABLE and chain in _STAGES:
                self.stages.append(Stage(node, chain, headers, before))
            if (table, chain) == (_TABLE, _LAST):
                self.sent_on.setdefault(node.inode, []).append((before, headers))
        code = _verdict(found)
        if code is None or table == _TABLE:
            return
        places = {_NF_DROP: self.drops, _NF_STOLEN: self.taken, _NF_QUEUE: self.taken, _NF_ACCEPT: self.accepts}
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
        if struct.unpack("!I", found.get(_TRACE_TYPE, bytes(4)))[0] == _TYPE_POLICY:
            return "policy accept" if _verdict(found) == _NF_ACCEPT else "policy drop"
        if node.inode not in self._listings:
            self._listings[node.inode] = node.nft_with_handles()
        handle = struct.unpack("!Q", found.get(_TRACE_HANDLE, bytes(8)))[0]
        return _rule(self._listings[node.inode], family, table, chain, handle)


def _translated_ports(ruleset: list[dict[str, object]]) -> set[int]:
    """The ports that rules for address translation name: on the far side a packet may have one of them."""
    return {int(port) for port in _TO_PORT.findall(json.dumps(ruleset))}


_TO_PORT = re.compile(r'"(?:dnat|snat|redirect|masquerade)": {[^{}]*"port": (\d+)')
#: Bytes of queue asked for; the kernel grants no more than net.core.rmem_max.
_BUFFER = 4 << 20
# Events that tell something: with the head of a packet, which each chain gives once, or with another verdict than
# "continue". A hundred rules that do not match say a hundred times nothing, and would fill the queue (socket(7),
# SO_ATTACH_FILTER; SKF_AD_NLATTR finds an attribute by its type, from an offset on).
_ATTRIBUTES, _NLATTR, _NLATTR_NEST = 20, 0xFFFFF000 + 12, 0xFFFFF000 + 16
_TELLING = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x00, 0, 0, _ATTRIBUTES),  # ld #20
        (0x01, 0, 0, 8),  # ldx #NFTA_TRACE_NETWORK_HEADER
        (0x20, 0, 0, _NLATTR),  # ld attribute
        (0x15, 0, 8, 0),  # found: accept
        (0x00, 0, 0, _ATTRIBUTES),
        (0x01, 0, 0, 5),  # ldx #NFTA_TRACE_VERDICT
        (0x20, 0, 0, _NLATTR),
        (0x15, 4, 0, 0),  # none: accept
        (0x01, 0, 0, 1),  # ldx #NFTA_VERDICT_CODE
        (0x20, 0, 0, _NLATTR_NEST),
        (0x07, 0, 0, 0),  # tax
        (0x40, 0, 0, 4),  # ld [x + 4], of network byte order
        (0x15, 1, 0, 0xFFFFFFFF),  # NFT_CONTINUE: drop
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    )
)


def _matches(protocols: Iterable[int], ports: Iterable[int]) -> Iterator[str]:
    """What is traced, as conditions of nft(8)."""
    numbers = set(protocols)
    if ports := set(ports):
        with_ports = ", ".join(map(str, sorted(numbers & {_TCP, _UDP})))
        these = ", ".join(map(str, sorted(ports)))
        if with_ports:
            yield f"meta l4proto {{ {with_ports} }} th dport {{ {these} }}"
            yield f"meta l4proto {{ {with_ports} }} th sport {{ {these} }}"
        numbers -= {_TCP, _UDP}
    yield f"meta l4proto {{ {', '.join(map(str, sorted(numbers)))} }}"


def _tables(ruleset: list[dict[str, object]], matches: list[str], devices: list[str]) -> Iterator[str]:
    """Tables of ours that begin the trace, and that see what comes of it."""
    chains = [chain for item in ruleset if isinstance(chain := item.get("chain"), dict)]
    families = {chain["family"] for chain in chains}
    hooks = {chain.get("hook") for chain in chains}
    traced = " ".join(f"{match} meta nftrace set 1;" for match in matches)
    with_arp = f"{traced} ether type arp meta nftrace set 1;"

    def table(family: str, *bodies: str) -> str:
        return "\n".join([f"table {family} {_TABLE} {{", *(f"chain {body} }}" for body in bodies), "}"])

    yield table(
        "inet",
        *(
            f"{name} {{ type filter hook {hook} priority {priority}; {traced if priority == _FIRST else ''}"
            for name, (hook, priority) in _STAGES.items()
        ),
    )
    if "bridge" in families:
        yield table(
            "bridge",
            *(f"{hook} {{ type filter hook {hook} priority {_FIRST}; {with_arp}" for hook in ("prerouting", "output")),
        )
    if "arp" in families:
        yield table(
            "arp",
            *(
                f"{hook} {{ type filter hook {hook} priority {_FIRST}; meta nftrace set 1;"
                for hook in ("input", "output")
            ),
        )
    on_devices = [hook for hook in ("ingress", "egress") if hook in hooks]
    if on_devices:
        yield table(
            "netdev",
            *(
                f'{hook}{number} {{ type filter hook {hook} device "{device}" priority -500; {with_arp}'
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


def _verdict(found: dict[int, bytes]) -> int | None:
    """What a rule or a policy decided; None if it is none, or decided nothing."""
    kind = struct.unpack("!I", found.get(_TRACE_TYPE, bytes(4)))[0]
    if kind == _TYPE_POLICY:
        policy = found.get(_TRACE_POLICY)
        return None if policy is None else int(struct.unpack("!I", policy)[0])
    if kind != _TYPE_RULE or _TRACE_VERDICT not in found:
        return None
    code = attributes(found[_TRACE_VERDICT]).get(1)
    number = _CONTINUE if code is None else struct.unpack("!i", code)[0]
    return None if number < 0 else number & 0xFF  # above stand an errno, or the number of a queue


def _rule(listing: str, family: str, table: str, chain: str, handle: int) -> str:
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
