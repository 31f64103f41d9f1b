"""ObservedPacket: which captured frames belong to a probe. Pure."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from frames import HOSTILE, frame_of
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from pytest_netns.capture.frame import Frame
from pytest_netns.explain.observation.observed_packets import Kind, observed_packets

HEAD = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
THERE = IP(src="10.0.0.1", dst="10.0.0.2")
BACK = IP(src="10.0.0.2", dst="10.0.0.1")
TARGET = ip_address("10.0.0.2")


def roles(frames: list[Frame], kind: Kind, port: int = 0) -> list[str]:
    return [s.role for s in observed_packets(frames, kind, "red", TARGET, port)]


def at(packet: Packet, node: str, outgoing: bool) -> Frame:
    return frame_of(HEAD / packet, node=node, outgoing=outgoing)


@pytest.mark.parametrize(
    ("kind", "asked", "answered", "foreign"),
    [
        ("ping", ICMP(type=8, id=7, seq=1), ICMP(type=0, id=7, seq=1), ICMP(type=0, id=8, seq=1)),
        (
            "tcp",
            TCP(sport=999, dport=80, seq=5, flags="S"),
            TCP(sport=80, dport=999, seq=1, ack=6, flags="SA"),
            TCP(sport=80, dport=999, seq=1, ack=7, flags="SA"),
        ),
        ("udp", UDP(sport=999, dport=80), UDP(sport=80, dport=999), UDP(sport=80, dport=998)),
    ],
)
def test_requests_replies_and_errors_are_told_from_others(
    kind: Kind, asked: Packet, answered: Packet, foreign: Packet
) -> None:
    error = IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=11) / THERE / asked
    frames = [
        at(BACK / foreign, "red", False),
        at(THERE / asked, "red", True),
        at(THERE / asked, "blue", False),
        at(BACK / answered, "blue", True),
        at(BACK / foreign, "blue", True),
        at(error, "red", False),
    ]
    assert roles(frames, kind, 0 if kind == "ping" else 80) == ["request", "request", "reply", "error"]


def test_an_arrival_stamped_before_its_departure_counts() -> None:
    request = THERE / ICMP(type=8, id=7, seq=1)
    assert roles([at(request, "blue", False), at(request, "red", True)], "ping") == ["request", "request"]


def test_what_another_node_asks_is_none() -> None:
    request = THERE / ICMP(type=8, id=7, seq=1)
    assert roles([at(request, "blue", True), at(request, "red", False)], "ping") == []


def test_another_port_is_none() -> None:
    assert roles([at(THERE / UDP(sport=999, dport=81), "red", True)], "udp", 80) == []


@pytest.mark.parametrize("kept", range(14))
def test_a_truncated_segment_is_passed_over(kept: int) -> None:
    segment = TCP(sport=999, dport=80, seq=5, flags="S")
    cut = frame_of(bytes(HEAD / THERE / segment)[: 34 + kept])
    assert roles([at(THERE / segment, "red", True), cut], "tcp", 80) == ["request"]


@given(st.lists(st.tuples(HOSTILE, st.booleans(), st.booleans()), max_size=5), st.sampled_from(["ping", "tcp", "udp"]))
def test_hostile_frames_are_passed_over(what: list[tuple[bytes, bool, bool]], kind: Kind) -> None:
    mine = {
        "ping": ICMP(type=8, id=7, seq=1),
        "tcp": TCP(sport=999, dport=80, seq=5, flags="S"),
        "udp": UDP(sport=999, dport=80),
    }[kind]
    frames = [frame_of(data, outgoing=outgoing, ethernet=ethernet) for data, outgoing, ethernet in what]
    frames.insert(0, at(THERE / mine, "red", True))
    assert "request" in roles(frames, kind, 0 if kind == "ping" else 80)
