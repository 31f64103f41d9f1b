"""The kernel's reason for a drop is told of the probe's own packet, where it ended, or not at all."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from explaining import Chain, at, chain_in

from pytest_netns import Lab, why
from pytest_netns.capture.frame import Frame
from pytest_netns.errors import UnsupportedError
from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.look import drop_reasons
from pytest_netns.explain.observation.observed_packets import ObservedPacket
from pytest_netns.kernel.perf.packet_log import DevicePass, DroppedPacket
from pytest_netns.lab.nodes import Node

WORDS = "the kernel's own reason for dropping"
RED, BLUE = ip_address("10.0.0.1").packed, ip_address("10.0.1.2").packed


@pytest.fixture
def chain(lab: Lab) -> Chain:
    return chain_in(lab)


def told(source: Node, target: str) -> Explanation:
    """An explanation with the kernel's reason: on a busy machine another thread may have taken the packet in."""
    for _ in range(20):
        found = why(source.ping(target, timeout=0.05))
        if any(WORDS in line for line in found.evidence):
            break
    return found


@pytest.mark.netns_requires("drop-reasons")
@pytest.mark.parametrize("version", [4, 6])
def test_it_is_evidence_with_the_node_and_the_device(chain: Chain, version: int) -> None:
    chain.r2.sysctl["net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"] = 0
    found = told(chain.red, at(chain.blue, version))
    assert f"r2: {WORDS} the request after it came in by eth0: IP_INADDRERRORS" in found.evidence
    assert (found.cause or "").startswith("'r2' does not forward")


@pytest.mark.netns_requires("drop-reasons", "nft")
def test_what_is_dropped_before_any_device_is_told_of_the_node_that_asks(chain: Chain) -> None:
    chain.red.nft("table inet f { chain c { type filter hook output priority 0; meta l4proto icmp drop; }; }")
    assert f"red: {WORDS} the request: NETFILTER_DROP" in told(chain.red, at(chain.blue, 4)).evidence


class Unreadable:
    """A log of a kernel whose records are not understood."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        raise struct.error("unpack_from requires a buffer of at least 12 bytes")

    def close(self) -> None:
        pass


def refused() -> None:
    raise UnsupportedError("needs root")


@pytest.mark.parametrize("log", [refused, Unreadable])
def test_where_it_cannot_be_had_nothing_is_told_of_it(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, log: Callable[[], object]
) -> None:
    monkeypatch.setattr(drop_reasons, "PacketLog", log)
    chain.r2.sysctl["net.ipv4.ip_forward"] = 0
    found = why(chain.red.ping(chain.blue, timeout=0.05))
    assert (found.cause or "").startswith("'r2' does not forward")
    assert "kernel's own reason" not in str(found)


# ------------------------------------------------- whose packet it was, of made-up ones


def frame(time: int, node: str, device: str, outgoing: bool, length: int = 98, kind: bytes = b"\x08\x00") -> Frame:
    return Frame(time, node, device, outgoing, bytes(12) + kind + bytes(length - 14))


def request(frame: Frame) -> ObservedPacket:
    return ObservedPacket(frame, "request", RED, BLUE)


#: A request that passes ``r`` and ends at ``blue``, as captures saw it, and as the kernel tells.
FRAMES = [
    frame(1_010, "red", "eth0", True),
    frame(1_020, "r", "eth0", False),
    frame(2_010, "r", "eth1", True),
    frame(2_020, "blue", "eth0", False),
]
PASSES = (
    DevicePass(1_000, "eth0", True, 98),
    DevicePass(1_030, "eth0", False, 84),
    DevicePass(2_000, "eth1", True, 98),
    DevicePass(2_030, "eth0", False, 84),
)


def reasons(drop: DroppedPacket, frames: list[Frame], seen: list[Frame]) -> list[str]:
    found = drop_reasons.drop_reasons([drop], frames, [request(each) for each in seen], "red", 4)
    return [str(each) for each in found]


def test_the_node_is_the_one_whose_capture_saw_the_last_pass() -> None:
    drop = DroppedPacket(2_040, "NO_SOCKET", 0x0800, PASSES)
    assert reasons(drop, FRAMES, FRAMES) == [f"blue: {WORDS} the request after it came in by eth0: NO_SOCKET"]
    drop = DroppedPacket(1_040, "NETFILTER_DROP", 0x0800, PASSES[:2])
    assert reasons(drop, FRAMES[:2], FRAMES[:2]) == [f"r: {WORDS} the request after it came in by eth0: NETFILTER_DROP"]


def test_a_frame_that_is_stamped_when_it_is_delivered_is_the_same_pass() -> None:
    late = [frame(each.time + 25, each.node, each.interface, each.outgoing) for each in FRAMES]
    drop = DroppedPacket(2_090, "NO_SOCKET", 0x0800, PASSES)
    assert reasons(drop, late, late)[0].startswith("blue: ")


def test_what_a_queue_takes_is_told_of_the_node_that_was_to_send_it() -> None:
    drop = DroppedPacket(2_001, "QDISC_DROP", 0x0800, PASSES[:3])
    assert reasons(drop, FRAMES[:2], FRAMES[:2]) == [f"r: {WORDS} the request on its way out by eth1: QDISC_DROP"]


def test_a_copy_that_ends_where_the_probe_went_on_is_not_told() -> None:
    flooded = frame(1_025, "mallory", "eth7", False)
    drop = DroppedPacket(
        1_050, "OTHERHOST", 0x0800, (DevicePass(1_000, "eth0", True, 98), DevicePass(1_030, "eth7", False, 84))
    )
    frames = [FRAMES[0], flooded, *FRAMES[1:]]
    assert reasons(drop, frames, frames) == []


@pytest.mark.parametrize(
    "passes",
    [
        (DevicePass(1_000, "eth9", True, 98),),
        (DevicePass(1_000, "eth0", True, 99),),
        (DevicePass(1_000, "eth0", False, 84),),
        (DevicePass(9_000_000_000, "eth0", True, 98),),
        (),
    ],
    ids=["device", "length", "direction", "time", "none"],
)
def test_a_packet_that_is_none_of_the_probes_is_not_told(passes: tuple[DevicePass, ...]) -> None:
    last = passes[-1].time if passes else 1_000
    assert reasons(DroppedPacket(last + 50, "NO_SOCKET", 0x0800, passes), FRAMES, FRAMES) == []


def test_what_came_in_from_elsewhere_is_not_taken_for_a_request_that_never_left() -> None:
    came = DroppedPacket(1_040, "NO_SOCKET", 0x0800, (DevicePass(1_000, "eth0", False, 84),))
    assert reasons(came, [], []) == []
    assert reasons(DroppedPacket(1_040, "NO_SOCKET", 0x86DD, ()), [], []) == []
    assert reasons(DroppedPacket(1_040, "NETFILTER_DROP", 0x0800, ()), [], []) == [
        f"red: {WORDS} the request: NETFILTER_DROP"
    ]


def test_the_search_for_a_next_hop_that_was_dropped_is_called_that() -> None:
    arp = frame(1_010, "red", "eth0", True, 42, b"\x08\x06")
    came = frame(1_020, "blue", "eth0", False, 42, b"\x08\x06")
    drop = DroppedPacket(
        1_040, "NETFILTER_DROP", 0x0806, (DevicePass(1_000, "eth0", True, 42), DevicePass(1_030, "eth0", False, 28))
    )
    assert reasons(drop, [arp, came], []) == [
        f"blue: {WORDS} the search for the next hop after it came in by eth0: NETFILTER_DROP"
    ]
