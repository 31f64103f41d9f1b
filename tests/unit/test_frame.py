from __future__ import annotations

import pytest
from frames import HOSTILE, SECOND, frame_of
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from pytest_netns.capture.frame import CANARY, dissect, is_canary, is_chatter, summary

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SIX = IPv6(src="fe80::1", dst="ff02::1")
CHATTER = [
    SIX / ICMPv6ND_NS(tgt="fd00::1"),
    SIX / ICMPv6ND_NA(tgt="fd00::1"),
    SIX / ICMPv6ND_RS(),
    SIX / ICMPv6ND_RA(),
    SIX / IPv6ExtHdrHopByHop() / ICMPv6MLReport2(),
    IP(src="10.0.0.1", dst="224.0.0.1", proto=2) / Raw(b"\x16\0\0\0\xe0\0\0\x05"),  # an IGMP report
]
TALK = [
    SIX / ICMPv6EchoRequest(),
    SIX / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest(),
    SIX / UDP(dport=53),
    IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(),
    IP(src="10.0.0.1", dst="10.0.0.2") / TCP(dport=80),
]


@pytest.mark.parametrize("packet", CHATTER, ids=Packet.summary)
def test_what_hosts_do_unasked_is_chatter(packet: Packet) -> None:
    assert is_chatter(bytes(ETHER / packet))
    assert is_chatter(bytes(ETHER / Dot1Q(vlan=7) / packet))
    assert is_chatter(bytes(packet), ethernet=False)


@pytest.mark.parametrize("packet", TALK, ids=Packet.summary)
def test_what_they_do_for_somebody_is_not(packet: Packet) -> None:
    assert not is_chatter(bytes(ETHER / packet))
    assert not is_chatter(bytes(ETHER / Dot1Q(vlan=7) / packet))
    assert not is_chatter(bytes(packet), ethernet=False)


def test_arp_is_no_chatter_for_it_is_what_tests_ask_about() -> None:
    assert not is_chatter(bytes(Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="10.0.0.1")))


@given(HOSTILE, st.booleans())
def test_anything_is_chatter_or_not_without_an_error(data: bytes, ethernet: bool) -> None:
    assert is_chatter(data, ethernet) in (True, False)


@given(HOSTILE, st.booleans())
def test_anything_is_dissected_and_summed_up_without_an_error(data: bytes, ethernet: bool) -> None:
    frame = frame_of(data, ethernet=ethernet)
    assert isinstance(frame.packet, Packet)
    assert isinstance(summary(frame), str)
    assert repr(frame).startswith("<Frame red:eth0 out: ")


@pytest.mark.parametrize("packet", CHATTER + TALK, ids=Packet.summary)
def test_every_beginning_of_a_packet_is_dissected_without_an_error(packet: Packet) -> None:
    whole = bytes(ETHER / packet)
    for size in range(len(whole)):
        part = frame_of(whole[:size])
        assert isinstance(part.packet, Packet)
        assert repr(part)
        assert is_chatter(whole[:size]) in (True, False)


def test_a_frame_is_dissected_once_and_says_when_and_where() -> None:
    sent = ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=9, dport=80)
    frame = frame_of(sent, time=1_500_000_000 * SECOND + 250_000_000, outgoing=False)
    packet = frame.packet
    assert packet is frame.packet
    assert packet[TCP].dport == 80
    assert float(packet.time) == 1_500_000_000.25
    assert packet.sniffed_on == frame.place == "red:eth0"
    assert repr(frame).startswith("<Frame red:eth0 in: IP / TCP 10.0.0.1:")


@pytest.mark.parametrize("packet", [IP(dst="10.0.0.1") / UDP(), IPv6(dst="fd00::1") / UDP()], ids=Packet.summary)
def test_without_an_ethernet_header_the_version_tells_what_it_is(packet: Packet) -> None:
    assert type(dissect(bytes(packet), ethernet=False)) is type(packet)


def test_a_packet_that_scapy_chokes_on_is_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    def choke(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Ether, "do_dissect", choke)
    assert dissect(b"x" * 30) == Raw(b"x" * 30)


def test_a_canary_is_known_by_more_than_its_ethertype() -> None:
    assert is_canary(bytes(12) + CANARY + b"1")
    assert not is_canary(bytes(12) + CANARY[:-1])
    assert not is_canary(bytes(12) + b"\x88\xb5 somebody else's experiment")
