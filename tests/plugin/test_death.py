"""Sudden death: soon after a session ends, by whatever means and at whatever point, the machine is as before."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from slowness import patient

from pytest_netns import Namespace
from pytest_netns.kernel import sandbox, tun_driver

from .deaths import HOW, How, die, instants
from .inner import Process, Project, Running, User, as_user, await_none

#: A lab with a supervised process, and a daemon that has forked twice, leads a session of its own and ignores what
#: would end it. The sentinel, if there is one, is a veth to the watching test: it vanishes with the namespace.
BUILD = '''
import os, signal, threading, warnings
import pytest
from outside import tell_outside, wait_for_outside

DAEMON = ["sh", "-c", "trap '' TERM HUP INT; setsid -f sleep 1001"]

def expire():
    """What the clock of pytest-timeout does when it has run down."""
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for timer in timers:
        threading.Thread(target=timer.function, args=timer.args, kwargs=timer.kwargs).start()
    if not timers:
        signal.setitimer(signal.ITIMER_REAL, 0.001)

def build(lab):
    red = lab.host("red")
    red.run(DAEMON)
    red.spawn(["sleep", "1002"])
    if path := os.environ.get("NETNS_TEST_SENTINEL"):
        with open(path) as there:
            peer = {"ifname": "sentinel", "net_ns_fd": there.fileno()}
            red.iproute.link("add", ifname="here", kind="veth", peer=peer)
    blue = lab.host("blue")
    link = lab.connect(red, blue)
    if os.environ["NETNS_TEST_RELAY"] == "yes":
        link.impair(delay="1ms", engine="relay")  # a process, and a tap device in each
    return red, blue
'''

IN_A_TEST = """
def test_one(lab, netns):
    red, blue = build(lab)
    netns.spawn(["sleep", "1003"])
    with red:
        tell_outside(built=True)
        {end}
"""

IN_SET_UP = """
@pytest.fixture
def half(lab, netns):
    red, blue = build(lab)
    netns.spawn(["sleep", "1003"])
    tell_outside(built=True)
    {end}
    lab.host("green")
    yield red

def test_one(half):
    raise AssertionError("set-up went on")
"""

BETWEEN_SYSTEM_CALLS = """
def test_one(lab, lab_factory, netns):
    build(lab)
    netns.spawn(["sleep", "1003"])
    tell_outside(built=True)
    while True:
        busy = lab_factory()
        bridge = busy.bridge("br0")
        for name in "abcdef":
            busy.host(name, bridge).run(["true"])
        busy.close()
"""

STARTED_WITHOUT_US = """
import subprocess

def test_one(lab, netns):
    red, blue = build(lab)
    netns.spawn(["sleep", "1003"])
    with red:
        subprocess.run(DAEMON, check=True)
    tell_outside(built=True)
    wait_for_outside()
"""

WITH_A_TAP = """
def test_one(lab, netns):
    red, blue = build(lab)
    netns.spawn(["sleep", "1003"])
    devices = [red.add_tap("tap0", address="10.9.0.1/24"), red.add_tun("tun0")]
    assert all(device.fileno() >= 0 for device in devices)
    tell_outside(built=True)
    wait_for_outside()
"""

FROZEN = """
def test_one(lab_factory, netns):
    red, blue = build(lab_factory(isolate={"mount", "uts"}))
    netns.spawn(["sleep", "1003"])
    red.freeze()
    blue.freeze()
    tell_outside(built=True)
    wait_for_outside()
"""

WAIT = "wait_for_outside()"
FORK_AND_WAIT = """
        warnings.simplefilter("ignore")  # of a fork beside threads
        os.fork()
        wait_for_outside()
"""


@dataclass(frozen=True)
class Machine:
    """What could be left behind, apart from processes."""

    interfaces: frozenset[tuple[int, str]]
    mounts: frozenset[str]
    files: frozenset[str]


def look(project: Project) -> Machine:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    files = set()
    for folder in ("/run/netns", "/run/pytest-netns", str(project.temporary)):  # not where others put theirs: /dev/shm
        if os.path.isdir(folder):
            files |= {f"{folder}/{name}" for name in os.listdir(folder) if not name.startswith("pytest-of-")}
    return Machine(
        frozenset(socket.if_nameindex()),
        frozenset(line.split(" - ")[0].split(maxsplit=3)[3] for line in mounts),
        frozenset(files),
    )


@contextmanager
def sentinel() -> Iterator[Namespace | None]:
    """A namespace of this process; None if it may not have one."""
    if os.geteuid() != 0 or sandbox.in_user_namespace():
        yield None
        return
    namespace = Namespace("sentinel")
    try:
        yield namespace
    finally:
        namespace.close()


def sleepers(running: Running) -> list[Process]:
    return [process for process in running.processes() if process.command == "sleep"]


def is_relay(process: Process) -> bool:
    try:
        return b"relay.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


@cache
def may_have_taps(user: User) -> bool:
    """Whether that user may open what taps and the relay need. Debian lets everybody; some machines only root."""
    command = [*as_user(user), "sh", "-c", f"exec <> {tun_driver.PATH}"]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


@contextmanager
def under_way(
    project: Project, source: str, *arguments: str, user: User, expected: int = 3, seconds: float = 20.0
) -> Iterator[Running]:
    """An inner session that has built its lab. When the block is over it must be dead, and nothing of it left.

    Args:
        project: where it runs.
        source: of the test, which starts with ``build()``.
        arguments: of pytest.
        user: who runs it.
        expected: how many processes it starts that would live on for long.
        seconds: how long they may take to die.
    """
    project.write("test_inside.py", BUILD + source)
    before = look(project)
    with sentinel() as watcher:
        watched = watcher is not None and user == "root"
        relayed = may_have_taps(user)
        env = {"NETNS_TEST_RELAY": "yes" if relayed else "no"}
        env |= {"NETNS_TEST_SENTINEL": watcher.path} if watched and watcher else {}
        with project.start(*arguments, user=user, env=env) as running:
            assert running.report() == {"built": True}
            await_none(lambda: len(sleepers(running)) < expected)  # a daemon has yet to become ``sleep``
            assert len(sleepers(running)) == expected
            assert sum(map(is_relay, running.processes())) == int(relayed)
            assert not watched or (watcher and "sentinel" in watcher.interfaces)
            yield running
            left = await_none(running.processes, patient(seconds))
            assert not left, f"still alive: {left}"
            if watched and watcher:
                assert not await_none(lambda: "sentinel" in watcher.interfaces), "a namespace is still there"
    after = look(project)
    assert after.interfaces <= before.interfaces
    assert after.mounts <= before.mounts
    assert after.files <= before.files


@pytest.mark.parametrize("place", [IN_A_TEST, IN_SET_UP], ids=["test", "set-up"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_survives_a_signal(project: Project, user: User, place: str, number: signal.Signals) -> None:
    with under_way(project, place.format(end=WAIT), user=user) as running:
        running.popen.send_signal(number)
        assert running.wait() == -number


@pytest.mark.parametrize("place", [IN_A_TEST, IN_SET_UP], ids=["test", "set-up"])
def test_nothing_survives_an_exit_without_teardown(project: Project, user: User, place: str) -> None:
    with under_way(project, place.format(end=f"{WAIT}; os._exit(7)"), user=user) as running:
        running.go_on()
        assert running.wait() == 7


@pytest.mark.parametrize("place", [IN_A_TEST, IN_SET_UP], ids=["test", "set-up"])
def test_nothing_survives_ctrl_c(project: Project, user: User, place: str) -> None:
    with under_way(project, place.format(end=WAIT), user=user) as running:
        running.popen.send_signal(signal.SIGINT)
        result = running.result()
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
        assert "Error" not in result.stdout.str()


@pytest.mark.parametrize(
    ("method", "place"),
    [
        pytest.param("thread", IN_A_TEST, id="thread-test"),
        pytest.param("thread", IN_SET_UP, id="thread-set-up"),
        pytest.param("signal", IN_A_TEST, id="signal-test"),
    ],
)
def test_nothing_survives_a_timeout(project: Project, user: User, method: str, place: str) -> None:
    # The clock starts at set-up, and building may take long, so its end is not waited for.
    options = ("-p", "timeout", "--timeout=60", f"--timeout-method={method}")
    with under_way(project, place.format(end=f"{WAIT}; expire(); {WAIT}"), *options, user=user) as running:
        running.go_on()
        result = running.result()
        assert result.ret == 1
        result.stdout.fnmatch_lines(["*Timeout*"])


def test_nothing_survives_a_kill_in_the_middle_of_building(project: Project, user: User) -> None:
    with under_way(project, BETWEEN_SYSTEM_CALLS, user=user) as running:
        os.kill(running.popen.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL


@pytest.mark.netns_requires("tun")
def test_nothing_survives_of_a_tap(project: Project, user: User) -> None:
    if not may_have_taps(user):
        pytest.skip(f"{tun_driver.PATH} is not for this user")
    with under_way(project, WITH_A_TAP, user=user) as running:
        running.popen.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL


def test_nothing_survives_of_a_frozen_host(project: Project, user: User) -> None:
    with under_way(project, FROZEN, user=user) as running:
        running.popen.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL


def test_nothing_survives_the_death_of_a_worker(project: Project, user: User) -> None:
    source = IN_A_TEST.format(end=f"{WAIT}; os.kill(os.getpid(), signal.SIGKILL)")
    options = ("-p", "xdist", "-n", "1", "--max-worker-restart=0", "--netns-sandbox=auto")
    with under_way(project, source, *options, user=user) as running:
        running.go_on()
        result = running.result()
        assert result.ret == 1
        result.stdout.fnmatch_lines(["*worker 'gw0' crashed*"])


def test_nothing_survives_the_death_of_the_controller(project: Project, user: User) -> None:
    options = ("-p", "xdist", "-n", "1", "--netns-sandbox=auto")
    with under_way(project, IN_A_TEST.format(end=WAIT), *options, user=user) as running:
        running.popen.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL


def test_a_forked_child_of_the_session_does_not_keep_its_processes_alive(project: Project, user: User) -> None:
    with under_way(project, IN_A_TEST.format(end=FORK_AND_WAIT), user=user) as running:
        running.popen.kill()
        assert running.wait() == -signal.SIGKILL
        assert not await_none(lambda: sleepers(running))
        for forked in running.processes():  # not ours to kill, and a holder of the namespaces
            os.kill(forked.pid, signal.SIGKILL)


def test_these_tests_notice_a_daemon_that_was_started_without_us(project: Project) -> None:
    def kill_while_under_way() -> None:
        with under_way(project, STARTED_WITHOUT_US, user="root", expected=4, seconds=1) as running:
            running.popen.kill()
            running.wait()

    with pytest.raises(AssertionError, match=r"still alive: \{Process\([^)]*'sleep'\)\}"):
        kill_while_under_way()


@pytest.mark.parametrize("how", HOW)
def test_nothing_survives_a_death_at_any_instant_and_it_is_told(project: Project, user: User, how: How) -> None:
    # Many more of them: python benchmarks/deaths.py
    with sentinel() as watcher:
        chosen = next(instants(random.randrange(1 << 32)))
        death = die(project, how, user, chosen, watcher if user == "root" else None)
    assert not death.wrong(how), f"{death.wrong(how)}\n{death.output}"
