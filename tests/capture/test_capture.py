from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from awaiting import await_reaper
from explaining import chain_in
from frames import comments_of
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import rdpcap

from pytest_netns import (
    Bridge,
    Host,
    Lab,
    Namespace,
    NetnsError,
    NetnsWarning,
    ProbeFailure,
    TopologyError,
    UnsupportedError,
)
from pytest_netns.capture import bpf, tap
from pytest_netns.capture.capture import Capture
from pytest_netns.kernel import reaper
from pytest_netns.kernel.libpcap import libpcap
from pytest_netns.kernel.netns.holders import holders

#: BPF: ret #0
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


def talk(sender: Host, receiver: Host, *payloads: bytes, port: int = 9) -> None:
    """Datagrams to somebody who does not answer them: port 9 is taken by a socket that is never read."""
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for payload in payloads:
            sock.sendto(payload, (str(receiver.ip4), port))


@pytest.fixture
def pair(veth_pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    """Two hosts; the right one has a socket on UDP port 9. Their ARP is settled."""
    left, right = veth_pair
    with right.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("", 9))
        left.ping(right.ip4)
        yield left, right


@pytest.fixture
def still_pump(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody drains a capture unless asked."""
    monkeypatch.setattr(tap.pump, "add", lambda _taps: None)


# ------------------------------------------------------------- nothing is lost


def test_what_is_sent_first_and_last_in_the_body_is_captured(pair: tuple[Host, Host]) -> None:
    left, right = pair
    for node in pair:
        with node.capture("eth0", UDP) as capture:
            talk(left, right, *(b"%d" % number for number in range(50)))
        assert [bytes(packet[UDP].payload) for packet in capture.packets] == [b"%d" % number for number in range(50)]
        assert capture.drops == 0


def test_what_is_sent_before_and_after_the_body_is_not(pair: tuple[Host, Host]) -> None:
    left, right = pair
    talk(left, right, b"before")
    with left.capture(filter=UDP) as capture:
        talk(left, right, b"during")
    talk(left, right, b"after")
    assert [bytes(packet[UDP].payload) for packet in capture.packets] == [b"during"]


def test_frames_can_be_read_while_it_runs_and_afterwards(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture(filter=UDP) as capture:
        assert capture.frames == []
        assert repr(capture) == "<Capture of left, running: 0 frames>"
        talk(left, right, b"1")
        assert len(capture) == 1
        talk(left, right, b"2")
        assert len(capture) == 2
    assert len(capture.packets) == 2
    assert repr(capture) == "<Capture of left, stopped: 2 frames>"


def test_a_capture_without_frames_is_truthy(pair: tuple[Host, Host]) -> None:
    with pair[0].capture() as capture:
        pass
    assert capture
    assert len(capture) == 0


def test_a_long_burst_is_drained_by_the_pump(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = pair
    monkeypatch.setattr(tap, "_BATCH", 16)  # several turns
    with left.capture("eth0", UDP) as capture:
        for number in range(1000):
            talk(left, right, b"%d" % number)
        assert capture.expect(UDP() / Raw(b"999"), timeout=20)
    assert len(capture) == 1000
    assert capture.drops == 0


def test_interfaces_that_come_later_are_captured_too(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    with red.capture(filter=ICMP) as capture:
        lab.connect(red, blue)
        assert red.ping(blue.ip4)
        assert [frame.interface for frame in capture.frames] == ["eth0", "eth0"]


def test_the_loopback_shows_each_frame_once(pair: tuple[Host, Host]) -> None:
    left, _ = pair
    with left.capture("lo") as capture:
        assert left.ping("127.0.0.1")
    assert [packet[ICMP].type for packet in capture.packets] == [8, 0]


# ------------------------------------------------------------------- where


def test_an_interface_is_captured_without_its_neighbours(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue)
    lab.connect(red, green)
    with red.capture("eth1", ICMP) as one, red.capture(red.interfaces["eth0"], ICMP) as other:
        assert red.ping(green.ip4)
    assert [frame.place for frame in one.frames] == ["red:eth1"] * 2
    assert [frame.outgoing for frame in one.frames] == [True, False]
    assert other.frames == []


def test_a_link_shows_both_directions_each_frame_once(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    with link.capture(ICMP) as capture:
        assert red.ping(blue.ip4)
        assert blue.ping(red.ip4)
    directions = [(packet[IP].src, packet[ICMP].type) for packet in capture.packets]
    one, two = str(red.ip4), str(blue.ip4)
    assert directions == [(one, 8), (two, 0), (two, 8), (one, 0)]


def test_a_lab_shows_every_interface_by_one_clock(lab: Lab) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    red.ping(blue.ip4)
    with lab.capture(ICMP) as capture:
        assert red.ping(blue.ip4)
    there = ["red:eth0", "router:eth0", "router:eth1", "blue:eth0"]
    assert [frame.place for frame in capture.frames] == there + there[::-1]
    assert [frame.outgoing for frame in capture.frames] == [True, False] * 4
    times = [frame.time for frame in capture.frames]
    assert times == sorted(times)
    assert len(set(times)) > 4


def test_a_bridge_is_a_place_of_a_lab(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red, blue = bridge.host("red"), bridge.host("blue")
    with lab.capture(ICMP) as capture:
        assert red.ping(blue.ip4)
    assert {frame.node for frame in capture.frames} == {"red", "br0", "blue"}


@pytest.mark.parametrize("wrong", [b"eth0", 3, True, ["eth0"]])
def test_what_is_no_interface_is_a_type_error(veth_pair: tuple[Host, Host], wrong: str) -> None:
    with pytest.raises(TypeError, match="expected a name or an interface of 'left'"):
        veth_pair[0].capture(wrong)


def test_an_unknown_or_foreign_interface_is_named(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with pytest.raises(TopologyError, match=r"'left' has no interface 'eth7'; it has: lo, eth0"):
        left.capture("eth7").start()
    with pytest.raises(TopologyError, match=r"<Interface 'eth0' of 'right'> is not an interface of 'left'"):
        left.capture(right.interfaces["eth0"])


# ----------------------------------------------------------------- expect


def test_expect_gives_the_first_match_captured_already_or_to_come(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with right.capture() as capture:
        talk(left, right, b"one", b"two")
        assert capture.expect(UDP)[Raw].load == b"one"
        assert capture.expect(UDP(dport=9) / Raw(b"two"))[IP].src == str(left.ip4)
        late = threading.Timer(0.05, talk, (left, right, b"late"))
        late.start()
        packet = capture.expect(UDP() / Raw(b"late"), timeout=20)
        late.join()
    assert packet.sniffed_on == "right:eth0"
    assert capture.expect(UDP() / Raw(b"late"), timeout=0) is packet  # afterwards too


def test_what_came_instead_is_listed(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture() as capture:
        talk(left, right, b"x")
        with pytest.raises(ProbeFailure) as failure:
            capture.expect(IP() / TCP(dport=80), timeout=0.01)
        said = str(failure.value)
    assert said.startswith("expected IP()/TCP(dport=80) on left within 0.01 s, got none; 1 other frames were ")
    assert "<Frame left:eth0 out: IP / UDP" in said


def test_nothing_at_all_is_said_to_be_nothing(pair: tuple[Host, Host]) -> None:
    with pair[0].capture() as capture, pytest.raises(ProbeFailure, match=r"nothing was captured$"):
        capture.expect(ARP, timeout=0)


def test_a_stopped_capture_does_not_wait(pair: tuple[Host, Host]) -> None:
    with pair[0].capture() as capture:
        pass
    with pytest.raises(ProbeFailure):
        capture.expect(ARP, timeout=3600)


@pytest.mark.parametrize("wrong", [b"x", 80, None, "tcp", int])
def test_a_pattern_of_the_wrong_type_is_a_type_error_at_once(pair: tuple[Host, Host], wrong: type) -> None:
    with pair[0].capture() as capture:
        with pytest.raises(TypeError, match="is not a pattern"):
            capture.expect(wrong, timeout=3600)
        with pytest.raises(TypeError, match="is not a pattern"):
            capture.expect_none(wrong, within=3600)


def test_a_filter_limits_what_is_expected_too(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture(filter=UDP(dport=9)) as capture:
        assert left.ping(right.ip4)
        capture.expect_none(ICMP, within=0)
        with pytest.raises(ProbeFailure):
            capture.expect(ICMP, timeout=0)


# ------------------------------------------------------------ expect_none


def test_silence_is_proved_on_every_kind_of_capture(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red, blue = bridge.host("red"), bridge.host("blue")
    link = lab.connect(red, blue)
    lab.host("lonely")
    for capture in (red.capture("eth0"), red.capture(), link.capture(), bridge.capture(), lab.capture()):
        with capture:
            capture.expect_none(TCP, within=0)
        assert capture.frames == []  # the canary is not shown


@pytest.mark.parametrize("filter", ["tcp", TCP, lambda _packet: False])
@pytest.mark.netns_requires("libpcap")
def test_the_canary_gets_through_any_filter(pair: tuple[Host, Host], filter: str) -> None:
    with pair[0].capture("eth0", filter) as capture:
        capture.expect_none(TCP, within=0)
    assert capture.frames == []


def test_one_that_comes_or_came_is_a_failure_that_shows_it(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture() as capture:
        talk(left, right, b"x")
        with pytest.raises(ProbeFailure, match=r"expected no UDP on left, but got one: <Frame left:eth0 out: "):
            capture.expect_none(UDP, within=0)
    with left.capture() as capture:
        late = threading.Timer(0.02, talk, (left, right, b"x"))
        late.start()
        with pytest.raises(ProbeFailure, match="but got one"):
            capture.expect_none(UDP, within=20)
        late.join()


def test_one_that_comes_while_silence_is_proved_is_found(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = pair
    send_canary = tap.Tap.send_canary

    def talk_then_send(self: tap.Tap, token: bytes) -> str | None:
        talk(left, right, b"x")
        return send_canary(self, token)

    monkeypatch.setattr(tap.Tap, "send_canary", talk_then_send)
    with left.capture() as capture, pytest.raises(ProbeFailure, match="but got one"):
        capture.expect_none(UDP, within=0)


def test_a_deaf_capture_proves_nothing(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = pair
    monkeypatch.setattr("pytest_netns.capture.capture._CANARY_DEADLINE", 0.05)
    with left.capture("eth0") as capture:
        bpf.attach(capture._taps[0]._socket, _DROP_ALL)
        talk(left, right, b"x")
        with pytest.raises(ProbeFailure, match=r"was not captured either at left: the capture does not work"):
            capture.expect_none(UDP, within=0)


def test_one_deaf_node_of_a_lab_is_enough(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.connect(lab.host("red"), lab.host("blue"))
    monkeypatch.setattr("pytest_netns.capture.capture._CANARY_DEADLINE", 0.05)
    with lab.capture() as capture:
        deaf = next(each for each in capture._taps if each.node.name == "blue")
        bpf.attach(deaf._socket, _DROP_ALL)
        with pytest.raises(ProbeFailure, match="not captured either at blue: the capture does not work"):
            capture.expect_none(UDP, within=0)


def test_on_a_link_that_is_down_nothing_can_be_seen(pair: tuple[Host, Host]) -> None:
    left, right = pair
    right.interfaces["eth0"].down()
    with (
        left.capture("eth0") as capture,
        pytest.raises(
            ProbeFailure, match="nothing was seen on left:eth0, but nothing could be: left:eth0: the link is down"
        ),
    ):
        capture.expect_none(UDP, within=0)


def test_a_link_that_is_down_does_not_hinder_the_proof_for_the_others(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue).down()
    lab.connect(red, green)
    with lab.capture() as capture:
        capture.expect_none(UDP, within=0)


@pytest.mark.parametrize("others", [False, True])
def test_an_interface_that_goes_while_silence_is_proved_does_not_hinder_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    # As the kernel does it in the background, to the cable of a node that was closed.
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    if others:
        lab.connect(red, lab.host("green"))
    send = tap.Tap._send

    def remove_then_send(self: tap.Tap, name: str, token: bytes) -> str | None:
        if not link._is_gone:
            link.remove()
        return send(self, name, token)

    monkeypatch.setattr(tap.Tap, "_send", remove_then_send)
    with lab.capture() as capture:
        capture.expect_none(UDP, within=0)
    assert link._is_gone


def test_silence_is_asked_of_a_running_capture_only(pair: tuple[Host, Host]) -> None:
    capture = pair[0].capture()
    with pytest.raises(NetnsError, match=r"expect_none\(\) needs a running capture"):
        capture.expect_none(UDP, within=0)
    with capture:
        pass
    with pytest.raises(NetnsError, match=r"expect_none\(\) needs a running capture"):
        capture.expect_none(UDP, within=0)


# ------------------------------------------------------------------ drops


@pytest.mark.netns_requires("libpcap")
def test_dropped_frames_are_counted_warned_of_and_no_evidence(
    pair: tuple[Host, Host], still_pump: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = pair
    monkeypatch.setattr(tap, "BUFFER", 1)  # the kernel makes it its least
    capture = left.capture("eth0", "udp").start()
    talk(left, right, *[bytes(1000)] * 100)
    seen = len(capture)
    assert 0 < seen < 100
    assert capture.drops == 100 - seen
    with pytest.raises(ProbeFailure, match=r"none was seen, but the kernel dropped \d+ frames"):
        capture.expect_none(TCP, within=0)
    with pytest.raises(ProbeFailure, match=r"; the kernel dropped \d+ frames:"):
        capture.expect(TCP, timeout=0)
    with pytest.warns(NetnsWarning, match=r"<Capture of left:eth0, .*DROPPED>: the kernel dropped \d+ frames"):
        capture.stop()
    assert capture.drops == 100 - seen
    assert f", {capture.drops} DROPPED>" in repr(capture)


def test_the_file_says_that_frames_are_missing(
    pair: tuple[Host, Host], still_pump: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left, right = pair
    monkeypatch.setattr(tap, "BUFFER", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetnsWarning)
        with left.capture("eth0") as capture:
            talk(left, right, *[bytes(1000)] * 100)
    capture.save(tmp_path / "some.pcapng")
    assert (
        f"capture of left:eth0; {capture.drops} frames were dropped".encode() in (tmp_path / "some.pcapng").read_bytes()
    )


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    "filter",
    ["udp port 9", UDP(dport=9), UDP, lambda packet: packet.haslayer(UDP)],
    ids=["text", "packet", "class", "function"],
)
@pytest.mark.netns_requires("libpcap")
def test_every_kind_of_filter_keeps_what_it_means(pair: tuple[Host, Host], filter: str) -> None:
    left, right = pair
    with left.capture("eth0", filter) as capture:
        assert left.ping(right.ip4)
        talk(left, right, b"x")
    assert [packet[UDP].dport for packet in capture.packets] == [9]


@pytest.mark.parametrize(
    ("filter", "found"),
    [("vlan", 1), ("vlan 42 and udp port 7", 1), ("vlan 43", 0), ("not vlan", 0), ("ether proto 0x8100", 1)],
)
@pytest.mark.netns_requires("libpcap")
def test_a_text_about_vlan_tags_means_the_same_at_both_ends(pair: tuple[Host, Host], filter: str, found: int) -> None:
    left, right = pair
    frame = Ether(src=left.mac, dst=right.mac) / Dot1Q(vlan=42) / IP(src="10.9.0.1", dst="10.9.0.2") / UDP(dport=7)
    with left.capture("eth0", filter) as sent, right.capture("eth0", filter) as received:
        left.send(frame, "eth0")
        received.expect_none(TCP, within=0)
    assert (len(sent), len(received)) == (found, found)


@pytest.mark.netns_requires("libpcap")
def test_a_filter_of_blanks_keeps_all(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture("eth0", "  ") as capture:
        talk(left, right, b"x")
    assert len(capture) == 1


@pytest.mark.netns_requires("libpcap")
def test_a_syntax_error_quotes_what_was_written(pair: tuple[Host, Host]) -> None:
    with pytest.raises(ValueError, match=r"^filter 'udp prot 9': .*error"):
        pair[0].capture(filter="udp prot 9")


@pytest.mark.netns_requires("libpcap")
def test_a_filter_cannot_be_closed_by_a_bracket(pair: tuple[Host, Host]) -> None:
    with pytest.raises(ValueError, match=r"^filter 'udp\) or \(tcp'"):
        pair[0].capture(filter="udp) or (tcp")


def test_without_libpcap_a_text_is_unsupported_and_the_rest_works(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    libpcap.cache_clear()
    bpf.compile_filter.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(ctypes, "CDLL", missing)
        with pytest.raises(UnsupportedError, match="needs libpcap"):
            pair[0].capture(filter="udp")
        with pair[0].capture(filter=UDP) as capture:
            talk(*pair, b"x")
    assert len(capture) == 1


@pytest.mark.parametrize("wrong", [80, b"udp", int])
def test_a_filter_of_the_wrong_type_is_a_type_error(pair: tuple[Host, Host], wrong: type) -> None:
    with pytest.raises(TypeError, match="is not a pattern"):
        pair[0].capture(filter=wrong)


# ---------------------------------------------------------------- chatter


def test_chatter_is_left_out_unless_asked_for(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture() as plain, left.capture(chatter=True) as chatty, left.capture(filter=ICMPv6ND_NS) as asked:
        assert left.arp(right.ip6)
        assert left.ping(right.ip6)
    assert all(packet.haslayer(ICMPv6EchoRequest) or packet[IPv6].nh == 58 for packet in plain.packets)
    assert [packet for packet in plain.packets if packet.haslayer(ICMPv6ND_NS)] == []
    assert len([packet for packet in chatty.packets if packet.haslayer(ICMPv6ND_NS)]) >= 1
    assert len(asked) >= 1
    assert all(packet.haslayer(ICMPv6ND_NS) for packet in asked.packets)


def test_expecting_what_is_left_out_is_a_mistake_not_a_silence(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture() as capture:
        for expect in (capture.expect, capture.expect_none):
            with pytest.raises(TopologyError, match="left out of this capture as chatter; capture with chatter=True"):
                expect(ICMPv6ND_NS, 0)
    with left.capture(chatter=True) as capture:
        assert left.arp(right.ip6)
        assert capture.expect(ICMPv6ND_NS)[ICMPv6ND_NS].tgt == str(right.ip6)


# ------------------------------------------------------------------- life


def test_it_is_started_once(pair: tuple[Host, Host]) -> None:
    capture = pair[0].capture()
    assert repr(capture) == "<Capture of left, not started: 0 frames>"
    with capture, pytest.raises(NetnsError, match="was started already"):
        capture.start()
    with pytest.raises(NetnsError, match="was started already"):
        capture.start()
    capture.stop()


def test_it_stops_when_the_body_raises(pair: tuple[Host, Host]) -> None:
    capture = pair[0].capture()
    with pytest.raises(KeyError), capture:  # noqa: PT012 - what was sent before counts
        talk(*pair, b"x")
        raise KeyError
    assert len(capture) == 1
    assert "stopped" in repr(capture)


def test_an_interface_that_is_removed_meanwhile_keeps_what_it_had(lab: Lab, still_pump: None) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    with red.capture("eth0", ICMP) as capture:
        assert red.ping(blue.ip4)
        link.remove()
        assert len(capture) == 2
        with pytest.raises(TopologyError, match="'red' has no interface 'eth0'"):
            capture.expect_none(TCP, within=0)
    assert [packet[ICMP].type for packet in capture.packets] == [8, 0]
    assert {frame.place for frame in capture.frames} == {"red:eth0"}


def test_a_link_that_was_removed_cannot_be_captured(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"))
    link.remove()
    with pytest.raises(NetnsError, match="removed"):
        link.capture()


def test_a_namespace_that_is_closed_meanwhile_keeps_what_it_had(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with red.capture(filter=ICMP) as capture:
        assert red.ping(blue.ip4)
        red.close()
        assert len(capture) == 2
        with pytest.raises(NetnsError, match="'red' is closed"):
            capture.expect_none(TCP, within=0)
    assert len(capture) == 2


@pytest.mark.netns_requires("nft")
def test_a_closed_node_cannot_be_captured_and_a_lab_goes_on_without_it(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    red.close()
    with pytest.raises(NetnsError, match="'red' is closed"):
        red.capture().start()
    with lab.capture() as capture:
        capture.expect_none(UDP, within=0)


def test_no_descriptor_is_left(pair: tuple[Host, Host]) -> None:
    with pair[0].capture():
        pass
    await_reaper()
    before = set(os.listdir("/proc/self/fd"))
    with pair[0].capture(), pair[1].capture("eth0"):
        pass
    with pytest.raises(TopologyError):
        pair[0].capture("eth7").start()
    await_reaper()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_captures_in_many_threads_do_not_disturb_each_other(bridge: Bridge) -> None:
    hub = bridge.host("hub")
    others = [bridge.host(f"h{number}") for number in range(4)]
    wrong: list[object] = []

    def work(other: Host) -> None:
        for _ in range(10):
            with other.capture("eth0", ICMP) as capture:
                result = other.ping(hub.ip4)
            if not result or [packet[ICMP].type for packet in capture.packets] != [8, 0]:
                wrong.append((other, result, capture.frames))

    threads = [threading.Thread(target=work, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_captures_with_a_pump_of_its_own(pair: tuple[Host, Host]) -> None:
    left, right = pair
    with left.capture():  # the pump runs
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            found = b"failed"
            try:
                with left.capture("eth0", UDP) as capture:
                    talk(left, right, b"x")
                    poll = select.poll()
                    poll.register(capture._taps[0].fileno(), select.POLLIN)
                    while poll.poll(0):  # nobody but the pump empties it
                        pass
                    with capture._taps[0]._lock:  # and delivers
                        pass
                    assert tap.pump._taps == set(capture._taps)  # those of the parent are left to it
                    found = b"%d" % len(capture._frames)
            finally:
                os.write(writing, found)
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as file:
            assert file.read() == b"1"
        assert os.waitpid(child, 0)[1] == 0


# ------------------------------------------------------------------ frames


@pytest.mark.parametrize("version", [4, 6])
def test_vlan_tags_are_kept_at_both_ends(pair: tuple[Host, Host], version: int) -> None:
    left, right = pair
    inner = IP(src="10.9.0.1", dst="10.9.0.2") if version == 4 else IPv6(src="fd09::1", dst="fd09::2")
    frame = Ether(src=left.mac, dst=right.mac) / Dot1Q(vlan=42, prio=3) / inner / UDP(dport=7) / b"tagged"
    with left.capture("eth0") as sent, right.capture("eth0") as received:
        left.send(frame, "eth0")
        received.expect(Dot1Q(vlan=42, prio=3) / UDP(dport=7))
    for capture in (sent, received):
        assert [each.data for each in capture.frames] == [bytes(frame)]


@pytest.mark.netns_requires("libpcap")
def test_a_file_is_read_back_with_names_and_times(pair: tuple[Host, Host], tmp_path: Path) -> None:
    left, right = pair
    with left.capture("eth0", "udp or icmp") as capture:
        assert left.ping(right.ip4)
        talk(left, right, b"x")
    capture.frames[0].comment = "the question"
    path = tmp_path / "some.pcapng"
    assert capture.save(path, "why it failed") == 3
    found = rdpcap(str(path))
    assert [bytes(packet) for packet in found] == [frame.data for frame in capture.frames]
    assert [int(packet.time * 1_000_000_000) for packet in found] == [frame.time for frame in capture.frames]
    assert {packet.sniffed_on for packet in found} == {"left:eth0"}
    assert comments_of(found[0]) == [b"the question"]
    assert b"why it failed" in path.read_bytes()


def test_a_capture_can_be_made_without_the_with_statement(pair: tuple[Host, Host]) -> None:
    capture = pair[0].capture(filter=UDP)
    assert isinstance(capture, Capture)
    assert capture.start() is capture
    talk(*pair, b"x")
    capture.stop()
    capture.stop()
    assert len(capture) == 1


def test_the_pump_turns_more_often_where_the_queue_is_small(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tap.Tap(netns, None, None, lambda _frames: None)
    monkeypatch.setattr(tap, "BUFFER", 100_000)
    small = tap.Tap(netns, None, None, lambda _frames: None)
    assert small.pause < large.pause
    small.close()
    large.close()


def test_a_capture_that_nobody_has_stopped_ends_with_its_lab() -> None:
    lab = Lab()
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    captures = [red.capture().start(), link.capture().start(), lab.capture().start()]
    inodes = {red.inode, blue.inode}
    red.ping(blue)
    lab.close()
    reaper.settle()
    assert not any(capture.running for capture in captures)
    assert all(capture.frames for capture in captures)
    assert inodes.isdisjoint(inode for inode, _ in holders(()).values())


@pytest.mark.netns_requires("nft")
def test_a_captured_conversation(lab: Lab) -> None:
    chain = chain_in(lab)
    assert chain.red.ping(chain.blue)
    chain.r2.nft("table inet t { chain forward { type filter hook forward priority 0; icmp type echo-reply drop; }; }")
    with lab.capture() as capture:
        assert not chain.red.ping(chain.blue, timeout=0.1)
    rows = [row for row in capture.ladder().splitlines() if "echo-" in row or "time" in row]
    assert rows[0].split() == ["time", "red", "r1", "r2", "blue"]
    assert [row[14:62].rstrip() for row in rows[1:]] == [
        "|---------->|           |           |",
        "|           |---------->|           |",
        "|           |           |---------->|",
        "|           |     x-----|<----------|",
    ]
