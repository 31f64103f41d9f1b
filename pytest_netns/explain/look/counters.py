"""Counters: what each node's kernel has counted before and after a probe; at an innocent node none of these moves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from pytest_netns.errors import NetnsError
from pytest_netns.explain.look import iptables
from pytest_netns.kernel.netlink import tc
from pytest_netns.kernel.syscalls import entered
from pytest_netns.lab.nodes import Node

#: Counters that grow when a packet is not taken. Others count what is normal.
_OF_TROUBLE = re.compile(
    r"Drop|Overflow|NoRoutes|NoPorts|AddrErrors|HdrErrors|Discards|FragFails|ReasmFails|NotFound|MD5Unexpected"
    r"|PathFilter|Truncated|Csum|MinTTL|Rcvbuf|MemErrors|UnknownProtos|NoMatch|InErrors|OutNoRoutes|TooBig|Failures"
)
# What hosts do unasked, or a consequence of what is counted already.
_NOISE = re.compile(
    r"Icmp6?(Msg)?Out|Icmp6?(Msg)?In(?!Csum|Err)|TCPRcvCoalesce|Mcast|Bcast|PFMemalloc|TCPBacklog|DSACK"
)

#: What a counter that grew says, by its name in snmp(7)'s files.
WORDS: Mapping[str, str] = {
    "TcpExt.ListenOverflows": "the accept queue (backlog) of a listener is full",
    "TcpExt.ListenDrops": "a listener drops connections",
    "TcpExt.TCPMD5NotFound": "a TCP-MD5 signature is expected, and there was none (RFC 2385)",
    "TcpExt.TCPMD5Unexpected": "a TCP-MD5 signature came that was not expected (RFC 2385)",
    "TcpExt.TCPMD5Failure": "the TCP-MD5 signature is wrong: the keys differ (RFC 2385)",
    "TcpExt.TCPAOKeyNotFound": "a TCP-AO signature is expected, and there was none (RFC 5925)",
    "TcpExt.TCPAORequired": "a TCP-AO signature is expected, and there was none (RFC 5925)",
    "TcpExt.TCPMinTTLDrop": "its time to live is below IP_MINTTL of the socket (RFC 5082)",
    "TcpExt.IPReversePathFilter": "rp_filter drops it: the way back to its source is by another interface (RFC 3704)",
    "Udp.RcvbufErrors": "the receive queue of the socket is full: its program does not read",
    "Udp6.RcvbufErrors": "the receive queue of the socket is full: its program does not read",
    "Udp.MemErrors": "UDP has used up its memory (net.ipv4.udp_mem)",
    "Udp.NoPorts": "no socket takes the datagram",
    "Udp6.NoPorts": "no socket takes the datagram",
    "Udp.InCsumErrors": "the UDP checksum is wrong",
    "Udp6.InCsumErrors": "the UDP checksum is wrong",
    "Tcp.InCsumErrors": "the TCP checksum is wrong",
    "Icmp.InCsumErrors": "the ICMP checksum is wrong",
    "Icmp6.InCsumErrors": "the ICMPv6 checksum is wrong",
    "Ip.InHdrErrors": "its time to live is used up, or its header is damaged",
    "Ip6.InHdrErrors": "its hop limit is used up, or its header is damaged",
    "Ip.InAddrErrors": "its destination is not an address of this node, which does not forward it",
    "Ip6.InAddrErrors": "its destination is not an address of this node, which does not forward it",
    "Ip.OutNoRoutes": "it has no route for what it sends",
    "Ip6.OutNoRoutes": "it has no route for what it sends",
    "Ip6.InNoRoutes": "it has no route for what comes in (a rule, a table)",
    "IpExt.InNoRoutes": "it has no route for what comes in (a rule, a table)",
    "Ip.FragFails": "it is larger than the mtu and may not be fragmented",
    "Ip6.FragFails": "it is larger than the mtu",
    "Ip6.InTooBigErrors": "it is larger than the mtu",
    "IpExt.InCsumErrors": "the checksum of the IP header is wrong",
}

#: What has no queue: filters hang there, and what they drop is counted.
PLACES_FOR_FILTERS = ("clsact", "ingress")
_FILES = ("snmp", "netstat", "snmp6", "dev")


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of a node at one time, as the kernel tells them: most do not change and need not be understood.

    Attributes:
        files: of /proc/net, by name.
        queues: of its queueing disciplines, as the kernel answers.
        rules: of iptables-legacy, by rule.
    """

    files: Mapping[str, str]
    queues: tuple[bytes, ...]
    rules: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Growth:
    """A counter that has grown."""

    node: str
    name: str
    by: int

    def __str__(self) -> str:
        words = WORDS.get(self.name)
        return f"{self.name} +{self.by}" + (f" ({words})" if words else "")


def counters(node: Node) -> Reading:
    """Those of a node that tell of trouble."""
    with entered(node):
        files = {name: _read(name) for name in _FILES}
    try:
        queues = tuple(node.rtnl.dump(tc.qdisc_dump(0, "")))
    except NetnsError:
        queues = ()
    return Reading(files, queues, iptables.dropped(node))


def grown(node: Node, before: Reading, after: Reading) -> list[Growth]:
    """What has grown between two readings."""
    found: list[Growth] = []
    for name, parse in (("snmp", _pairs), ("netstat", _pairs), ("snmp6", _columns), ("dev", _interfaces)):
        if before.files[name] != after.files[name]:
            earlier, later = before.files[name], after.files[name]
            if parse is _columns:
                earlier, later = _changed(earlier, later)
            found += _growth(node, dict(parse(earlier)), dict(parse(later)))
    if before.queues != after.queues:
        names = {interface.index: name for name, interface in node.interfaces.items()}
        found += _growth(node, dict(_queues(before.queues, names)), dict(_queues(after.queues, names)))
    return found + _growth(node, before.rules, after.rules)


def _changed(before: str, after: str) -> tuple[str, str]:
    """The lines of two readings of one file that differ: few do."""
    several = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=False) if pair[0] != pair[1]]
    return "\n".join(one for one, _ in several), "\n".join(other for _, other in several)


def _growth(node: Node, before: Mapping[str, int], after: Mapping[str, int]) -> list[Growth]:
    changes = ((name, value - before.get(name, 0)) for name, value in after.items())
    return [Growth(node.name, name, by) for name, by in changes if by > 0]


def _read(name: str) -> str:
    try:
        with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


@cache
def _is_of_trouble(name: str) -> bool:
    return name in WORDS or (_OF_TROUBLE.search(name) is not None and _NOISE.search(name) is None)


def _pairs(text: str) -> Iterator[tuple[str, int]]:
    """/proc/net/snmp: a line of names, a line of values."""
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        group, *keys = names.split()
        for key, value in zip(keys, values.split()[1:], strict=False):
            name = f"{group.rstrip(':')}.{key}"
            if _is_of_trouble(name):
                yield name, int(value)


def _columns(text: str) -> Iterator[tuple[str, int]]:
    """/proc/net/snmp6: a name and a value a line."""
    for line in text.splitlines():
        key, value = line.split()
        group, name = re.match(r"(Ip6|Icmp6|Udp6|UdpLite6)(.*)", key).groups() if key[:1] in "IU" else ("", key)  # type: ignore[union-attr]
        name = f"{group}.{name}"
        if _is_of_trouble(name):
            yield name, int(value)


def _interfaces(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        for word, column in (("receive errors", 2), ("receive drops", 3), ("send errors", 10), ("send drops", 11)):
            if len(numbers) > column:
                yield f"{name.strip()}: {word}", int(numbers[column])


def queue_drops(node: Node) -> dict[str, tuple[str, int]]:
    """The kind of the queueing discipline of each interface of a node, and how many packets it has dropped."""
    names = {interface.index: name for name, interface in node.interfaces.items()}
    try:
        found = [tc.decode_qdisc(body) for body in node.rtnl.dump(tc.qdisc_dump(0, ""))]
    except NetnsError:
        return {}
    queues = (each for each in found if each.index in names and each.kind not in PLACES_FOR_FILTERS)
    return {names[each.index]: (each.kind, each.dropped) for each in queues if each.dropped}


def _queues(bodies: Iterable[bytes], names: Mapping[int, str]) -> Iterator[tuple[str, int]]:
    for qdisc in map(tc.decode_qdisc, bodies):
        yield f"tc qdisc {qdisc.kind} on {names.get(qdisc.index, qdisc.index)}: drops", qdisc.dropped
