"""Ladder: conversations of frames made by hand."""

from __future__ import annotations

from frames import HOSTILE, SECOND, frame_of
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from pytest_netns.capture.frame import Frame
from pytest_netns.capture.sequence_diagram import journeys, ladder

MS = 1_000_000
RED, BLUE, ROUTER = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
REQUEST = Ether(src=RED, dst=BLUE) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=8)
REPLY = Ether(src=BLUE, dst=RED) / IP(src="10.0.0.2", dst="10.0.0.1") / ICMP(type=0)
OWNERS = {bytes([10, 0, 0, 1]): "red", bytes([10, 0, 0, 2]): "blue"}


def seen(packet: object, ms: float, node: str, way: str, interface: str = "eth0") -> Frame:
    """A packet at one place, some milliseconds after the start."""
    return frame_of(
        bytes(packet),  # type: ignore[call-overload]
        time=SECOND + int(ms * MS),
        node=node,
        interface=interface,
        outgoing=way == "out",
    )


def ping() -> list[Frame]:
    return [
        seen(REQUEST, 0, "red", "out"),
        seen(REQUEST, 0.01, "blue", "in"),
        seen(REPLY, 0.5, "blue", "out"),
        seen(REPLY, 0.51, "red", "in"),
    ]


def test_nodes_are_columns_in_the_order_in_which_they_see_something() -> None:
    assert ladder(ping(), whole=True, owners=OWNERS).splitlines() == [
        "        time  red         blue",
        "    0.000 ms  |---------->|             IP / ICMP 10.0.0.1 > 10.0.0.2 echo-request 0",
        "    0.500 ms  |<----------|             IP / ICMP 10.0.0.2 > 10.0.0.1 echo-reply 0",
    ]


def test_no_frames() -> None:
    assert ladder([], whole=True) == "(no frames)"


def test_a_frame_that_arrives_nowhere_is_lost_on_the_wire() -> None:
    rows = ladder([*ping(), seen(REQUEST, 9, "red", "out")], whole=True, owners=OWNERS).splitlines()
    assert rows[-1].startswith("    9.000 ms  |-----x     |  ")
    assert not any("x" in row[:38] for row in rows[:-1])


def test_a_frame_from_the_last_column_is_lost_to_the_left() -> None:
    row = ladder([*ping(), seen(REPLY, 9, "blue", "out")], whole=True, owners=OWNERS).splitlines()[-1]
    assert row.startswith("    9.000 ms  |     x-----|  ")


def test_a_frame_from_the_only_column_is_lost_to_the_right() -> None:
    row = ladder([seen(REQUEST, 0, "red", "out")], whole=True).splitlines()[-1]
    assert row.startswith("    0.000 ms  |-----x  ")


def test_a_frame_that_a_switch_does_not_pass_on_is_lost_there() -> None:
    frames = [
        seen(REQUEST, 0, "red", "out"),
        seen(REQUEST, 0.01, "br0", "in", "red"),
        seen(REPLY, 1, "blue", "out"),
    ]
    rows = ladder(frames, whole=True, switches=["br0"], owners=OWNERS).splitlines()
    assert rows[1].startswith("    0.000 ms  |---------->|-----x     |  ")
    assert "x" not in ladder(frames[:2], whole=True, owners={}).splitlines()[1][:38]


def test_a_frame_that_a_switch_passes_on_goes_through() -> None:
    frames = [
        seen(REQUEST, 0, "red", "out"),
        seen(REQUEST, 0.01, "br0", "in", "red"),
        seen(REQUEST, 0.02, "br0", "out", "blue"),
        seen(REQUEST, 0.03, "blue", "in"),
    ]
    rows = ladder(frames, whole=True, switches=["br0"], owners=OWNERS).splitlines()
    assert len(rows) == 2
    assert rows[1].startswith("    0.000 ms  |---------->+---------->|  ")


def test_a_frame_that_a_router_does_not_send_on_is_lost_there() -> None:
    frames = [seen(REQUEST, 0, "red", "out"), seen(REQUEST, 0.01, "r1", "in")]
    row = ladder(frames, whole=True, owners=OWNERS).splitlines()[1]
    assert row.startswith("    0.000 ms  |---------->|")
    assert "x" in row[:40]
    sent_on = Ether(src=ROUTER, dst=BLUE) / IP(src="10.0.0.1", dst="10.0.0.2", ttl=63) / ICMP(type=8)
    frames += [seen(sent_on, 0.02, "r1", "out", "eth1"), seen(sent_on, 0.03, "blue", "in")]
    rows = ladder(frames, whole=True, owners=OWNERS).splitlines()
    assert not any("x" in row[:50] for row in rows)
    assert rows[2].startswith("    0.020 ms  |           |---------->|  ")


def test_a_broadcast_ends_everywhere() -> None:
    packet = Ether(src=RED, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, psrc="10.0.0.1", pdst="10.0.0.2")
    frames = [seen(packet, 0, "red", "out"), seen(packet, 0.01, "br0", "in"), seen(packet, 0.02, "blue", "in")]
    row = ladder(frames, whole=True, switches=["br0"], owners=OWNERS).splitlines()[1]
    assert "x" not in row[:50]
    assert row.startswith("    0.000 ms  |---------->+---------->|  ")


def test_one_node_speaks_with_the_wire() -> None:
    frames = [seen(REQUEST, 0, "red", "out"), seen(REPLY, 0.51, "red", "in")]
    rows = ladder(frames, whole=False).splitlines()
    assert rows[0] == "        time  red         (wire)"
    assert rows[1].startswith("    0.000 ms  |---------->|  ")
    assert rows[2].startswith("    0.510 ms  |<----------|  ")


def test_a_row_passes_a_column_that_is_not_concerned() -> None:
    frames = [
        seen(REQUEST, 0, "red", "out"),
        seen(REQUEST, 0.1, "mid", "in"),
        seen(REPLY, 1, "blue", "out"),
        seen(REPLY, 1.1, "red", "in"),
    ]
    assert ladder(frames, whole=False).splitlines()[2].startswith("    1.000 ms  |<----------+-----------|  ")


def test_the_last_rows_are_drawn() -> None:
    frames = [
        seen(Ether(src=RED, dst=BLUE) / IP(dst="10.0.0.2") / UDP(dport=number), number, "red", "out")
        for number in range(1, 8)
    ]
    rows = ladder(frames, whole=False, most=2).splitlines()
    assert rows[1] == "(5 earlier frames)"
    assert [row.split(" ms")[0].strip() for row in rows[2:]] == ["5.000", "6.000"]
    assert "earlier" not in ladder(frames, whole=False, most=7)


def test_a_long_name_is_cut_to_its_column() -> None:
    frames = [seen(REQUEST, 0, "a-very-long-name-of-a-node", "out"), seen(REQUEST, 0.01, "twelve-chars", "in")]
    rows = ladder(frames, whole=True).splitlines()
    assert rows[0] == "        time  a-very-lon~ twelve-cha~"
    assert rows[1].index(">") == len("        time  a-very-lon~ ") - 1


def test_an_arrival_that_is_stamped_before_its_departure_comes_second() -> None:
    frames = [seen(REQUEST, 0, "blue", "in"), seen(REQUEST, 0.004, "red", "out")]
    assert [trip.nodes for trip in journeys(frames)] == [["red", "blue"]]
    assert ladder(frames, whole=True, owners=OWNERS).splitlines()[1].startswith("    0.004 ms  |---------->|  ")


def test_what_a_program_reads_from_a_device_is_not_lost() -> None:
    frame = Frame(SECOND, "red", "tun0", True, bytes(REQUEST)[14:], ethernet=False)
    assert "-x" not in ladder([frame], whole=True, owners=OWNERS)


def test_equal_bytes_at_one_place_are_two_frames() -> None:
    frames = [seen(REQUEST, ms, "red", "out") for ms in (0, 1)]
    assert len(journeys(frames)) == 2


def test_equal_bytes_much_later_are_another_frame() -> None:
    frames = [seen(REQUEST, 0, "red", "out"), seen(REQUEST, 51, "blue", "in")]
    assert [trip.nodes for trip in journeys(frames)] == [["red"], ["blue"]]
    frames = [seen(REQUEST, 0, "red", "out"), seen(REQUEST, 49, "blue", "in")]
    assert [trip.nodes for trip in journeys(frames)] == [["red", "blue"]]


@given(
    st.lists(
        st.tuples(
            HOSTILE,
            st.integers(0, 200 * MS),
            st.sampled_from(["red", "blue", "br0", "a-very-long-name-of-a-node", "é"]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 5),
)
def test_no_frame_is_too_strange_to_be_drawn(
    what: list[tuple[bytes, int, str, bool, bool]], whole: bool, most: int
) -> None:
    frames = sorted(
        (Frame(SECOND + time, node, "eth0", outgoing, data, ethernet) for data, time, node, outgoing, ethernet in what),
        key=lambda frame: frame.time,
    )
    text = ladder(frames, whole=whole, switches=["br0"], owners=OWNERS, most=most)
    assert len(text.splitlines()) <= most + 2
