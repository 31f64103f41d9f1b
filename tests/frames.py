"""Frames made by hand, for what is pure."""

from __future__ import annotations

from hypothesis import strategies as st
from scapy.packet import Packet

from pytest_netns.capture.frame import Frame

SECOND = 1_000_000_000

#: Frames that begin like something and go on as anything.
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda kind, rest: bytes(12) + kind + rest,
        st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x08\x06", b"\x88\xa8", b"\x88\xb5"]),
        st.binary(max_size=200),
    ),
    st.builds(
        lambda first, protocol, rest: bytes(12) + b"\x08\x00" + bytes([first]) + bytes(8) + bytes([protocol]) + rest,
        st.integers(0x40, 0x4F),
        st.sampled_from([0, 1, 2, 4, 6, 17, 41, 47, 58, 132]),
        st.binary(max_size=150),
    ),
    st.builds(
        lambda header, rest: bytes(12) + b"\x86\xdd\x60" + bytes(5) + bytes([header]) + rest,
        st.sampled_from([0, 6, 17, 43, 44, 50, 58, 59, 60, 135]),
        st.binary(max_size=150),
    ),
)


def frame_of(
    packet: Packet | bytes,
    *,
    time: int = SECOND,
    node: str = "red",
    interface: str = "eth0",
    outgoing: bool = True,
    ethernet: bool = True,
    comment: str = "",
) -> Frame:
    """What a tap would make of a packet."""
    return Frame(time, node, interface, outgoing, bytes(packet), ethernet, comment)


def comments_of(packet: Packet) -> list[bytes]:
    """The comments of a packet that was read from a pcapng file; scapy before 2.7 knows of one only."""
    several = getattr(packet, "comments", None)
    return list(several) if several is not None else [packet.comment]
