"""Packet log: the calling thread's packets that the kernel dropped, the last device of each, and the drop reason."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pytest_netns.clock import monotonic_ns, wall_ns
from pytest_netns.errors import UnsupportedError
from pytest_netns.kernel.perf.thread_trace import ThreadTrace, TraceRecord
from pytest_netns.kernel.perf.tracefs import Tracepoint, tracepoints

#: Tracepoints where a packet is dropped, where it is freed after normal use, and where it passes a device.
_POINTS = ("skb/kfree_skb", "skb/consume_skb", "net/net_dev_queue", "net/netif_receive_skb")

#: Values that give no reason: none was specified, or the packet was not dropped.
_NO_REASON = ("NOT_SPECIFIED", "CONSUMED", "NOT_DROPPED_YET", "QUEUE_PURGE")

#: Maximum nanoseconds between a packet's last device and its drop; later, its address may belong to another packet.
_SOON = 2_000_000


@dataclass(frozen=True, slots=True)
class DevicePass:
    """A packet passed a device.

    Attributes:
        time: nanoseconds since 1970.
        device: name of the device; the kernel does not give its namespace.
        outgoing: whether the packet was being sent there; otherwise it was received.
        length: length in bytes; without the Ethernet header if it was received.
    """

    time: int
    device: str
    outgoing: bool
    length: int


@dataclass(frozen=True, slots=True)
class DroppedPacket:
    """A packet that was dropped.

    Attributes:
        time: nanoseconds since 1970.
        reason: the kernel's name of the reason: ``NETFILTER_DROP`` (``enum skb_drop_reason``).
        protocol: its EtherType.
        passes: the devices that it has passed, in order; empty if it was dropped before the first one.
    """

    time: int
    reason: str
    protocol: int
    passes: tuple[DevicePass, ...] = field(default=())


class PacketLog:
    """Logs drops among the packets that this thread sends, and their immediate replies, between ``start`` and ``stop``.

    Raises:
        UnsupportedError: no permission, or the kernel gives no drop reasons (before Linux 5.17).
    """

    def __init__(self) -> None:
        points = tracepoints(*_POINTS)
        self._by_number = {point.number: point for point in points}
        drop = points[0]
        if "reason" not in drop.offsets or not drop.symbols:
            raise UnsupportedError("this kernel does not say why it drops packets (Linux 5.17 does)")
        self._trace = ThreadTrace(points)
        self._since_1970 = 0

    def start(self) -> None:
        """Start logging."""
        self._since_1970 = _offset()
        self._trace.start()

    def stop(self) -> list[DroppedPacket]:
        """Stop logging, and return the packets dropped since the start; none if the log overflowed."""
        self._trace.stop()
        lives: dict[int, list[DevicePass]] = {}
        found = []
        for record in self._trace.read():
            point = self._by_number.get(record.number)
            if point is None:
                continue
            (address,) = struct.unpack_from("=Q", record.data, point.offsets["skbaddr"])
            if point.name == "skb/consume_skb":
                lives.pop(address, None)
            elif point.name == "skb/kfree_skb":
                passes = lives.pop(address, [])
                dropped = self._dropped(point, record, passes)
                if dropped is not None:
                    found.append(dropped)
            else:
                lives.setdefault(address, []).append(self._pass(point, record))
        return [] if self._trace.lost else found

    @property
    def is_full(self) -> bool:
        """Whether the log overflowed the last time."""
        return self._trace.lost

    def close(self) -> None:
        """Close the perf events."""
        self._trace.close()

    def _pass(self, point: Tracepoint, record: TraceRecord) -> DevicePass:
        (length,) = struct.unpack_from("=I", record.data, point.offsets["len"])
        (place,) = struct.unpack_from("=I", record.data, point.offsets["name"])
        name = record.data[place & 0xFFFF :].partition(b"\0")[0].decode(errors="replace")
        outgoing = point.name == "net/net_dev_queue"
        return DevicePass(record.time + self._since_1970, name, outgoing, length)

    def _dropped(self, point: Tracepoint, record: TraceRecord, passes: list[DevicePass]) -> DroppedPacket | None:
        (protocol,) = struct.unpack_from("=H", record.data, point.offsets["protocol"])
        (number,) = struct.unpack_from("=I", record.data, point.offsets["reason"])
        reason = point.symbols.get(number)
        when = record.time + self._since_1970
        if reason is None or reason in _NO_REASON:
            return None
        if passes and when - passes[-1].time > _SOON:
            return None
        return DroppedPacket(when, reason, protocol, tuple(passes))


def why_no_reasons() -> str:
    """Why the kernel's drop reasons are unavailable; empty if they are available."""
    try:
        PacketLog().close()
    except UnsupportedError as error:
        return str(error)
    return ""


def _offset() -> int:
    """Nanoseconds to add to the monotonic clock for time since 1970; the least interrupted of several readings."""
    best = None
    for _ in range(5):
        before, wall, after = monotonic_ns(), wall_ns(), monotonic_ns()
        if best is None or after - before < best[0]:
            best = after - before, wall - (before + after) // 2
    assert best is not None
    return best[1]
