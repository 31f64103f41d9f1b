from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from frames import HOSTILE, frame_of
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from pytest_netns.capture.pattern import Pattern, describe, matcher, wants_chatter

# scapy asks the machine for a destination MAC that is left open, and waits for a second
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SYN = ETHER / IP(src="10.0.0.1", dst="10.0.0.2", ttl=63)
SYN = SYN / TCP(sport=1234, dport=80, flags="S") / b"some payload"
SIX = ETHER / IPv6(src="fd00::1", dst="fd00::2") / UDP(dport=53, sport=9) / b"question"
WHO_HAS = Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, psrc="10.0.0.1", pdst="10.0.0.2")

MATCHES: list[tuple[Pattern, Packet]] = [
    (IP(), SYN),
    (IP() / TCP(), SYN),
    (IP() / TCP(dport=80), SYN),
    (IP() / TCP(flags="S"), SYN),
    (TCP(dport=80), SYN),
    (IP(ttl=63), SYN),
    (IP(dst="10.0.0.2"), SYN),
    (IP(dst=ip_address("10.0.0.2")), SYN),
    (IP(dst="10.0.0.0/24"), SYN),
    (TCP(dport=[22, 80]), SYN),
    (TCP(dport=(80, 90)), SYN),
    (TCP(dport=[22, (70, 80)]), SYN),
    (Ether(src="02:00:00:00:00:01"), SYN),
    (Ether(src="02:00:00:00:00:01".upper()), SYN),
    (Ether() / TCP(), SYN),  # in order, with others in between
    (Raw(b"payload"), SYN),
    (TCP() / Raw(b"some"), SYN),
    (TCP, SYN),
    (lambda packet: packet[TCP].dport == 80, SYN),
    (IPv6(dst="fd00:0:0::2"), SIX),
    (IPv6(dst=ip_address("fd00::2")), SIX),
    (IPv6() / UDP(dport=53), SIX),
    (UDP, SIX),
    (ARP(pdst="10.0.0.2"), WHO_HAS),
    (ARP(op="who-has"), WHO_HAS),
    (ARP, WHO_HAS),
    (IP() / TCP(dport=80), ETHER / Dot1Q(vlan=5) / SYN[IP]),
    (Dot1Q(vlan=5) / IP(), ETHER / Dot1Q(vlan=5) / SYN[IP]),
    (IP() / TCP(dport=80), ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / SYN[IP]),
    (IP() / IP(dst="10.9.9.9"), ETHER / IP(dst="10.0.0.2") / IP(dst="10.9.9.9") / UDP()),
]
DIFFERS: list[tuple[Pattern, Packet]] = [
    (IP() / UDP(), SYN),
    (IP() / TCP(dport=81), SYN),
    (IP() / TCP(flags="SA"), SYN),
    (TCP() / IP(), SYN),  # the order matters
    (IP() / IP(), SYN),  # one layer is not two
    (IP(dst="10.0.0.3"), SYN),
    (IP(dst=ip_address("10.0.0.3")), SYN),
    (IP(dst="10.0.1.0/24"), SYN),
    (TCP(dport=[22, 81]), SYN),
    (TCP(dport=(81, 90)), SYN),
    (TCP(options=[("MSS", 1460)]), SYN),
    (Ether(src="02:00:00:00:00:03"), SYN),
    (Raw(b"nothing of it"), SYN),
    (UDP, SYN),
    (lambda packet: packet[TCP].dport == 81, SYN),
    (IPv6(dst="fd00::3"), SIX),
    (IP(), SIX),
    (ARP(pdst="10.0.0.3"), WHO_HAS),
    (ARP(op="is-at"), WHO_HAS),
    (IP, WHO_HAS),
    (ICMPv6EchoRequest(), ETHER / IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoReply()),  # a subclass, in scapy
    (ICMPv6EchoRequest, ETHER / IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoReply()),
    (Raw(b"pad"), ETHER / IP(src="10.0.0.1", dst="10.0.0.2", len=20) / b"padding"),
    (Dot1Q(vlan=6), ETHER / Dot1Q(vlan=5) / SYN[IP]),
]

ANY_PATTERN = st.sampled_from([pattern for pattern, _ in MATCHES if isinstance(pattern, Packet | type)] + [DNS, DNS()])


@pytest.mark.parametrize(("pattern", "packet"), MATCHES)
def test_a_pattern_means_the_fields_that_were_set(pattern: Pattern, packet: Packet) -> None:
    assert matcher(pattern)(frame_of(packet))


@pytest.mark.parametrize(("pattern", "packet"), DIFFERS)
def test_one_field_that_differs_is_enough(pattern: Pattern, packet: Packet) -> None:
    assert not matcher(pattern)(frame_of(packet))


@pytest.mark.parametrize("pattern", [IP(), IP, IP() / TCP(dport=80), TCP])
def test_frames_without_an_ethernet_header_are_looked_at_too(pattern: Pattern) -> None:
    assert matcher(pattern)(frame_of(SYN[IP], ethernet=False))


@given(ANY_PATTERN, HOSTILE, st.booleans())
def test_matching_anything_raises_nothing(pattern: Pattern, data: bytes, ethernet: bool) -> None:
    assert matcher(pattern)(frame_of(data, ethernet=ethernet)) in (True, False)


@given(ANY_PATTERN, st.sampled_from([SYN, SIX, WHO_HAS]), st.data())
def test_matching_a_truncated_packet_raises_nothing(pattern: Pattern, packet: Packet, data: st.DataObject) -> None:
    whole = bytes(packet)
    size = data.draw(st.integers(0, len(whole)))
    assert matcher(pattern)(frame_of(whole[:size])) in (True, False)


@given(st.integers(1, 65535), st.integers(1, 65535))
def test_a_port_matches_itself_only(wanted: int, seen: int) -> None:
    frame = frame_of(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=seen) / Raw(b"x"))
    assert matcher(UDP(dport=wanted))(frame) == (wanted == seen)


def test_most_frames_are_refused_without_being_dissected() -> None:
    frame = frame_of(SIX)
    assert not matcher(IP() / TCP())(frame)
    assert not matcher(ARP)(frame)
    assert frame._packet is None


def test_a_subnet_is_never_looked_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: object, **options: object) -> None:
        raise AssertionError("asked the resolver")

    matches = matcher(IP(dst="10.0.0.0/24"))
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    assert not matches(frame_of(b"", ethernet=False))


def test_a_function_that_raises_is_the_authors_own_mistake() -> None:
    with pytest.raises(IndexError):
        matcher(lambda packet: packet[DNS])(frame_of(SYN))


@pytest.mark.parametrize("wrong", [b"bytes", 80, None, "tcp port 80", int, object()])
def test_what_is_no_pattern_is_a_type_error_that_says_what_is(wrong: Pattern) -> None:
    with pytest.raises(TypeError, match=r"is not a pattern; it can be a scapy packet such as .*, a scapy layer"):
        matcher(wrong)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        (ICMPv6ND_NS(), True),
        (ICMPv6ND_NS, True),
        (IPv6() / ICMPv6ND_NS(), True),
        (ICMPv6EchoRequest, False),
        (IPv6() / UDP(), False),
        (ICMP, False),
        (len, False),
    ],
)
def test_a_pattern_that_names_chatter_asks_for_it(pattern: Pattern, wanted: bool) -> None:
    assert wants_chatter(pattern) is wanted


def test_patterns_are_described_as_they_were_written() -> None:
    assert describe(IP(dst="10.0.0.1") / TCP(dport=80)) == "IP(dst='10.0.0.1')/TCP(dport=80)"
    assert describe(ARP) == "ARP"
    assert describe(matcher) == "matcher"
