"""The kernel's own reasons for dropping packets, as root: perf events of this thread, and nothing mounted."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from pytest_netns import Namespace
from pytest_netns.errors import UnsupportedError
from pytest_netns.kernel import reaper
from pytest_netns.kernel.perf import packet_log, tracefs
from pytest_netns.kernel.perf.packet_log import DroppedPacket, PacketLog, why_no_reasons

pytestmark = pytest.mark.netns_requires("drop-reasons")


@pytest.fixture
def log() -> Iterator[PacketLog]:
    log = PacketLog()
    yield log
    log.close()
    reaper.settle()


PAYLOAD = b"a datagram of a length that is not usual"
LENGTH = 14 + 20 + 8 + len(PAYLOAD)


def send_to_nobody(namespace: Namespace, times: int = 1) -> None:
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(times):
            sock.sendto(PAYLOAD, ("127.0.0.1", 9))


def told(log: PacketLog) -> list[DroppedPacket]:
    """Of the datagrams above. What the kernel does in this thread for others is told as well."""
    return [each for each in log.stop() if each.passes and each.passes[0].length == LENGTH]


def test_a_datagram_that_no_socket_takes_is_told_with_the_devices_that_it_has_passed(
    netns: Namespace, log: PacketLog
) -> None:
    log.start()
    send_to_nobody(netns, times=50)  # on a busy machine another thread may take one in
    dropped = told(log)[0]
    assert (dropped.reason, dropped.protocol) == ("NO_SOCKET", 0x0800)
    out, back = dropped.passes
    assert (out.device, out.outgoing, back.device, back.outgoing) == ("lo", True, "lo", False)
    assert back.length == LENGTH - 14
    assert out.time <= back.time <= dropped.time


def test_what_is_dropped_before_the_start_and_after_the_stop_is_not_told(netns: Namespace, log: PacketLog) -> None:
    send_to_nobody(netns, times=50)
    log.start()
    assert told(log) == []
    send_to_nobody(netns, times=50)
    log.start()
    assert told(log) == []


def test_more_than_there_is_room_for_is_told_not_at_all_and_forgotten_the_next_time(
    netns: Namespace, log: PacketLog
) -> None:
    log.start()
    send_to_nobody(netns, times=5000)
    assert log.stop() == []
    assert log.is_full
    log.start()
    send_to_nobody(netns, times=50)
    assert told(log)


def test_it_goes_on_where_the_ring_begins_anew(netns: Namespace, log: PacketLog) -> None:
    for _ in range(40):
        log.start()
        send_to_nobody(netns, times=100)
        several = told(log)
        assert several
        assert {(each.reason, len(each.passes)) for each in several} == {("NO_SOCKET", 2)}


def test_nothing_is_mounted_and_no_descriptor_stays_open(netns: Namespace) -> None:
    def mounted() -> str:
        with open("/proc/self/mounts", encoding="utf-8") as file:
            return file.read()

    reaper.settle()
    before, descriptors = mounted(), set(os.listdir("/proc/self/fd"))
    log = PacketLog()
    assert mounted() == before
    log.close()
    reaper.settle()
    assert set(os.listdir("/proc/self/fd")) == descriptors


def test_a_kernel_that_gives_no_reasons_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*names: str) -> list[tracefs.Tracepoint]:
        return [tracefs.Tracepoint(name, 1, {"skbaddr": 8}, {}) for name in names]

    monkeypatch.setattr(packet_log, "tracepoints", without)
    assert why_no_reasons() == "this kernel does not say why it drops packets (Linux 5.17 does)"


def test_a_tracepoint_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"lacks a tracepoint.*events/skb/no_such/id"):
        tracefs.tracepoints("skb/no_such")


def test_the_layout_of_a_record_is_the_kernels() -> None:
    (point,) = tracefs.tracepoints("skb/kfree_skb")
    assert struct.calcsize("=HBBi") == point.offsets["skbaddr"], "the fields that all tracepoints have come first"
    assert "NETFILTER_DROP" in point.symbols.values()
