"""A probe's verdict is that of a plain connected socket of the kernel's, whatever is in the way."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from damage import damage, no_offload
from hypothesis import given, settings
from hypothesis import strategies as st
from slowness import SLOWNESS, patient

from pytest_netns import Host, Lab, Router

#: Examples of each property; thousands are for who changes a probe: NETNS_TEST_EXAMPLES=2000.
EXAMPLES = int(os.environ.get("NETNS_TEST_EXAMPLES") or (8 if SLOWNESS == 1 else 3))
#: Seconds to wait for answers. What comes, comes at once.
SHORT = patient(0.08)
#: Where the two differ they are asked again, with more patience: servers are threads, which may be late.
MORE = (1.0, 10.0)
#: The kernel repeats a SYN after a second.
LATER = 1.2 + SHORT
PORT = 80

REJECTS = {
    4: ["net-unreachable", "host-unreachable", "prot-unreachable", "port-unreachable", "net-prohibited"]
    + ["host-prohibited", "admin-prohibited"],
    6: ["no-route", "admin-prohibited", "addr-unreachable", "port-unreachable", "policy-fail", "reject-route"],
}
Kind = Literal["tcp", "udp", "ping"]


@dataclass(frozen=True)
class Setup:
    """What is in the way.

    Attributes:
        version: of IP.
        kind: of the probe.
        server: what listens there.
        firewall: where a rule is, and what it does.
        rule: what a routing rule of the asking host matches, and where that leads.
        nat: what the router translates.
        multipath: whether the host has two routers, of which one drops all.
        damaged: whether the router damages the checksums of answers.
        source: what the probe is bound to.
    """

    version: int
    kind: Kind
    server: str
    firewall: tuple[str, str] | None
    rule: tuple[str, str] | None
    nat: str
    multipath: bool
    damaged: bool
    source: str


def setups(kind: Kind) -> st.SearchStrategy[Setup]:
    """Any of them, the plain ones first."""

    def of_version(version: int) -> st.SearchStrategy[Setup]:
        rejects = [f"reject with {'icmp' if version == 4 else 'icmpv6'} type {kind}" for kind in REJECTS[version]]
        rejects += ["reject with tcp reset"] if kind == "tcp" else []
        return st.builds(
            Setup,
            st.just(version),
            st.just(kind),
            st.sampled_from(["answers", "answers", "nobody", "bound to eth1", "answers from elsewhere"]),
            st.none() | st.tuples(st.sampled_from(["red", "r1", "blue"]), st.sampled_from(["drop", *rejects])),
            st.none()
            | st.tuples(
                st.sampled_from(["ipproto", "dport", "other dport", "fwmark", "uidrange"]),
                st.sampled_from(["blackhole", "unreachable", "prohibit", "r2"]),
            ),
            st.sampled_from(["none", "masquerade", "one way", "dnat", "hairpin", "elsewhere"]),
            st.booleans(),
            st.booleans(),
            st.sampled_from(["none", "none", "address", "interface"]),
        )

    return st.sampled_from([4, 6]).flatmap(of_version)


@dataclass
class Place:
    """A network in which red asks somebody at an address.

    Attributes:
        red: who asks.
        blue: who should answer.
        address: whom red asks.
    """

    red: Host
    blue: Host
    address: str


def _ip(node: Host, version: int, *words: object) -> None:
    node.run(["ip", f"-{version}", *map(str, words)])


def _first(node: Host, version: int, interface: str = "eth0") -> str:
    found = node.interfaces[interface].ip4 if version == 4 else node.interfaces[interface].ip6
    return str(found)


def _build(lab: Lab, s: Setup) -> Place:
    v, family = s.version, "ip" if s.version == 4 else "ip6"
    near, far = lab.bridge("near", "10.1.0.0/24"), lab.bridge("far", "10.2.0.0/24")
    red, r1, r2 = lab.host("red", near), lab.router("r1", near, far), lab.router("r2", near, far)
    blue = lab.host("blue", near) if s.nat == "hairpin" else lab.host("blue", far, near)
    green = lab.host("green", far)
    vip = "203.0.113.9" if v == 4 else "2001:db8::9"
    for host in (red, blue, green):
        host.default_route(via=r1)
    address = _first(blue, v)
    hop = [_first(each, v) for each in (r1, r2)]
    target = vip if s.nat in ("one way", "dnat", "hairpin", "elsewhere") else address
    r2.nft("table inet dead { chain c { type filter hook forward priority 0; policy drop; }; }")
    if s.multipath:
        red.sysctl[f"net.{'ipv4' if v == 4 else 'ipv6'}.fib_multipath_hash_policy"] = 1
        _ip(red, v, "route", "replace", "default", "nexthop", "via", hop[0], "nexthop", "via", hop[1])
    _nat(r1, s, family, vip, address, _first(green, v))
    if s.damaged:
        no_offload(blue)
        no_offload(green)
        damage(r1, s.kind, v, PORT)
    if s.firewall is not None:
        where, verdict = s.firewall
        hook = {"red": "output", "r1": "forward", "blue": "input"}[where]
        match = {"tcp": f"tcp dport {PORT}", "udp": f"udp dport {PORT}"}.get(
            s.kind, "icmp type echo-request" if v == 4 else "icmpv6 type echo-request"
        )
        lab[where].nft(f"table {family} fw {{ chain c {{ type filter hook {hook} priority 0; {match} {verdict}; }}; }}")
    if s.rule is not None:
        _rule(red, s, hop[1])
    if s.kind == "ping" and s.server == "nobody":
        name = "net.ipv4.icmp_echo_ignore_all" if v == 4 else "net.ipv6.icmp.echo_ignore_all"
        blue.sysctl[name] = 1
    return Place(red, blue, target)


def _nat(router: Router, s: Setup, family: str, vip: str, address: str, other: str) -> None:
    if s.nat == "masquerade":
        router.nft(f"table {family} n {{ chain c {{ type nat hook postrouting priority 100; masquerade; }}; }}")
    elif s.nat == "one way":
        router.nft(
            f"table {family} n {{ chain c {{ type filter hook prerouting priority -300; "
            f"{family} daddr {vip} {family} daddr set {address} notrack; }}; }}"
        )
    elif s.nat in ("dnat", "hairpin", "elsewhere"):
        to = other if s.nat == "elsewhere" else address
        router.nft(
            f"table {family} n {{ chain c {{ type nat hook prerouting priority -100; "
            f"{family} daddr {vip} dnat to {to}; }}; }}"
        )


def _rule(red: Host, s: Setup, other_hop: str) -> None:
    assert s.rule is not None
    match, leads = s.rule
    number = {"tcp": "tcp", "udp": "udp", "ping": "icmp" if s.version == 4 else "ipv6-icmp"}[s.kind]
    words = {
        "ipproto": ["ipproto", number],
        "dport": ["ipproto", number, "dport", PORT] if s.kind != "ping" else ["ipproto", number],
        "other dport": ["ipproto", "tcp", "dport", PORT + 1],
        "fwmark": ["fwmark", 7],
        "uidrange": ["uidrange", f"{os.getuid()}-{os.getuid()}"],
    }[match]
    if match == "fwmark":
        red.nft(
            f"table inet m {{ chain c {{ type route hook output priority -150; meta l4proto {number} mark set 7; }}; }}"
        )
    route = ["default", "via", other_hop] if leads == "r2" else [leads, "default"]
    _ip(red, s.version, "route", "add", *route, "table", 100)
    _ip(red, s.version, "rule", "add", *words, "table", 100, "priority", 100)


@contextmanager
def _served(lab: Lab, place: Place, s: Setup) -> Iterator[None]:
    """Blue, and green, answer as they should."""
    if s.kind == "ping" or s.server == "nobody":
        yield
        return
    family = socket.AF_INET if s.version == 4 else socket.AF_INET6
    threads, sockets = [], []
    for host in (place.blue, lab["green"]):
        sock = host.socket(family, socket.SOCK_STREAM if s.kind == "tcp" else socket.SOCK_DGRAM)
        sockets.append(sock)
        if s.server == "bound to eth1" and "eth1" in host.interfaces:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1")
        sock.bind(("", PORT))
        if s.kind == "tcp":
            sock.listen()
            continue
        back = sock
        if s.server == "answers from elsewhere":
            back = host.socket(family, socket.SOCK_DGRAM)
            sockets.append(back)
        threads.append(threading.Thread(target=_echo, args=(sock, back)))
        threads[-1].start()
    try:
        yield
    finally:
        for sock in sockets:
            with_end = threads and sock.type == socket.SOCK_DGRAM
            if with_end:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:  # not connected, which it is told, and which wakes who waits for it
                    pass
        for thread in threads:
            thread.join()
        for sock in sockets:
            sock.close()


def _echo(sock: socket.socket, back: socket.socket) -> None:
    while True:
        try:
            data, sender = sock.recvfrom(100)
        except OSError:
            return
        if not data:
            return
        try:
            back.sendto(data, sender)
        except OSError:  # its own firewall
            continue


# ------------------------------------------------------------------ plain sockets


def _bound(place: Place, s: Setup, sock: socket.socket, patience: float) -> socket.socket:
    if s.source == "address":
        sock.bind((_first(place.red, s.version), 0))
    elif s.source == "interface":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.settimeout(patience)
    return sock


def _plain(place: Place, s: Setup, patience: float) -> str:
    """What a plain connected socket is told: ``"answered"``, ``"silence"``, or the name of an errno."""
    family = socket.AF_INET if s.version == 4 else socket.AF_INET6
    try:
        if s.kind == "ping":
            return _plain_ping(place, s, family, patience)
        with place.red.socket(family, socket.SOCK_STREAM if s.kind == "tcp" else socket.SOCK_DGRAM) as sock:
            _bound(place, s, sock, patience)
            sock.connect((place.address, PORT))
            if s.kind == "udp":
                sock.send(b"question")
                sock.recv(100)
            return "answered"
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _plain_ping(place: Place, s: Setup, family: int, patience: float) -> str:
    protocol = socket.IPPROTO_ICMP if s.version == 4 else socket.IPPROTO_ICMPV6
    with place.red.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        _bound(place, s, sock, patience)
        # not connected: which of several routes it takes depends on the source address, which connect() sets
        sock.sendto(bytes([8 if s.version == 4 else 128]) + bytes(7) + b"payload", (place.address, 0))
        sender = sock.recvfrom(1000)[1][0]
        return "answered" if sender == place.address else "silence"


# ------------------------------------------------------------------- the property


def _probe(place: Place, s: Setup, patience: float) -> Any:
    source: Any = {"none": None, "address": _first(place.red, s.version), "interface": "eth0"}[s.source]
    if s.kind == "ping":
        return place.red.ping(place.address, timeout=patience, source=source)
    if s.kind == "tcp":
        return place.red.tcp(place.address, PORT, timeout=patience, source=source)
    return place.red.udp(place.address, PORT, b"question", timeout=patience, source=source)


def _same(told: str, result: Any, s: Setup) -> bool:
    if told == "answered" or result:
        return told == "answered" and bool(result)
    if s.kind == "ping":
        return result.received == 0
    if told == "ECONNREFUSED":
        return bool(result.state == "closed")
    if told == "silence":
        # A plain UDP socket is not told of ICMP errors that may pass: net and host unreachable (ip(7), IP_RECVERR).
        passing = s.kind == "udp" and result.state == "unreachable" and result.error.type is not None
        return passing or result.state in ("filtered", "silent", "answered-elsewhere", "bad-checksum")
    return bool(result.state == "unreachable")


def _told_of_the_error(place: Place, s: Setup, result: Any) -> bool:
    """Whether a plain TCP socket is told of an ICMP error when it repeats its SYN: connect() may miss the first one."""
    if s.kind != "tcp" or result.error is None or result.error.type is None:
        return False
    return _same(_plain(place, s, LATER), result, s)


def _check(s: Setup) -> None:
    with Lab() as lab:
        place = _build(lab, s)
        if s.kind == "ping":
            group = os.getgid()
            place.red.sysctl["net.ipv4.ping_group_range"] = f"{group} {group}"
        with _served(lab, place, s):
            tried = []
            for patience in (SHORT, *MORE):
                tried.append(_difference(lab, place, s, patience))
                if tried[-1] is None:
                    return
            raise AssertionError(tried)


def _difference(lab: Lab, place: Place, s: Setup, patience: float) -> object:
    """What a plain socket is told and a probe is not, or the other way round; None if they agree."""
    if not s.multipath:
        plain, result = _plain(place, s, patience), _probe(place, s, patience)
        agree = _same(plain, result, s) or _told_of_the_error(place, s, result)
        return None if agree else (plain, result)
    # Each connection takes one of the two ways; what a plain socket is told on each of them is known.
    for result in [_probe(place, s, patience) for _ in range(2)]:
        told = []
        for router in ("r1", "r2"):
            hop = _first(lab[router], s.version)  # type: ignore[arg-type]
            _ip(place.red, s.version, "route", "replace", "default", "via", hop)
            told.append(_plain(place, s, patience))
            if _same(told[-1], result, s) or _told_of_the_error(place, s, result):
                break
        else:
            return told, result
    return None


@pytest.mark.parametrize("kind", ["tcp", "udp", "ping"])
@pytest.mark.netns_requires("nft", "program:ip")
def test_a_probe_says_what_a_plain_socket_is_told(kind: Kind) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True)
    @given(setups(kind))
    def holds(s: Setup) -> None:
        _check(s)

    holds()
