"""Sessions that die at random instants, in the middle of whatever they do, and what is left of them.

``python benchmarks/deaths.py`` does this many times; ``test_death`` a few times.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from pytest_netns import Namespace

from .inner import Process, Project, User, await_none

How = Literal["SIGINT", "SIGTERM", "SIGKILL", "timeout"]
HOW: tuple[How, ...] = ("SIGINT", "SIGTERM", "SIGKILL", "timeout")

#: Seconds in which a session must have ended, and everything that it has started.
ENDS = 20.0
#: Seconds from the beginning of the test's set-up on in which it dies.
SPAN = 1.5

#: Everything that is made, run, entered and undone, over and over again, in a test or in a fixture. The sentinel, if
#: there is one, is a veth to the watching namespace: it vanishes with the namespace that its other end is in.
SOURCE = """
import contextlib, itertools, os
import pytest
from pytest_netns.kernel.features.features import feature
from pytest_netns.kernel.netlink.rtnetlink import VethEnd, veth

DAEMON = ["sh", "-c", "trap '' TERM HUP INT; setsid -f sleep 1001"]
PATH = os.environ.get("NETNS_TEST_SENTINEL")
IN_FIXTURE = os.environ["NETNS_TEST_PLACE"] == "fixture"
RELAY = os.access("/dev/net/tun", os.R_OK | os.W_OK)

def one_round(lab_factory, number):
    lab = lab_factory()
    red, blue = lab.host("red"), lab.bridge("lan").host("blue")
    link = lab.connect(red, blue)
    if PATH:
        with open(PATH) as there:
            ends = (VethEnd(name, 0, bytes([2, 0, 0, 0, 0, last])) for last, name in enumerate(("here", "sentinel%d")))
            red.rtnl.batch([veth(*ends, there.fileno(), None)])
    red.run(DAEMON)
    red.spawn(["sleep", "1002"], ready=lambda: True)
    with red:
        os.getpid()
    assert red.call(os.getpid) == os.getpid()
    with lab.capture():
        red.ping(blue)
    if RELAY:
        link.impair(delay="1ms", engine="relay")
    isolated = lab.host("isolated", isolate={"mount", "uts", "pid"})
    isolated.spawn(["sleep", "1003"])
    red.freeze()
    with lab.partition(red, blue) if feature("nft").present else contextlib.nullcontext():
        pass
    blue.restart()
    lab.close()

def rounds(lab_factory):
    for number in itertools.count():
        one_round(lab_factory, number)

@pytest.fixture
def busy(lab_factory):
    if IN_FIXTURE:
        rounds(lab_factory)

@pytest.mark.netns
def test_one(lab_factory, netns, busy):
    netns.spawn(["sleep", "1004"])
    rounds(lab_factory)
"""

#: What is imported is there before the test begins: to die while scapy is imported would be most of all deaths.
CONFTEST = """
import pytest
from outside import tell_outside

import pytest_netns.capture.capture, pytest_netns.faults.freeze, pytest_netns.faults.partition
import pytest_netns.impair.relayed, pytest_netns.lab.lab, pytest_netns.probe.ping

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol():
    tell_outside(begins=True)
"""


@dataclass
class Death:
    """How one session has died.

    Attributes:
        status: its exit status; None if it had not ended ``ENDS`` seconds after its death.
        seconds: that it took.
        left: what was left ``ENDS`` seconds after its death, in words.
        output: what it wrote.
    """

    status: int | None
    seconds: float
    left: list[str] = field(default_factory=list)
    output: str = ""

    def wrong(self, how: How) -> list[str]:
        """What should be otherwise."""
        found = list(self.left)
        if self.status is None:
            return [f"it had not ended after {ENDS:g} s", *found]
        # Where it came while a text was executed, as dataclasses do it, Python itself ends by the signal afterwards.
        expected: tuple[int, ...] = {
            "SIGINT": (pytest.ExitCode.INTERRUPTED, -signal.SIGINT),
            "SIGTERM": (-signal.SIGTERM,),
            "SIGKILL": (-signal.SIGKILL,),
            "timeout": (pytest.ExitCode.TESTS_FAILED,),
        }[how]
        if self.status not in expected:
            found.append(f"exit status {self.status} instead of {expected[0]}")
        if how == "SIGINT" and "KeyboardInterrupt" not in self.output:
            found.append("KeyboardInterrupt is not told")
        if how == "timeout" and "Timeout (>" not in self.output:
            found.append("the time-out is not told")
        if how in ("SIGINT", "timeout"):
            summary = self.output.strip().splitlines()[-1] if self.output.strip() else ""
            if " failed, " in summary or ", 1 error" in summary or "errors" in summary or "warning" in summary:
                found.append(f"more than that is told: {summary}")
            found += [f"{word} is told" for word in ("INTERNALERROR", "AttributeError") if word in self.output]
        return found


def _machine(project: Project) -> set[str]:
    """What could be left behind, apart from processes."""
    found = {f"interface {name}" for _, name in socket.if_nameindex()}
    for folder in ("/run/netns", "/run/pytest-netns", str(project.temporary)):
        if os.path.isdir(folder):
            found |= {f"file {folder}/{name}" for name in os.listdir(folder) if not name.startswith("pytest-of-")}
    found |= {"mount " + line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return found


def die(project: Project, how: How, user: User, chosen: random.Random, watcher: Namespace | None) -> Death:
    """Start a session, let it die, and look at what is left.

    Args:
        project: where it runs.
        how: by which signal, or by pytest-timeout's method "signal".
        user: who runs it.
        chosen: chooses the instant, and whether that is in a test or in a fixture.
        watcher: where sentinels appear; None for a user who may not put any there.
    """
    project.write("conftest.py", CONFTEST)
    project.write("test_inside.py", SOURCE)
    place = chosen.choice(("test", "fixture"))
    env = {"NETNS_TEST_PLACE": place}
    if watcher is not None:
        env["NETNS_TEST_SENTINEL"] = watcher.path
    before = _machine(project)
    instant = chosen.uniform(0.001, SPAN)
    options = ("-p", "timeout", f"--timeout={instant}", "--timeout-method=signal") if how == "timeout" else ()
    with project.start("-p", "no:randomly", *options, user=user, env=env) as running:
        assert running.report() == {"begins": True}
        died = time.monotonic() + instant
        if how != "timeout":
            time.sleep(instant)  # the instant is what is tested
            running.popen.send_signal(getattr(signal, how))
        try:
            status: int | None = running.popen.wait(max(0.0, died - time.monotonic()) + ENDS)
        except subprocess.TimeoutExpired:
            status = None
        ended = time.monotonic()
        found = await_none(running.processes, max(0.1, died + ENDS - time.monotonic()))
        assert isinstance(found, set)
        left = [f"process {process.pid} ({process.command})" for process in found if isinstance(process, Process)]
        if watcher is not None:
            names = await_none(lambda: [n for n in watcher.interfaces if n.startswith("sentinel")])
            left += [f"a namespace ({name})" for name in names] if isinstance(names, list) else []
        output = running.output
    left += sorted(_machine(project) - before)
    return Death(status, ended - died, left, output)


def instants(seed: int) -> Iterator[random.Random]:
    """Choices, the same for the same seed."""
    for number in itertools.count():
        yield random.Random(f"{seed}/{number}")
