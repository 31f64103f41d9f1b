"""A program that interrupts everything which sets a lab up, at random instants, and looks at what is left.

Run by hand: ``python tests/interrupted.py --rounds 10000 --seed 1``. It says what was wrong, and ends with status 1.
"""

# ruff: noqa: ARG005 - all works take the same

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from types import FrameType

from pytest_netns import Host, Lab, Namespace, UnsupportedError
from pytest_netns.kernel.features.features import feature

#: Seconds after which a round hangs.
HANGS = 30.0
HERE = "/proc/thread-self/ns/net"
SLEEP = ["sleep", "1000"]


class Stop(BaseException):
    """What pytest-timeout and Ctrl-C do: raised by a signal handler, wherever the main thread is."""


Setup = Callable[[Lab, Host, Host], object]


def with_relay(work: Setup) -> list[Setup]:
    return [work] if feature("tap").present and feature("tc:bpf").present else []


def with_nft(work: Setup) -> list[Setup]:
    return [work] if feature("nft").present else []


#: Namespaces of no lab that were made in a round. Whose closing was interrupted is closed again, as a lab is.
ALONE: list[Namespace] = []


def standing_alone(lab: Lab, red: Host, blue: Host) -> None:
    del lab, red, blue
    with Namespace("alone") as alone:
        ALONE.append(alone)
        alone.run(["true"])
    alone.close()


def inside(lab: Lab, red: Host, blue: Host) -> None:
    del lab
    for _ in range(50):
        with red, blue:
            os.getpid()


def captured(lab: Lab, red: Host, blue: Host) -> None:
    with lab.capture(), red.capture("eth0"):
        red.ping(blue)


def roaming(lab: Lab, red: Host, blue: Host) -> None:
    del blue
    one, two = lab.bridge("one"), lab.bridge("two")
    one.attach(red)
    one.detach(red)
    two.attach(red)


def routed(lab: Lab, red: Host, blue: Host) -> None:
    router = lab.router("router")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    router.masquerade(router.interface("eth1"))


def impaired(lab: Lab, red: Host, blue: Host) -> None:
    del red, blue
    (link,) = lab.links
    with link.impaired(delay="1ms", engine="relay"):
        link.impair(delay="2ms", engine="relay")
    link.heal()


def broken(lab: Lab, red: Host, blue: Host) -> None:
    (link,) = lab.links
    with red.block(dst=blue), lab.partition(red, blue):
        link.down()
        link.up()
    lab.heal()


#: Each begins with two hosts, ``red`` and ``blue``, that are connected.
WORKS: list[Setup] = [
    standing_alone,
    inside,
    captured,
    roaming,
    *with_nft(routed),
    *with_nft(broken),
    *with_relay(impaired),
    lambda lab, red, blue: lab.connect(red, blue, "192.168.7.0/24", mtu=1400),
    lambda lab, red, blue: list(map(lab.bridge("lan").host, "abc")),
    lambda lab, red, blue: lab.links[0].remove(),
    lambda lab, red, blue: [red.run(["true"]) for _ in range(3)],
    lambda lab, red, blue: red.spawn(SLEEP),
    lambda lab, red, blue: red.spawn(SLEEP, ready=lambda: True).terminate(),
    lambda lab, red, blue: red.call(os.getpid),
    lambda lab, red, blue: [red.ping(blue), red.arp(blue), red.tcp(blue, 80), red.udp(blue, 80), red.trace(blue)],
    lambda lab, red, blue: lab.ping_all(),
    lambda lab, red, blue: [red.addresses(), red.routes(), red.neighbours(), dict(red.interfaces)],
    lambda lab, red, blue: red.sysctl["net.ipv4.ip_forward"],
    *with_nft(lambda lab, red, blue: [red.nft("add table ip t"), red.nft_ruleset()]),
    lambda lab, red, blue: red.socket().close(),
    lambda lab, red, blue: [red.spawn(SLEEP), red.freeze(), red.thaw()],
    lambda lab, red, blue: [red.spawn(SLEEP), red.crash(), red.restart()],
    lambda lab, red, blue: lab.host("isolated", isolate={"mount", "uts", "pid"}).run(["true"]),
    lambda lab, red, blue: lab.host("shared", shares=red).add_address("10.99.0.1/24"),
    lambda lab, red, blue: lab.schedule([(0, lab.links[0].down), (0, lab.links[0].up)]).wait(10),
]


class Interrupter:
    """Raises ``Stop`` in the main thread, once after each ``arm()``."""

    def __init__(self) -> None:
        self.fired = False
        signal.signal(signal.SIGALRM, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.fired = True
        raise Stop

    def arm(self, seconds: float) -> None:
        self.fired = False
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def in_place(self) -> bool:
        return signal.getsignal(signal.SIGALRM) == self._stop


def built(work: Setup) -> tuple[Lab, Callable[[], None]]:
    """A lab, and what builds it."""
    lab = Lab()

    def build() -> None:
        red, blue = lab.host("red"), lab.host("blue")
        lab.connect(red, blue)
        work(lab, red, blue)

    return lab, build


def seconds_of(work: Setup) -> float:
    """How long one takes, undisturbed."""
    lab, build = built(work)
    began = time.perf_counter()
    try:
        build()
    finally:
        lab.close()
    return time.perf_counter() - began


class Watch:
    """Counts what is wrong."""

    def __init__(self) -> None:
        self.home = os.stat(HERE).st_ino
        self.wrong: collections.Counter[str] = collections.Counter()
        self.interrupted = 0
        self.interrupter = Interrupter()
        sys.unraisablehook = self._lost

    def _lost(self, args: sys.UnraisableHookArgs) -> None:
        # What is interrupted between its being made and the with statement was not closed by anybody, and says so.
        if not (isinstance(args.exc_value, ResourceWarning) and "<Namespace 'alone'" in str(args.exc_value)):
            self.note("lost", f"in {args.object!r}: {args.exc_value!r}")

    def note(self, what: str, detail: str) -> None:
        self.wrong[what] += 1
        if self.wrong[what] <= 3:
            print(f"{what}: {detail}", file=sys.stderr)

    def round(self, name: str, work: Setup, instant: float) -> None:
        """Build a lab, interrupted after so many seconds; then close it."""
        faulthandler.dump_traceback_later(HANGS, exit=True)
        lab, build = built(work)
        seen, in_time = False, True
        try:
            self.interrupter.arm(instant)
            build()
            lab.close()
            in_time = False
            while not self.interrupter.fired:
                signal.setitimer(signal.ITIMER_REAL, 1e-6)
        except Stop:
            seen = True
        except BaseException:  # whatever it is, it is not what was raised
            self.note("another error", f"{name}: {traceback.format_exc()}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.interrupted += seen and in_time
        if self.interrupter.fired and not seen:
            self.note("swallowed", name)
        if not self.interrupter.in_place():
            self.note("handler gone", name)
        try:
            for node in lab:
                if not (node.closed or (isinstance(node, Host) and node.crashed)):
                    node.addresses()
            for each in (lab, lab, *ALONE):
                each.close()
        except BaseException:
            self.note("not closed", f"{name}: {traceback.format_exc()}")
        ALONE.clear()
        if os.stat(HERE).st_ino != self.home:
            self.note("not at home", name)
            os._exit(1)
        faulthandler.cancel_dump_traceback_later()


def children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return file.read().split()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("error")
    watch, chosen = Watch(), random.Random(given.seed)
    works: list[tuple[Setup, float]] = []
    for work in WORKS:
        seconds_of(work)  # what is imported and made once is not what is asked here
        works.append((work, min(seconds_of(work) for _ in range(2))))
    deadline, rounds = time.monotonic() + given.seconds, 0
    while rounds < given.rounds and time.monotonic() < deadline:
        rounds += 1
        number = chosen.randrange(len(works))
        work, seconds = works[number]
        watch.round(f"work {number} ({work.__name__})", work, chosen.uniform(0, 1.1 * seconds))
    if left := children():
        watch.note("processes left", str(left))
    print(json.dumps({"rounds": rounds, "interrupted": watch.interrupted, "wrong": dict(watch.wrong)}))
    return 1 if watch.wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UnsupportedError as error:
        print(f"unsupported: {error}")
        sys.exit(2)
