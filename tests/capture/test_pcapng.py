from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path

import pytest
from frames import comments_of, frame_of
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader, rdpcap

from pytest_netns.capture import pcapng
from pytest_netns.capture.frame import Frame

PACKET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2")

FRAMES = st.lists(
    st.builds(
        frame_of,
        st.binary(min_size=1, max_size=100),
        time=st.integers(0, 1 << 62),
        node=st.sampled_from(["red", "blue", "grün"]),
        interface=st.sampled_from(["eth0", "eth1"]),
        outgoing=st.booleans(),
        ethernet=st.booleans(),
        comment=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    ),
    max_size=10,
)


def written(frames: list[Frame], comment: str = "") -> bytes:
    file = io.BytesIO()
    assert pcapng.write(file, frames, comment) == len(frames)
    return file.getvalue()


def options(data: bytes) -> dict[int, bytes]:
    """Options by code, read as the draft says."""
    found = {}
    while data:
        code, size = struct.unpack_from("<HH", data)
        if code == 0:
            assert data == bytes(4)
            return found
        found[code] = data[4 : 4 + size]
        data = data[4 + size + -size % 4 :]
    return found


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Type and body of each block; both lengths of each are the same, and a multiple of four."""
    found = []
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, size - 4) == (size,)
        found.append((kind, data[8 : size - 4]))
        data = data[size:]
    return found


@given(FRAMES)
def test_every_byte_time_place_direction_and_comment_is_in_the_file(frames: list[Frame]) -> None:
    section, *rest = blocks(written(frames, "about it"))
    assert section[0] == 0x0A0D0D0A
    assert options(section[1][16:])[1] == b"about it"
    interfaces: list[tuple[str, bool]] = []
    found = []
    for kind, body in rest:
        if kind == 1:
            named = options(body[8:])
            assert named[9] == b"\x09"  # nanoseconds
            interfaces.append((named[2].decode(), struct.unpack_from("<H", body)[0] == 1))
            continue
        assert kind == 6
        number, high, low, size, original = struct.unpack_from("<IIIII", body)
        assert size == original
        extra = options(body[20 + size + -size % 4 :])
        direction = struct.unpack("<I", extra[2])[0]
        place, ethernet = interfaces[number]
        comment = extra.get(1, b"").decode()
        found.append((place, ethernet, high << 32 | low, direction, body[20 : 20 + size], comment))
    assert len(set(interfaces)) == len(interfaces)
    assert found == [(f.place, f.ethernet, f.time, 2 if f.outgoing else 1, f.data, f.comment) for f in frames]


def test_scapy_reads_the_same_back(tmp_path: Path) -> None:
    stamp = 1_700_000_000_123_456_789
    frames = [
        frame_of(PACKET / TCP(dport=80), time=stamp, comment="the first"),
        frame_of(PACKET / UDP() / b"odd", time=stamp + 1, node="blue", interface="eth1", outgoing=False),
        frame_of(PACKET[IP] / UDP(), time=stamp + 2, interface="tun0", ethernet=False),
    ]
    path = tmp_path / "some.pcapng"
    path.write_bytes(written(frames, "a remark"))
    found = rdpcap(str(path))
    assert [bytes(packet) for packet in found] == [frame.data for frame in frames]
    assert [packet.sniffed_on for packet in found] == ["red:eth0", "blue:eth1", "red:tun0"]
    assert [int(packet.time * 1_000_000_000) for packet in found] == [stamp, stamp + 1, stamp + 2]
    assert comments_of(found[0]) == [b"the first"]
    assert [type(packet) for packet in found] == [Ether, Ether, IP]


def test_a_file_without_frames_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcapng"
    path.write_bytes(written([]))
    reader = RawPcapNgReader(str(path))
    assert list(reader) == []
    reader.close()


@pytest.mark.netns_requires("program:tcpdump")
def test_tcpdump_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "some.pcapng"
    path.write_bytes(written([frame_of(PACKET / UDP(sport=1, dport=number)) for number in (5, 6)], "a remark"))
    # tcpdump gives its privileges up before it reads, and may not look into the directories of others
    with path.open("rb") as file:
        done = subprocess.run(
            ["tcpdump", "-n", "-r", "-"], stdin=file, capture_output=True, text=True, check=True, timeout=20
        )
    assert "10.0.0.1.1 > 10.0.0.2.5: UDP" in done.stdout
    assert "10.0.0.1.1 > 10.0.0.2.6: UDP" in done.stdout
