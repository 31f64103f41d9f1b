"""What is timed of pytest_netns: each generator yields the name of the step that it has just done."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_netns import Lab, Namespace


def netns() -> Iterator[str]:
    namespace = Namespace()
    yield "set-up"
    namespace.close()
    yield "tear-down"


def pair(ipv6: bool = True) -> Iterator[str]:
    lab = Lab() if ipv6 else Lab(ipv6=None)
    lab.connect(lab.host("left"), lab.host("right"))
    yield "set-up"
    lab.close()
    yield "tear-down"


def bridge(size: int) -> Iterator[str]:
    lab = Lab()
    switch = lab.bridge("br0")
    for number in range(size):
        switch.host(f"h{number}")
    yield "set-up"
    lab.close()
    yield "tear-down"


def pings() -> Iterator[str]:
    lab = Lab()
    left, right = lab.host("left"), lab.host("right")
    lab.connect(left, right)
    yield "set-up"
    assert left.ping(right)
    yield "first"
    assert left.ping(right)
    yield "next"
    lab.close()
    yield "tear-down"


def run() -> Iterator[str]:
    namespace = Namespace()
    yield "set-up"
    namespace.run(["true"])
    yield "first"
    namespace.run(["true"])
    yield "next"
    namespace.close()
    yield "tear-down"
