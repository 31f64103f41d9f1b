"""What signal handlers raise, and what has to be done as a whole all the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from slowness import patient

from pytest_netns import Lab, Namespace, WaitTimeout
from pytest_netns.kernel import locks
from pytest_netns.kernel.interrupts import checkpoint, readable, uninterrupted
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netlink.socket import NetlinkSocket

PROGRAM = Path(__file__).parents[1] / "interrupted.py"


class Stop(BaseException):
    pass


class Another(BaseException):
    pass


def raise_stop(number: int, frame: FrameType | None) -> None:
    raise Stop(number)


def raise_another(number: int, frame: FrameType | None) -> None:
    raise Another(number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """SIGUSR1 raises Stop, SIGUSR2 raises Another, and both still do afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    signal.signal(signal.SIGUSR1, raise_stop)
    signal.signal(signal.SIGUSR2, raise_another)
    yield
    assert signal.getsignal(signal.SIGUSR1) is raise_stop
    assert signal.getsignal(signal.SIGUSR2) is raise_another
    for number, handler in before.items():
        signal.signal(number, handler)


# ------------------------------------------------------------------- blocks


def test_what_a_handler_raises_comes_at_the_end_of_the_outermost_block() -> None:
    done = []

    def work() -> None:
        with uninterrupted:
            with uninterrupted:
                signal.raise_signal(signal.SIGUSR1)
                done.append("inner")
            done.append("outer")

    with pytest.raises(Stop):
        work()
    assert done == ["inner", "outer"]


def test_it_comes_beside_an_error_of_the_block() -> None:
    def fail() -> None:
        with uninterrupted:
            signal.raise_signal(signal.SIGUSR1)
            raise LookupError("of the block")

    with pytest.raises(Stop) as caught:
        fail()
    assert isinstance(caught.value.__context__, LookupError)


def test_no_signal_is_lost_when_several_come_in_one_block() -> None:
    def work() -> None:
        with uninterrupted:
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
                signal.raise_signal(number)

    with pytest.raises(Another) as caught:
        work()
    assert isinstance(caught.value.__context__, Stop)
    assert caught.value.__context__.__context__ is None


def test_a_checkpoint_raises_it_inside_of_the_block() -> None:
    done = []

    def work() -> None:
        with uninterrupted, uninterrupted:
            checkpoint()
            signal.raise_signal(signal.SIGUSR1)
            done.append("before")
            checkpoint()
            done.append("never")

    with pytest.raises(Stop):
        work()
    assert done == ["before"]


def test_a_wait_in_a_block_is_interrupted() -> None:
    reader, writer = os.pipe()
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    timer.start()
    with pytest.raises(Stop), uninterrupted:
        readable(reader, 60)
    timer.join()
    os.close(reader)
    os.close(writer)


def test_handlers_outside_of_blocks_and_in_other_threads_are_those_of_the_test() -> None:
    with uninterrupted:
        assert signal.getsignal(signal.SIGUSR1) is not raise_stop

    def other() -> None:
        with uninterrupted:
            seen.append(signal.getsignal(signal.SIGUSR1))

    seen: list[object] = []
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [raise_stop]


def test_a_signal_at_any_instant_of_a_block_leaves_the_handlers_as_they_were() -> None:
    chosen = random.Random(5)
    before = signal.signal(signal.SIGALRM, raise_stop)
    interrupted = 0
    try:
        for _ in range(2000):
            whole = True
            try:
                signal.setitimer(signal.ITIMER_REAL, chosen.uniform(1e-6, 60e-6))
                while True:
                    with uninterrupted:
                        whole = False
                        whole = True
            except Stop:
                interrupted += 1
            assert whole
            assert signal.getsignal(signal.SIGALRM) is raise_stop
            with uninterrupted:
                pass
            assert signal.getsignal(signal.SIGALRM) is raise_stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 2000


# -------------------------------------------------------------------- locks


def held(lock: Lock, until: threading.Event) -> threading.Thread:
    """A thread that has the lock."""
    has = threading.Event()

    def hold() -> None:
        with lock:
            has.set()
            until.wait(60)

    thread = threading.Thread(target=hold, name="the holder")
    thread.start()
    assert has.wait(60)
    return thread


def test_who_waits_for_a_lock_in_vain_is_told_who_has_it_and_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "DEADLINE", 0.05)
    lock, until = Lock("building a house"), threading.Event()
    thread = held(lock, until)
    with pytest.raises(WaitTimeout, match=r"(?s)building a house: .*'the holder'.*until\.wait\(60\)"), lock:
        pytest.fail("it has the lock")
    until.set()
    thread.join()
    with lock, lock:
        assert signal.getsignal(signal.SIGUSR1) is not raise_stop


def test_waiting_for_a_lock_is_interrupted() -> None:
    lock, until = Lock("building a house"), threading.Event()
    thread = held(lock, until)
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    timer.start()
    with pytest.raises(Stop), lock:
        pytest.fail("it has the lock")
    until.set()
    for each in (timer, thread):
        each.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_threads_of_its_parent() -> None:
    lock, until = Lock("building a house"), threading.Event()
    thread = held(lock, until)

    def take() -> None:
        with lock:
            pass

    child = multiprocessing.get_context("fork").Process(target=take)
    child.start()
    child.join(30)
    until.set()
    thread.join()
    assert child.exitcode == 0


# ------------------------------------------------- what is interrupted for real


def test_the_answer_to_an_interrupted_question_is_not_that_of_the_next(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.7.0/24")

    def interrupted(self: NetlinkSocket, operation: str) -> list[object]:
        raise Stop(operation)

    for question in (red.addresses, lambda: red.interface("eth0").state, lab.links[0].up):
        with monkeypatch.context() as patch:
            patch.setattr(NetlinkSocket, "_receive", interrupted)
            with pytest.raises(Stop):
                question()
        assert str(red.addresses()[0]) == "192.168.7.1/24"
        assert red.interface("eth0").is_up


def test_a_namespace_that_was_not_left_is_left_when_it_is_closed() -> None:
    # As if the block was interrupted at its very end, before it has moved the thread.
    home = os.stat("/proc/thread-self/ns/net").st_ino
    with Lab() as lab:
        lab.host("red").__enter__()
    assert os.stat("/proc/thread-self/ns/net").st_ino == home
    with Namespace("outer") as outer:
        with Namespace("inner") as inner:
            inner.close()
        assert os.stat("/proc/thread-self/ns/net").st_ino == outer.inode
    outer.close()
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_a_namespace_that_was_not_left_is_left_with_the_one_around_it(lab: Lab) -> None:
    # As if the inner block was interrupted at the entry into its __exit__.
    red, blue = lab.host("red"), lab.host("blue")
    home = os.stat("/proc/thread-self/ns/net").st_ino
    stop = Stop()

    def interrupted() -> None:
        blue.__enter__()
        raise stop

    with pytest.raises(Stop), red:
        interrupted()
    assert os.stat("/proc/thread-self/ns/net").st_ino == home
    assert stop.__context__ is None
    assert stop.__notes__ == ["namespace 'blue' had not been left when the block of 'red' ended"]


def test_whatever_is_interrupted_says_so_and_can_be_closed(netns: Namespace) -> None:
    # The namespace is there so that this is skipped where there can be none.
    command = [sys.executable, str(PROGRAM), "--seconds", "4", "--seed", str(random.randrange(1 << 32))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(120), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["interrupted"] > 5
