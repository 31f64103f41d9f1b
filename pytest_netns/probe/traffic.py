"""The program that sends and receives while a throughput or a loss is measured. It runs in the nodes, in processes.

It is given to an interpreter as text, in a variable of the environment, so it needs the standard library alone and no
path that an isolated host may lack. Arguments and results are JSON; the receiver says first on which port it listens.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

_TCP_INFO = 11
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS, _SO_MEMINFO, _DROPS = 33, 35, 55, 8
_HEADER = struct.Struct("!IIQ")  # magic, is this the end, sequence number (or, at the end, how many were sent)
_MAGIC = 0x6E65746E
_ENDS = 20  # copies of the end: it may be lost as everything else


class _Count(NamedTuple):
    """What had come by a time."""

    time: float
    bytes: int  # payload, each of it once
    segments: int
    wire: int  # payload, that of duplicates included


class _Meter:
    """How much has come since when, from what the kernel counted and stamped, however late it is read."""

    def __init__(self, interval: float, omit: float, duration: float) -> None:
        self.interval, self.omit, self.duration = interval, omit, duration
        self.began: float | None = None
        self.latest = _Count(0.0, 0, 0, 0)
        self.marks: list[_Count] = []
        self.done = False

    def mark(self, count: _Count) -> bool:
        """Take note of what came at a time; True when it was long enough."""
        if self.began is None:
            self.began = count.time
        self.latest = count
        if count.time - self.began < self.omit:
            return False
        self.done = bool(self.marks) and count.time - self.marks[0].time >= self.duration
        if self.done or not self.marks or count.time - self.marks[-1].time >= self.interval:
            self.marks.append(count)
        return self.done

    def left(self, now: float) -> float:
        """Seconds until it is long enough."""
        return (self.omit + self.duration) - (0.0 if self.began is None else now - self.began)

    def result(self) -> dict[str, object]:
        """What came between the first mark and the last one.

        If nothing came any more before it was long enough, the silence counts until it would have been.
        """
        if self.began is None:
            return {"bytes": 0, "seconds": 0.0, "segments": 0, "wire": 0, "samples": []}
        stalled: float | None = None
        marks = list(self.marks)
        if not self.done:
            marks = marks or [self.latest._replace(time=self.began + self.omit)]
            stalled = max(0.0, self.latest.time - marks[0].time)
            marks.append(self.latest._replace(time=marks[0].time + self.duration))
        first, last = marks[0], marks[-1]
        pairs = itertools.pairwise(marks)
        return {
            "bytes": last.bytes - first.bytes,
            "seconds": last.time - first.time,
            "segments": last.segments - first.segments,
            "wire": last.wire - first.wire,
            "samples": [8 * (b.bytes - a.bytes) / (b.time - a.time) for a, b in pairs if b.time > a.time],
            "stalled": stalled,
        }


def _give_up(*_: object) -> None:
    raise TimeoutError


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def _place(family: int, address: str, port: int, scope: int) -> tuple[str, int] | tuple[str, int, int, int]:
    return (address, port, 0, scope) if family == socket.AF_INET6 else (address, port)


def _receiver(family: int, address: str, scope: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
    except PermissionError:  # rootless: what the machine allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    sock.bind(_place(family, address, 0, scope))
    return sock


def receive_tcp(
    family: int, address: str, scope: int, seconds: float, omit: float, interval: float, timeout: float, **_: object
) -> None:
    """Take one connection and count what comes. SIGTERM tells that nothing more will."""
    signal.signal(signal.SIGTERM, _give_up)
    listener = socket.socket(family, socket.SOCK_STREAM)  # its buffer tunes itself, so it is not set here
    listener.bind(_place(family, address, 0, scope))
    listener.listen(1)
    _say({"port": listener.getsockname()[1]})
    listener.settimeout(timeout)
    meter = _Meter(interval, omit, seconds)
    try:
        connection, _peer = listener.accept()
        buffer = bytearray(1 << 20)
        segments, wire = 0, 0
        while True:
            connection.settimeout(max(0.0, meter.left(time.monotonic())) + timeout)
            if not connection.recv_into(buffer):
                break
            info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
            received, before = struct.unpack_from("=Q", info, 128)[0], segments
            segments = struct.unpack_from("=I", info, 152)[0]
            # All segments are full. What TCP has sent twice is in none of its sums of bytes.
            wire += (segments - before) * struct.unpack_from("=I", info, 20)[0]
            if meter.mark(_Count(time.monotonic(), received, segments, wire)):
                break
    except OSError:
        pass  # what came until then is the result
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _say(meter.result())


def send_tcp(
    family: int, address: str, scope: int, port: int, seconds: float, omit: float, timeout: float, **_: object
) -> None:
    """Send as fast as it goes until the receiver has seen enough."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(_place(family, address, port, scope))
    except OSError as error:
        _say({"error": f"connect: {error.strerror or error}"})
        return
    sock.settimeout(seconds + omit + timeout)
    block = bytes(1 << 18)
    ends = time.monotonic() + 2 * (seconds + omit) + timeout
    try:
        while time.monotonic() < ends:
            sock.send(block)
    except (ConnectionResetError, BrokenPipeError):
        pass  # the receiver has seen enough
    except OSError as error:
        _say({"error": f"send: {error.strerror or error}"})
        return
    _say({})


def receive_udp(
    family: int,
    address: str,
    scope: int,
    seconds: float,
    omit: float,
    interval: float,
    quiet: float,
    count: int | None,
    **_: object,
) -> None:
    """Count datagrams: for a time, or until all of a number have come or nothing comes any more.

    SIGTERM tells that no end will come beyond what is still under way.
    """
    sock = _receiver(family, address, scope)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    told, tell = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.SIGTERM, lambda *_: None)
    _say({"port": sock.getsockname()[1]})
    meter, size = _Meter(interval, omit, seconds), 0
    seen: set[int] = set()
    duplicates, reordered, highest, segments = 0, 0, -1, 0
    sent: int | None = None
    patience: float | None = None
    waiting = [sock.fileno(), told]
    while True:
        try:
            data, control, _flags, _from = sock.recvmsg(65536, 64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            ready = select.select(waiting, [], [], patience)[0]
            if not ready:
                break  # nothing has come since
            if told in ready:
                waiting, patience = waiting[:1], quiet
            continue
        magic, end, number = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (0, 0, 0)
        if magic != _MAGIC:
            continue
        if end:
            sent = number
            patience = quiet
        else:
            segments += 1
            size += len(data)
            whole, parts = struct.unpack("=qq", control[0][2])
            if meter.mark(_Count(whole + parts / 1e9, size, segments, size)) and count is None:
                break
            if number in seen:
                duplicates += 1
            elif count is not None:
                seen.add(number)
                reordered += number < highest
                highest = max(highest, number)
        if sent is not None and len(seen) >= sent:
            break
    drops = struct.unpack_from("=I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36), 4 * _DROPS)[0]
    counts = {"received": len(seen), "duplicates": duplicates, "reordered": reordered, "drops": drops}
    _say({**meter.result(), **counts})


def send_udp(
    family: int,
    address: str,
    scope: int,
    port: int,
    seconds: float,
    omit: float,
    gap: float,
    size: int,
    count: int | None,
    **_: object,
) -> None:
    """Send datagrams of ``size`` bytes, one every ``gap`` seconds: a number of them, or for a time."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.connect(_place(family, address, port, scope))
    except OSError as error:
        _say({"sent": 0, "error": f"connect: {error.strerror or error}"})
        return
    data = bytearray(size)
    began = time.monotonic()
    number = 0
    refused: str | None = None
    ends = began + 1.5 * (seconds + omit) + 0.2
    while number < count if count is not None else time.monotonic() < ends:
        wait = began + number * gap - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        _HEADER.pack_into(data, 0, _MAGIC, 0, number)
        try:
            sock.send(data)
        except ConnectionRefusedError:
            break  # the receiver has seen enough
        except OSError as error:
            refused = f"send: {error.strerror or error}"
            break
        number += 1
    if count is not None and refused is None:
        for _turn in range(_ENDS):
            time.sleep(0.005)
            try:
                sock.send(_HEADER.pack(_MAGIC, 1, number))
            except OSError:
                break  # it has gone: it has all
    _say({"sent": number, "error": refused})


ROLES: dict[str, Callable[..., None]] = {
    "receive_tcp": receive_tcp,
    "send_tcp": send_tcp,
    "receive_udp": receive_udp,
    "send_udp": send_udp,
}

if __name__ == "__main__":
    _given = json.loads(sys.argv[1])
    _given["family"] = socket.AF_INET6 if ":" in _given["address"] else socket.AF_INET
    ROLES[_given.pop("role")](**_given)
