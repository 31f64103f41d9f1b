"""The kernel as oracle: random faults, and the cause that is named agrees with the reason that the kernel has told.

``ORACLE_FAULTS=200`` plants as many instead of a few; ``ORACLE_SEED`` chooses others. ``-s`` shows the figures.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from explaining import Chain, at, chain_in

from pytest_netns import Lab, why
from pytest_netns.kernel.search_path import find_program
from pytest_netns.lab.nodes import Node

pytestmark = pytest.mark.netns_requires("drop-reasons", "nft")

FAULTS = int(os.environ.get("ORACLE_FAULTS", "15"))
SEED = int(os.environ.get("ORACLE_SEED", "13"))
SHORT = 0.1
_TOLD = re.compile(r"the kernel's own reason for dropping the (?:request|reply|error)[^:]*: (\w+)")

#: What a cause must say, by the kernel's reason (``enum skb_drop_reason`` of <net/dropreason-core.h>).
AGREES = {
    "NETFILTER_DROP": "netfilter rule",
    "IP_INADDRERRORS": "does not forward|route",
    "IP_INNOROUTES": "route",
    "IP_OUTNOROUTES": "route",
    "IP_RPFILTER": "rp_filter|way back",
    "IPV6DISABLED": "IPv6 is disabled",
    "IP_INHDR": "time to live|hop limit",
    "NO_SOCKET": "nothing listens|bound to",
    "OTHERHOST": "MAC|neighbour",
    "PKT_TOO_BIG": "mtu",
    "SOCKET_FILTER": "filter of its own",
    "SOCKET_RCVBUFF": "receive queue",
    "TC_EGRESS": "tc filter at egress",
    "TC_INGRESS": "tc filter at ingress|netdev",
    "QDISC_DROP": "discipline|full",
    "TCP_MD5NOTFOUND": "MD5",
    "TCP_LISTEN_OVERFLOW": "backlog",
}


@dataclass
class Case:
    """A fault that is planted.

    Attributes:
        chain: where.
        version: of IP.
        kind: of the probe.
        chance: draws.
        probe: further keywords of the probe.
        port: that it asks for.
        keep: what must live as long.
    """

    chain: Chain
    version: int
    kind: str
    chance: random.Random
    probe: dict[str, object] = field(default_factory=dict)
    port: int = 80
    keep: list[object] = field(default_factory=list)

    @property
    def target(self) -> str:
        return at(self.chain.blue, self.version)

    def fails(self) -> object:
        """The result of the probe."""
        red, timeout = self.chain.red, SHORT
        if self.kind == "ping":
            return red.ping(self.target, timeout=timeout, **self.probe)  # type: ignore[arg-type]
        if self.kind == "tcp":
            return red.tcp(self.target, self.port, timeout=timeout)
        return red.udp(self.target, self.port, b"hello", timeout=timeout)


Planted = tuple[str, str]


def rule(case: Case) -> Planted:
    """A rule of nftables somewhere on the way there."""
    chain = case.chain
    places: list[tuple[Node, str]] = [(chain.red, "output"), (chain.red, "postrouting"), (chain.blue, "input")]
    places += [(node, hook) for node in (chain.r1, chain.r2) for hook in ("prerouting", "forward", "postrouting")]
    places += [(chain.blue, "prerouting")]
    node, hook = case.chance.choice(places)
    protocol = {"ping": "{ icmp, ipv6-icmp }", "tcp": "tcp", "udp": "udp"}[case.kind]
    only = "" if case.kind != "ping" else "icmpv6 type echo-request" if case.version == 6 else "icmp type echo-request"
    words = only or f"meta l4proto {protocol}"
    node.nft(f"table inet f {{ chain c {{ type filter hook {hook} priority 0; {words} drop; }}; }}")
    return node.name, "netfilter rule"


def policy(case: Case) -> Planted:
    """A policy of a router."""
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    node.nft("table inet f { chain c { type filter hook forward priority 0; policy drop; }; }")
    return node.name, "netfilter rule"


def reply_rule(case: Case) -> Planted:
    """A rule against the reply."""
    case.kind = case.chance.choice(("ping", "tcp"))  # nobody replies to datagrams here
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    source = f"{'ip' if case.version == 4 else 'ip6'} saddr {case.target}"
    node.nft(f"table inet f {{ chain c {{ type filter hook forward priority 0; {source} drop; }}; }}")
    return node.name, "netfilter rule"


def ingress_rule(case: Case) -> Planted:
    """A rule of the netdev family."""
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    words = {"ping": "meta l4proto { icmp, ipv6-icmp }", "tcp": "meta l4proto tcp", "udp": "meta l4proto udp"}
    assert case.chain.red.ping(case.target)
    node.nft(
        f"table netdev f {{ chain c {{ type filter hook ingress device eth0 priority 0; {words[case.kind]} drop; }}; }}"
    )
    return node.name, "netfilter rule"


def forwarding(case: Case) -> Planted:
    """Forwarding is off."""
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    node.sysctl["net.ipv4.ip_forward" if case.version == 4 else "net.ipv6.conf.all.forwarding"] = 0
    return node.name, "forward"


def refused_by_route(case: Case) -> Planted:
    """A route of a router leads nowhere."""
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    kind = case.chance.choice(("blackhole", "unreachable", "prohibit"))
    node.add_route(f"{case.target}/{32 if case.version == 4 else 128}", kind=kind)
    return node.name, kind


def no_route(case: Case) -> Planted:
    """A router has lost its route."""
    far = case.chain.links[2].b.addresses
    case.chain.r1.remove_route(next(each.network for each in far if each.version == case.version))
    return "r1", "route"


def no_socket(case: Case) -> Planted:
    """Nobody listens."""
    case.kind = case.chance.choice(("tcp", "udp"))
    case.port = case.chance.randrange(2000, 60000)
    return "blue", "nothing listens"


def spoofed(case: Case) -> Planted:
    """Strict reverse path filtering, and a way back that leads elsewhere."""
    case.version = 4
    assert case.chain.red.ping(case.target)  # ARP from there would not be answered either
    node, other = case.chance.choice(((case.chain.r1, case.chain.r2), (case.chain.r2, case.chain.blue)))
    node.sysctl["net.ipv4.conf.eth0.rp_filter"] = 1
    node.add_route(f"{at(case.chain.red, 4)}/32", other)
    return node.name, "rp_filter"


def ipv6_off(case: Case) -> Planted:
    """IPv6 is disabled at a router's interface."""
    case.version = 6
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    node.sysctl["net/ipv6/conf/eth0/disable_ipv6"] = 1
    return node.name, "IPv6 is disabled"


def short_life(case: Case) -> Planted:
    """The time to live ends on the way."""
    case.kind = "ping"
    case.probe = {"ttl": case.chance.choice((1, 2))}
    return ("r1" if case.probe["ttl"] == 1 else "r2"), "time to live|hop limit"


def too_big(case: Case) -> Planted:
    """A router's link takes less."""
    case.kind = "ping"
    case.chain.r1.interface("eth1").mtu = 1300
    case.chain.r2.interface("eth0").mtu = 1300
    case.probe = {"size": 1350, "df": True}
    return "r1", "mtu"


def wrong_mac(case: Case) -> Planted:
    """A permanent neighbour with another's MAC address."""
    node, hop, out = case.chance.choice(
        ((case.chain.red, case.chain.r1, "eth0"), (case.chain.r1, case.chain.r2, "eth1"))
    )
    near = hop.interface("eth0").addresses
    address = next(each.ip for each in near if each.version == case.version)
    node.run(f"ip neighbour replace {address} lladdr 02:00:00:00:00:99 dev {out}".split())
    return node.name, "wrong MAC"


def socket_filter(case: Case) -> Planted:
    """The server's socket has a filter that takes nothing."""
    case.kind = "udp"
    case.port = 81
    server = case.chain.blue.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", 81))
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
    server.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(code)))
    case.keep.append(server)
    return "blue", "filter of its own"


def queue_full(case: Case) -> Planted:
    """The server does not read."""
    case.kind = "udp"
    case.port = 82
    server = case.chain.blue.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    server.bind(("::", 82))
    with case.chain.red.socket(socket.AF_INET6 if case.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(20):
            sender.sendto(bytes(900), (case.target, 82))
    case.keep.append(server)
    return "blue", "receive queue"


def tc_filter(case: Case) -> Planted:
    """A classifier drops what comes in, or goes out."""
    assert case.chain.red.ping(case.target)
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    way, out = case.chance.choice((("ingress", "eth0"), ("egress", "eth1")))
    protocol = "ip" if case.version == 4 else "ipv6"
    node.run(["tc", "qdisc", "add", "dev", out, "clsact"])
    node.run(f"tc filter add dev {out} {way} protocol {protocol} bpf da bytecode".split() + ["1,6 0 0 2"])
    return node.name, f"tc filter at {way}"


def slow_queue(case: Case) -> Planted:
    """A queueing discipline that has no room."""
    assert case.chain.red.ping(case.target)
    node = case.chance.choice((case.chain.r1, case.chain.r2))
    node.run(["tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", "8bit", "burst", "10", "limit", "10"])
    return node.name, "discipline tbf"


CATALOGUE: list[Callable[[Case], Planted]] = [
    *(rule, rule, rule, policy, reply_rule, ingress_rule, forwarding, no_route, refused_by_route),
    *(no_socket, spoofed, ipv6_off, short_life, too_big, socket_filter, queue_full),
]
if find_program("ip"):
    CATALOGUE += [wrong_mac]
if find_program("tc"):
    CATALOGUE += [tc_filter, tc_filter, slow_queue]


@dataclass
class Figures:
    """How often the kernel has told a reason, and how often the cause agreed."""

    planted: int = 0
    named: int = 0
    told: int = 0
    agreed: int = 0
    lines: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    found = Figures()
    yield found
    print(
        f"\noracle: {found.planted} faults, {found.named} named; the kernel told its reason for {found.told}, "
        f"and {found.agreed} agreed"
    )
    for line in sorted(set(found.lines)):
        print(f"  {found.lines.count(line):3} {line}")


@pytest.mark.parametrize("number", range(FAULTS))
def test_the_cause_agrees_with_the_kernels_own_reason(lab: Lab, number: int, figures: Figures) -> None:
    chance = random.Random(f"{SEED}-{number}")
    case = Case(chain_in(lab), chance.choice((4, 6)), chance.choice(("ping", "tcp", "udp")), chance)
    servers = [case.chain.blue.socket(socket.AF_INET6, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    for server in servers:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 80))
    servers[0].listen()
    plant = CATALOGUE[number % len(CATALOGUE)] if len(CATALOGUE) < FAULTS else chance.choice(CATALOGUE)
    figures.planted += 1
    try:
        node, cause = plant(case)
        result = case.fails()
        assert not result, "it was to be broken"
        found = why(result)
    finally:
        for each in (*servers, *case.keep):
            each.close()  # type: ignore[attr-defined]
    what = f"{plant.__name__}, IPv{case.version}, {case.kind}"
    assert found.node == node, f"{what}\n{found}"
    assert re.search(cause, found.cause or ""), f"{what}\n{found}"
    figures.named += 1
    reasons = {told[1] for line in found.evidence if (told := _TOLD.search(line)) is not None}
    judged = reasons & AGREES.keys()  # other kernels may have others
    figures.lines.append(f"{what}: {', '.join(sorted(reasons)) or '-'}")
    if not judged:
        return
    figures.told += 1
    for reason in judged:
        assert re.search(AGREES[reason], found.cause or ""), f"{what}: {reason}\n{found}"
    figures.agreed += 1
