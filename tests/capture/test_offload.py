"""Frames on our links, as captures and programs see them: checksums, and segments in one piece."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conversation import address_of
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import PcapNgReader
from slowness import patient

from pytest_netns import Host, Lab, LabFactory, TopologyError, why
from pytest_netns.capture.frame import Frame
from pytest_netns.capture.offload import HEADER, Offload, checksum, decode, finished, segments
from pytest_netns.kernel.ethtool import disable_offload
from pytest_netns.probe import icmp

versions = pytest.mark.parametrize("version", [4, 6])
ETH_P_ALL, PACKET_OUTGOING, UDP_SEGMENT = 3, 4, 103
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
SIZE = 200_000


def family_of(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def stream(source: Host, destination: Host, version: int, size: int = SIZE) -> int:
    """Send bytes by TCP; returns how many have arrived."""
    with destination.socket(family_of(version)) as listener, source.socket(family_of(version)) as client:
        listener.bind(("", 0))
        listener.listen()
        listener.settimeout(patient(10))
        client.settimeout(patient(10))
        client.connect((str(address_of(destination, version)), listener.getsockname()[1]))
        server, _ = listener.accept()
        server.settimeout(patient(10))

        def send() -> None:
            client.sendall(bytes(size))
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        with server:
            received = 0
            while chunk := server.recv(1 << 16):
                received += len(chunk)
        sender.join()
    return received


def has_right_checksums(packet: Packet) -> bool:
    """Whether the checksums in it are what scapy makes them."""
    again = packet.copy()
    for layer in (IP, TCP, UDP):
        if layer in again:
            del again[layer].chksum
    return bytes(again) == bytes(packet)


def seen_by_a_program(host: Host, act: Callable[[], object]) -> list[bytes]:
    """The frames that a plain packet socket gets meanwhile."""
    with host.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        tap.bind(("eth0", ETH_P_ALL))
        tap.setblocking(False)
        act()
        frames = []
        while select.select([tap], [], [], 0)[0]:
            frames.append(tap.recv(1 << 17))
    return [frame for frame in frames if frame[12:14] in (b"\x08\x00", b"\x86\xdd")]


@contextmanager
def forwarding(switch: Host) -> Iterator[None]:
    """A program on ``switch`` copies frames between ``eth0`` and ``eth1`` meanwhile."""
    ends = []
    for name in ("eth0", "eth1"):
        end = switch.socket(socket.AF_PACKET, socket.SOCK_RAW)
        end.bind((name, ETH_P_ALL))
        promiscuous = struct.pack("=iHH8s", switch.interfaces[name].index, PACKET_MR_PROMISC, 0, b"")
        end.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, promiscuous)
        ends.append(end)
    woken, waker = socket.socketpair()

    def copy() -> None:
        while woken not in (ready := select.select([*ends, woken], [], [])[0]):
            for end in ready:
                frame, (_, _, kind, *_) = end.recvfrom(1 << 17)
                if kind == PACKET_OUTGOING:
                    continue
                try:
                    ends[1 - ends.index(end)].send(frame)
                except OSError:
                    pass  # longer than the mtu: a switch has no way to send it either

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield
    finally:
        waker.send(b".")
        thread.join()
        woken.close()
        waker.close()


def through_a_program(lab: Lab, offload: bool | None) -> tuple[Host, Host, Host]:
    """``red`` and ``blue`` with a host between them that has no addresses."""
    red, switch, blue = lab.host("red"), lab.host("switch"), lab.host("blue")
    lab.connect(red, switch, subnet=False, offload=offload)
    lab.connect(switch, blue, subnet=False, offload=offload)
    for host, number in ((red, 1), (blue, 2)):
        host.add_address(f"10.1.0.{number}/24")
        host.add_address(f"fd01::{number}/64")
    return red, switch, blue


# ------------------------------------------------------------------- on links


@versions
def test_a_program_can_forward_real_connections(lab: Lab, version: int) -> None:
    red, switch, blue = through_a_program(lab, offload=False)
    with forwarding(switch):
        assert stream(red, blue, version) == SIZE


def test_without_it_no_connection_comes_through_a_program(lab: Lab) -> None:
    red, switch, blue = through_a_program(lab, offload=None)
    with forwarding(switch), blue.socket() as listener, red.socket() as client:
        listener.bind(("", 80))
        listener.listen()
        assert red.ping(blue.ip4, timeout=patient(1))
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.connect((str(blue.ip4), 80))


@versions
def test_the_explanation_names_the_program_and_the_cure(lab: Lab, version: int) -> None:
    red, switch, blue = through_a_program(lab, offload=None)
    target = address_of(blue, version)
    with forwarding(switch), blue.socket(family_of(version)) as listener:
        listener.bind(("", 80))
        listener.listen()
        found = why(red.tcp(target, 80, timeout=0.2))
    assert found.cause is not None
    assert found.cause.startswith("a program on 'switch' sends the request on with the unfinished checksum")
    assert "'blue' drops it (Tcp.InCsumErrors +" in found.cause
    assert found.node == "switch"
    assert "offload=False" in found.cures[0]


@pytest.mark.netns_requires("nft")
def test_a_router_finishes_what_it_sends_on(lab: Lab) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue, offload=False)
    lab.autoroute()
    blue.nft("table inet t { chain c { type filter hook input priority 0; tcp dport 80 drop; }; }")
    found = why(red.tcp(blue, 80, timeout=0.1))
    assert found.cause is not None
    assert "unfinished" not in found.cause
    assert stream(red, blue, 4) == SIZE


@versions
def test_frames_on_a_link_are_finished_and_fit(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, offload=False)
    frames = seen_by_a_program(blue, lambda: stream(red, blue, version))
    assert max(map(len, frames)) == 1514
    assert len(frames) > SIZE / 1514
    assert all(has_right_checksums(Ether(frame)) for frame in frames)


def test_datagrams_that_are_sent_as_one_are_cut(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, offload=False)
    with red.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        frames = seen_by_a_program(blue, lambda: sender.sendto(bytes(2500), (str(blue.ip4), 9)))
    packets = [Ether(frame) for frame in frames]
    assert [len(packet[UDP].payload) for packet in packets if UDP in packet and IP in packet] == [1000, 1000, 500]
    assert all(map(has_right_checksums, packets))


def test_for_a_whole_lab_and_the_other_way_round(lab_factory: LabFactory) -> None:
    with lab_factory("plain", offload=False) as lab:
        bridge = lab.bridge("lan")
        red, blue, fast = bridge.host("red"), bridge.host("blue"), bridge.host("fast", offload=True)
        assert all(len(frame) <= 1514 for frame in seen_by_a_program(blue, lambda: stream(red, blue, 4)))
        assert any(len(frame) > 1514 for frame in seen_by_a_program(fast, lambda: stream(fast, blue, 4)))


def test_for_a_host_on_a_bridge(lab: Lab) -> None:
    bridge = lab.bridge("lan")
    red, blue = bridge.host("red", offload=False), lab.host("blue", bridge, offload=False)
    router = lab.router("router", bridge, offload=False)
    for host in (blue, router):
        frames = seen_by_a_program(host, lambda host=host: stream(red, host, 4))  # type: ignore[misc]
        assert all(len(frame) <= 1514 for frame in frames)
        assert all(has_right_checksums(Ether(frame)) for frame in frames)


def test_it_outlives_a_crash_and_roaming(lab: Lab) -> None:
    home, away = lab.bridge("home"), lab.bridge("away")
    red, blue = home.host("red", offload=False), away.host("blue")
    with red.crash():
        pass
    home.detach(red)
    away.attach(red)
    frames = seen_by_a_program(blue, lambda: stream(red, blue, 4))
    sent = [frame for frame in frames if IP in Ether(frame) and Ether(frame)[IP].src == str(red.ip4)]
    assert all(len(frame) <= 1514 and has_right_checksums(Ether(frame)) for frame in sent)
    assert len(sent) > SIZE / 1514


@pytest.mark.parametrize("value", [0, "off"])
def test_a_wrong_value_says_what_is_expected(lab: Lab, lab_factory: LabFactory, value: object) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    bridge = lab.bridge("lan")
    with pytest.raises(TopologyError, match=f"link red--blue: offload={value!r}: expected True or False, or None"):
        lab.connect(red, blue, offload=value)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=f"'green': offload={value!r}"):
        bridge.host("green", offload=value)  # type: ignore[arg-type]
    assert "green" not in lab
    with pytest.raises(TopologyError, match=f"lab 'odd': offload={value!r}: expected True or False"):
        lab_factory("odd", offload=value)  # type: ignore[arg-type]


def test_an_interface_that_is_not_there_is_a_kernel_error(lab: Lab) -> None:
    red = lab.host("red")
    with pytest.raises(Exception, match="ethtool -K eth7 tso off") as raised:
        disable_offload(red, red.name, "eth7")
    assert "red" in str(raised.value)


# ---------------------------------------------------------------- in captures


@versions
def test_captured_frames_look_as_on_a_wire(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with lab.capture(filter=TCP) as captured:
        assert stream(red, blue, version) == SIZE
    packets = captured.packets
    assert max(map(len, packets)) == 1514
    assert all(map(has_right_checksums, packets))
    for place in ("red:eth0", "blue:eth0"):
        data = [each for each in packets if each.sniffed_on == place and each[TCP].dport != each[TCP].sport]
        network = IP if version == 4 else IPv6
        sent = [each for each in data if each[network].src == str(address_of(red, version))]
        first = next(each[TCP].seq for each in sent if "S" in str(each[TCP].flags)) + 1
        covered = set()
        for each in sent:
            size = (each[IP].len - 20 if version == 4 else each[IPv6].plen) - each[TCP].dataofs * 4
            covered.update(range(each[TCP].seq - first, each[TCP].seq - first + size, 1))
        assert covered == set(range(SIZE))
        assert [str(each[TCP].flags) for each in sent if "F" in str(each[TCP].flags)] in (["FA"], ["FPA"])


def test_so_do_those_in_a_file(lab: Lab, tmp_path: Path) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with red.capture(filter=TCP) as captured:
        stream(red, blue, 4)
    number = captured.save(tmp_path / "it.pcapng")
    with PcapNgReader(str(tmp_path / "it.pcapng")) as reader:
        packets = list(reader)
    assert len(packets) == number == len(captured)
    assert all(len(packet) <= 1514 and has_right_checksums(packet) for packet in packets)
    assert b"bytes that the kernel has handed on in one piece (offload)" in (tmp_path / "it.pcapng").read_bytes()


def test_a_pattern_matches_one_segment_of_several(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with blue.capture(filter=TCP) as captured:
        stream(red, blue, 4, 30_000)
        packet = captured.expect(lambda each: TCP in each and len(each[TCP].payload) == 1448)
    assert packet[IP].len == 1500


def test_a_datagram_has_its_checksum(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with blue.capture(filter=UDP) as captured, red.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 700)
        sender.sendto(bytes(range(256)) * 8, (str(blue.ip4), 9))
        captured.expect(UDP(dport=9))
    packets = captured.packets
    assert [len(packet[UDP].payload) for packet in packets] == [700, 700, 648]
    assert b"".join(bytes(packet[UDP].payload) for packet in packets) == bytes(range(256)) * 8
    assert all(map(has_right_checksums, packets))


@versions
def test_an_answer_to_a_packet_made_by_hand_has_its_checksum(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with blue.socket(family_of(version)) as listener:
        listener.bind(("", 80))
        listener.listen()
        network = (IP if version == 4 else IPv6)(dst=str(address_of(blue, version)))
        answer = red.sr1(network / TCP(sport=5555, dport=80, flags="S"), timeout=patient(5))
    assert answer is not None
    assert str(answer[TCP].flags) == "SA"
    assert has_right_checksums(answer)


# ----------------------------------------------------------------------- pure


@given(st.binary(max_size=200))
def test_the_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    assert checksum(data) == icmp.checksum(data)


@pytest.mark.parametrize("data", [b"", b"\0" * 5, b"\xff\xff", b"\xff" * 8, b"\xff\xfe\0\1"])
def test_the_checksum_of_extremes(data: bytes) -> None:
    assert checksum(data) == icmp.checksum(data)


def test_what_a_header_says() -> None:
    assert decode(bytes(HEADER.size)) is None
    assert decode(HEADER.pack(2, 0, 0, 0, 34, 16)) is None  # checked already
    assert decode(HEADER.pack(1, 0, 0, 0, 34, 16)) == Offload(34, 16, 0, 0)
    assert decode(HEADER.pack(1, 0x81, 66, 1448, 34, 16)) == Offload(34, 16, 1448, 1)
    assert decode(HEADER.pack(0, 5, 42, 700, 0, 0)) == Offload(0, 0, 700, 5)
    assert Offload(34, 16, 0, 0).behind_tag().start == 38


SEGMENT = {4: IP(src="10.0.0.1", dst="10.0.0.2", id=65535), 6: IPv6(src="fd00::1", dst="fd00::2")}


@given(
    version=st.sampled_from([4, 6]),
    tags=st.integers(0, 2),
    payload=st.integers(1, 9000),
    size=st.integers(1, 3000),
    sequence=st.integers(0, 0xFFFFFFFF),
    udp=st.booleans(),
)
def test_segments_add_up(version: int, tags: int, payload: int, size: int, sequence: int, udp: bool) -> None:
    size = max(size, payload // 10 + 1)  # so that there are not too many
    link = Ether()
    for tag in range(tags):
        link = link / Dot1Q(vlan=tag + 2)
    options = [("Timestamp", (1, 2))]
    transport = (
        UDP(sport=9999, dport=9998) if udp else TCP(seq=sequence, flags="FPA", sport=9999, dport=9998, options=options)
    )
    data = bytes(number & 0xFF for number in range(payload))
    whole = bytes(link / SEGMENT[version] / transport / data)
    start = len(whole) - payload - (8 if udp else 32)
    kind = 5 if udp else {4: 1, 6: 4}[version]
    packets = [Ether(each) for each in segments(whole, 14 + 4 * tags, Offload(start, 6 if udp else 16, size, kind))]
    layer = UDP if udp else TCP
    assert b"".join(bytes(each[layer].payload) for each in packets) == data
    assert all(map(has_right_checksums, packets))
    assert all(len(each[layer].payload) == size for each in packets[:-1])
    if not udp:
        assert [each[TCP].seq for each in packets] == [
            (sequence + number * size) & 0xFFFFFFFF for number in range(len(packets))
        ]
        assert [str(each[TCP].flags) for each in packets] == [*["A"] * (len(packets) - 1), "FPA"]
    if version == 4:
        assert [each[IP].id for each in packets] == [(65535 + number) & 0xFFFF for number in range(len(packets))]


def test_what_cannot_be_cut_stays_whole_and_says_so() -> None:
    inner = bytes(Ether() / IP() / UDP(dport=4789) / bytes(8) / Ether() / IP() / TCP() / bytes(3000))
    frame = Frame(0, "red", "eth0", True, inner, offload=Offload(14 + 20 + 8 + 8 + 14 + 20, 16, 1400, 1))
    assert frame.parts == (frame,)
    assert "in one piece (offload), to be sent in segments of 1400" in frame.comment
    assert segments(b"", 14, Offload(0, 0, 1, 1)) == []
    assert segments(bytes(100), 14, Offload(0, 0, 1, 1)) == []


def test_a_frame_too_short_for_its_checksum_stays_as_it_is() -> None:
    assert finished(b"short", Offload(34, 16, 0, 0)) == b"short"
    assert finished(b"short", Offload(0, 0, 5, 1)) == b"short"


def test_a_finished_checksum_is_never_zero() -> None:
    data = struct.pack("!HHH", 0xFFFF, 0, 0)  # what is added up is 0xFFFF
    assert finished(data, Offload(0, 4, 0, 0)) == data
    assert finished(b"\0" * 2 + data, Offload(2, 4, 0, 0))[-2:] == b"\xff\xff"
