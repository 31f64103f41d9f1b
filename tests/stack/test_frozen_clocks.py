"""Tests that stop or shift the clocks of ``time``: no wait of ours asks those."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, UDP

import pytest_netns
from pytest_netns import Host, Lab, ProbeFailure, WaitTimeout, assert_no_ping, clock, eventually

pytestmark = pytest.mark.timeout(30)

ELSEWHEN = "2031-05-04 03:02:01"
#: Programs of their own: freezing does not reach them, nor what is imported there.
_PROGRAMS = {"impair/relay.py", "probe/traffic.py"}


def freezegun() -> AbstractContextManager[object]:
    context: AbstractContextManager[object] = pytest.importorskip("freezegun").freeze_time(ELSEWHEN)
    return context


def time_machine() -> AbstractContextManager[object]:
    context: AbstractContextManager[object] = pytest.importorskip("time_machine").travel(ELSEWHEN, tick=False)
    return context


@contextmanager
def by_hand() -> Iterator[None]:
    """As people do it with monkeypatch; sleeping takes no time either."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("time", "monotonic", "perf_counter"):
            patch.setattr(time, name, lambda: 1.5)
            patch.setattr(time, f"{name}_ns", lambda: 1_500_000_000)
        patch.setattr(time, "sleep", lambda _seconds: None)
        yield


@pytest.fixture(params=[freezegun, time_machine, by_hand], ids=lambda way: way.__name__)
def frozen(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[object]]:
    way: Callable[[], AbstractContextManager[object]] = request.param
    return way


Frozen = Callable[[], AbstractContextManager[object]]


def test_our_clocks_go_on(frozen: Frozen) -> None:
    wall = time.time_ns()
    with frozen():
        before, stamp = clock.monotonic(), clock.monotonic_ns()
        clock.sleep(0.01)
        assert clock.monotonic() >= before + 0.01
        assert clock.monotonic_ns() > stamp
        assert wall <= clock.wall_ns() < wall + 60 * 10**9


def test_a_condition_that_never_holds_is_told_after_its_time(frozen: Frozen) -> None:
    with frozen(), pytest.raises(ProbeFailure, match=r"did not hold within 0\.1 s"):
        eventually(lambda: False, within=0.1)


def test_a_process_that_does_not_become_ready_or_end_is_told(netns: pytest_netns.Namespace, frozen: Frozen) -> None:
    with frozen():
        with pytest.raises(WaitTimeout, match=r"waited 0\.1 s"):
            netns.spawn(["sleep", "1040"], ready=80, timeout=0.1)
        with pytest.raises(WaitTimeout):
            netns.run(["sleep", "1041"], timeout=0.1)
        process = netns.spawn(["sleep", "1042"])
        with pytest.raises(WaitTimeout):
            process.wait(0.1)
        process.terminate()


def test_a_capture_waits_as_long_as_it_was_told(veth_pair: tuple[Host, Host], frozen: Frozen) -> None:
    left, right = veth_pair
    with frozen(), right.capture() as capture:
        capture.expect_none(UDP, within=0.05)
        with pytest.raises(ProbeFailure):
            capture.expect(UDP, timeout=0.1)
        assert left.ping(right)
        assert capture.expect(ICMP, timeout=5)


@pytest.mark.netns_requires("nft")
def test_probes_measure_and_give_up(veth_pair: tuple[Host, Host], frozen: Frozen) -> None:
    left, right = veth_pair
    right.block(port=9)
    with frozen():
        answer = left.ping(right)
        assert answer
        assert answer.rtts[0] > 0
        assert left.tcp(right, 9, timeout=0.1).state == "filtered"
        assert not left.udp(right, 9, timeout=0.1)
        right.interfaces["eth0"].down()
        assert not left.ping(right, timeout=0.1)
        assert not left.arp(right, timeout=0.1)


@pytest.mark.netns_requires("nft")
def test_silence_is_proved_by_what_was_sent_meanwhile(veth_pair: tuple[Host, Host], frozen: Frozen) -> None:
    left, right = veth_pair
    right.block(protocol="icmp")
    with frozen():
        assert_no_ping(left, right, timeout=0.1)


def test_links_and_schedules_keep_their_time(lab: Lab, frozen: Frozen) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    with frozen():
        link = lab.connect(red, blue)
        with lab.schedule([(0.05, link.down)]) as schedule:
            schedule.wait()
        link.up()
        link.flap(2, 0.02)
        assert red.ping(blue)


def test_pyroute2_answers(netns: pytest_netns.Namespace, frozen: Frozen) -> None:
    with frozen():
        assert [link.get("ifname") for link in netns.iproute.get_links()] == ["lo"]


@pytest.mark.netns_requires("tap")
def test_what_can_never_come_is_an_error_in_time(lab: Lab, frozen: Frozen) -> None:
    tap = lab.host("red").add_tap("tap0", address="10.9.0.1/24")
    with frozen(), pytest.raises(ProbeFailure):
        tap.expect(lambda _packet: False, timeout=0.1)


def test_no_module_asks_another_clock() -> None:
    root = Path(pytest_netns.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        name = str(path.relative_to(root))
        if name in {"clock.py", *_PROGRAMS}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            found += [f"{name}:{node.lineno} imports {each}" for each in names if each in ("time", "datetime")]
    assert found == [], "use pytest_netns.clock: tests stop the clocks of these"
