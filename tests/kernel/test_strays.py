"""Answers that no socket would take for its own: from elsewhere, or damaged."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TypeVar

import pytest
from conversation import address_of, listen
from damage import damage, no_offload
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.packet import Raw
from slowness import patient

from pytest_netns import (
    Capture,
    DnsResult,
    Host,
    Lab,
    PingResult,
    ProbeFailure,
    Router,
    UdpResult,
    assert_ping,
    assert_tcp_filtered,
    assert_tcp_not_open,
    assert_udp,
    eventually,
)

SHORT = patient(0.15)
Result = TypeVar("Result", UdpResult, DnsResult)
versions = pytest.mark.parametrize("version", [4, 6])


@contextmanager
def echo(heard: socket.socket, answers: socket.socket) -> Iterator[None]:
    """What one socket hears is sent back by another one."""

    def serve() -> None:
        while data := heard.recvfrom(1000):
            if data[1] is None:  # shut down
                return
            answers.sendto(data[0], data[1])

    heard.settimeout(None)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        try:
            heard.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is not connected, which it is told; it wakes all the same
            pass
        thread.join()


def answered(ask: Callable[[], Result]) -> Result:
    """The answer of a server that is a thread, which may have to wait for a processor: not the silence before it."""

    def found() -> list[Result]:
        result = ask()
        udp = result if isinstance(result, UdpResult) else result.udp
        return [] if udp.state in ("silent", "inconclusive") else [result]

    return eventually(found, within=20)[0]


@versions
def test_a_server_that_answers_from_its_first_address_is_named(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    second = "192.168.15.200" if version == 4 else "fd00::200"
    blue.add_address(f"{second}/{24 if version == 4 else 64}")
    first = address_of(blue, version)
    heard = listen(blue, 53, "udp", second)
    answers = listen(blue, 5353, "udp", str(first))
    with echo(heard, answers):
        result = answered(lambda: red.udp(second, 53, b"question", timeout=SHORT))
        assert (result.state, result.sender, result.reply) == ("answered-elsewhere", first, b"")
        assert not result
        assert f"the answer came from {first}, not from {second}" in repr(result)
        asked = answered(lambda: red.dns(second, "x.example", timeout=SHORT))
        assert (asked.rcode, asked.udp.state) == (None, "answered-elsewhere")
        assert str(first) in repr(asked)

        def fails() -> bool:
            with pytest.raises(ProbeFailure, match=f"answered-elsewhere, the answer came from {first}"):
                assert_udp(red, second, 53, b"question", timeout=SHORT)
            return True

        eventually(fails, within=20)


@versions
def test_an_answer_from_another_port_is_none(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    there = address_of(right, version)
    with echo(listen(right, 69, "udp", str(there)), listen(right, 4000, "udp", str(there))):
        result = answered(lambda: left.udp(there, 69, b"question", timeout=SHORT))
    assert (result.state, result.sender) == ("answered-elsewhere", there)
    assert f"the answer came from port 4000 of {there}, not from port 69" in repr(result)


@pytest.fixture
def behind_one_router(lab: Lab) -> tuple[Host, Router, Host]:
    """``red`` and ``blue`` on one link, and the router that both would send by."""
    lan, wan = lab.bridge("lan", "192.168.15.0/24"), lab.bridge("wan", "203.0.113.0/24")
    red, blue, router = lan.host("red"), lan.host("blue"), lab.router("router", lan, wan)
    for host in (red, blue):
        host.default_route(via=router)
    return red, router, blue


@versions
@pytest.mark.netns_requires("nft")
def test_without_hairpin_nat_the_server_is_named(behind_one_router: tuple[Host, Router, Host], version: int) -> None:
    red, router, blue = behind_one_router
    family = "ip" if version == 4 else "ip6"
    public, inner = address_of(router.interfaces["eth1"], version), address_of(blue, version)
    router.nft(
        f"table {family} n {{ chain c {{ type nat hook prerouting priority -100; "
        f"{family} daddr {public} tcp dport 80 dnat to {inner}; }}; }}"
    )
    listen(blue, 80)
    result = red.tcp(public, 80, timeout=SHORT)
    assert (result.state, result.sender) == ("answered-elsewhere", inner)
    assert not result
    assert result.reply is not None
    assert str(result.reply["TCP"].flags) == "SA"
    assert assert_tcp_not_open(red, public, 80, timeout=SHORT).state == "answered-elsewhere"
    with pytest.raises(ProbeFailure, match=f"expected filtered: .*the answer came from {inner}"):
        assert_tcp_filtered(red, public, 80, timeout=SHORT)


@versions
@pytest.mark.parametrize("state", ["open", "closed"])
@pytest.mark.netns_requires("nft")
def test_a_damaged_answer_to_a_syn_is_none(lab: Lab, version: int, state: str) -> None:
    red, _, blue = damaging(lab, "tcp", version)
    if state == "open":
        listen(blue, 80)
    there = address_of(blue, version)
    result = red.tcp(there, 80, timeout=SHORT)
    assert (result.state, result.sender) == ("bad-checksum", there)
    assert not result
    assert f"the answer of {there} has a wrong checksum" in repr(result)


@versions
@pytest.mark.netns_requires("nft")
def test_a_damaged_datagram_is_no_answer(lab: Lab, version: int) -> None:
    red, _, blue = damaging(lab, "udp", version)
    there = address_of(blue, version)
    sock = listen(blue, 80, "udp", str(there))
    with echo(sock, sock):
        result = answered(lambda: red.udp(there, 80, b"question", timeout=SHORT))
    assert (result.state, result.sender, result.reply) == ("bad-checksum", there, b"")
    assert not result


@versions
@pytest.mark.netns_requires("nft")
def test_a_damaged_echo_reply_is_none(lab: Lab, version: int) -> None:
    red, router, blue = damaging(lab, "ping", version)
    there = address_of(blue, version)
    result = red.ping(there, timeout=SHORT, count=2)
    assert not result
    assert (result.received, result.replies, result.responders) == (0, [], ())
    assert result.error is not None
    assert (result.error.text, result.error.sender) == (f"the reply of {there} has a wrong checksum", there)
    with pytest.raises(ProbeFailure, match="wrong checksum"):
        assert_ping(red, there, timeout=SHORT)
    router.nft(f"delete table {'ip' if version == 4 else 'ip6'} damage")
    assert red.ping(there).error is None


def damaging(lab: Lab, kind: str, version: int) -> tuple[Host, Router, Host]:
    """``red``, a router that damages what comes back, and ``blue``."""
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    no_offload(blue)
    damage(router, kind, version, 80)
    return red, router, blue


@versions
@pytest.mark.netns_requires("program:ip")
def test_an_echo_reply_of_somebody_else_is_none(lab: Lab, version: int) -> None:
    lan = lab.bridge("lan", "192.168.7.0/24")
    red, evil = lan.host("red"), lan.host("evil")
    nobody = ip_address("192.168.7.99" if version == 4 else "fd00::99")
    red.run(["ip", "neighbour", "add", str(nobody), "lladdr", evil.mac, "dev", "eth0"])
    own = address_of(evil, version)
    request = ICMP(type=8) if version == 4 else ICMPv6EchoRequest

    def answer(capture: Capture) -> None:
        asked = capture.expect(request, timeout=patient(20))
        if version == 4:
            data = ICMP(type=0, id=asked[ICMP].id, seq=asked[ICMP].seq) / Raw(bytes(asked[ICMP].payload))
            evil.send(IP(src=str(own), dst=str(red.ip4)) / data)
        else:
            echoed = asked[ICMPv6EchoRequest]
            echo = ICMPv6EchoReply(id=echoed.id, seq=echoed.seq, data=echoed.data)
            evil.send(IPv6(src=str(own), dst=str(red.ip6)) / echo)

    def asked() -> list[PingResult]:
        with evil.capture("eth0", request) as capture:
            thread = threading.Thread(target=answer, args=[capture])
            thread.start()
            result = red.ping(nobody, timeout=patient(0.5))
            thread.join()
        return [result] if result.error is not None else []  # the thread may have been late

    (result,) = eventually(asked, within=20)
    assert not result
    assert result.error is not None
    assert (result.error.text, result.error.sender) == (f"the reply came from {own}, not from {nobody}", own)
    assert (result.received, result.responders) == (0, ())


@versions
@pytest.mark.netns_requires("nft")
def test_others_traffic_is_no_stray(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    there = address_of(right, version)
    listen(left, 9999, "udp")
    noise = right.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    ended = threading.Event()

    def chatter() -> None:
        while not ended.is_set():
            noise.sendto(b"noise", (str(address_of(left, version)), 9999))

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        listen(right, 53, "udp")
        assert left.udp(there, 53, b"question", timeout=SHORT).error is None
        right.nft("table inet fw { chain c { type filter hook input priority 0; tcp dport 80 drop; }; }")
        assert left.tcp(there, 80, timeout=SHORT).state == "filtered"
    finally:
        ended.set()
        thread.join()
