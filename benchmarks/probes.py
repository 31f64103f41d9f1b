"""What questions and captures cost, and whether a capture keeps up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stopwatch import Laps
from pytest_netns import Lab

RATE = 50_000
SECONDS = 5

_FIRST = """
import time
import pytest_netns.probe.ping
from pytest_netns import Lab

with Lab() as lab:
    left, right = lab.host("left"), lab.host("right")
    lab.connect(left, right)
    start = time.perf_counter()
    assert left.ping(right)
    print(time.perf_counter() - start)
"""

# In batches of a millisecond: no clock is fine enough for one frame at a time.
_SENDER = """
import socket, sys, time

address, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to, payload, batch = (address, 9), bytes(64), rate // 1000
start, sent, refused = time.perf_counter(), 0, 0
while sent + refused < rate * seconds:
    due = min(int((time.perf_counter() - start) * rate), rate * seconds)
    for _ in range(due - sent - refused):
        try:
            sock.sendto(payload, to)
            sent += 1
        except OSError:
            refused += 1
    time.sleep(0.001)
print(sent, time.perf_counter() - start)
"""


def first_ping() -> Laps:
    """The first ping of a session: in a process of its own, imports apart."""
    done = subprocess.run(
        [sys.executable, "-c", _FIRST], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    return {"first": float(done.stdout)}


def questions() -> Iterator[str]:
    with Lab() as lab:
        left, right = lab.host("left"), lab.host("right")
        lab.connect(left, right)
        listener = right.socket()
        listener.bind(("", 80))
        listener.listen()
        left.ping(right)
        left.tcp(right, 80)
        left.arp(right)
        with left.capture("eth0"):
            pass
        left.run(["ping", "-c1", str(right.ip4)])
        yield "set-up"
        assert left.ping(right)
        yield "ping"
        left.run(["ping", "-c1", str(right.ip4)])
        yield "ping -c1"
        assert left.tcp(right, 80)
        yield "tcp"
        assert left.arp(right)
        yield "arp"
        capture = left.capture("eth0").start()
        yield "open"
        capture.stop()
        yield "close"
        whole = lab.capture().start()
        yield "open lab"
        whole.stop()
        listener.close()


def matrix(size: int) -> Iterator[str]:
    with Lab() as lab:
        switch = lab.bridge("br0")
        for number in range(size):
            switch.host(f"h{number}")
        yield "set-up"
        assert lab.ping_all()
        yield "first"
        assert lab.ping_all()
        yield "next"


def complete_matrix(size: int) -> Iterator[str]:
    """Every host to every other: many more neighbours than the kernel's table has room for, and none may fail."""
    with Lab() as lab:
        switch = lab.bridge("br0", "10.0.0.0/16")
        for number in range(size):
            switch.host(f"h{number}")
        yield "set-up"
        assert lab.ping_all(timeout=30)
        yield "first"


def capture_rate() -> str:
    """A sentence: how many of the frames of a sender in a process of its own were captured."""
    with Lab() as lab:
        left, right = lab.host("left"), lab.host("right")
        lab.connect(left, right)
        right.nft("table ip quiet { chain c { type filter hook input priority 0; udp dport 9 drop; }; }")
        left.ping(right)
        with left.capture("eth0", "udp") as capture:
            done = left.run([sys.executable, "-c", _SENDER, str(right.ip4), str(RATE), str(SECONDS)], timeout=120)
        sent, taken = done.stdout.split()
        seen, drops = len(capture.frames), capture.drops
    pace = int(sent) / float(taken)
    return f"capture: {sent} frames sent at {pace:.0f}/s, {seen} captured, {int(sent) - seen} lost ({drops} counted)"
