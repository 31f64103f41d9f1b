from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import pytest

from pytest_netns import Host, Lab, LabFactory, NetnsError, TopologyError, WaitTimeout, eventually


def test_actions_come_in_the_order_of_their_times(lab: Lab) -> None:
    seen: list[str] = []
    with lab.schedule([(0.02, lambda: seen.append("b")), (0, lambda: seen.append("a"))]) as schedule:
        pass
    assert seen == ["a", "b"]
    assert schedule.done
    for done in schedule.log:
        assert done.began >= done.asked


def test_the_test_goes_on_meanwhile(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    link = left.links[0]
    gate = threading.Event()

    def down() -> None:
        gate.wait(10)
        link.down()

    schedule = left.lab.schedule([(0, down), (0.01, link.up)])
    assert left.ping(right)
    assert not schedule.done
    gate.set()
    schedule.wait(10)
    assert left.ping(right)
    assert [done.action for done in schedule.log] == [down, link.up]


def test_an_error_is_raised_by_who_waits(lab: Lab) -> None:
    def fail() -> None:
        raise RuntimeError("as asked")

    schedule = lab.schedule([(0, fail), (0, lambda: pytest.fail("not after an error"))])
    with pytest.raises(RuntimeError, match="as asked") as caught:
        schedule.wait(10)
    assert "due 0 s after the start" in caught.value.__notes__[0]


def test_an_error_that_nobody_waits_for_is_raised_at_the_end() -> None:
    def fail() -> None:
        raise RuntimeError("as asked")

    lab = Lab("scheduled")
    schedule = lab.schedule([(0, fail)])
    while not schedule.done:
        pass
    with pytest.raises(ExceptionGroup) as caught:
        lab.close()
    assert caught.group_contains(RuntimeError, match="as asked")


@pytest.mark.parametrize("end", [lambda: pytest.fail("as asked"), lambda: sys.exit("as asked")], ids=["fail", "exit"])
def test_what_is_no_exception_is_told_at_the_end_too(end: Callable[[], object]) -> None:
    lab = Lab("scheduled")
    schedule = lab.schedule([(0, end)])
    eventually(lambda: schedule.done)
    with pytest.raises(ExceptionGroup) as caught:
        lab.close()
    assert caught.group_contains(NetnsError, match=r"(?s)raised by .* due 0 s after the start.*: as asked")


def test_who_waits_gets_it_as_it_is(lab: Lab) -> None:
    with pytest.raises(SystemExit, match="as asked"), lab.schedule([(0, lambda: sys.exit("as asked"))]):
        pass


def test_closing_the_lab_ends_a_flapping(lab_factory: LabFactory) -> None:
    lab = lab_factory()
    link = lab.connect(lab.host("a"), lab.host("b"))
    schedule = lab.schedule([(0, lambda: link.flap(9, 120))])
    assert eventually(lambda: not link.is_up)
    began = time.monotonic()
    lab.close()
    assert schedule.done
    assert time.monotonic() - began < 30


def test_a_flapping_that_is_cancelled_leaves_the_link_up(veth_pair: tuple[Host, Host]) -> None:
    link = veth_pair[0].links[0]
    schedule = veth_pair[0].lab.schedule([(0, lambda: link.flap(9, 120))])
    assert eventually(lambda: not link.is_up)
    schedule.cancel()
    assert link.is_up


def test_closing_the_lab_cancels_the_rest() -> None:
    with Lab("scheduled") as lab:
        schedule = lab.schedule([(3600, lambda: pytest.fail("too late"))])
    assert schedule.done
    assert schedule.log == ()


def test_a_failing_block_cancels_the_rest(lab: Lab) -> None:
    with pytest.raises(KeyError), lab.schedule([(3600, print)]) as schedule:
        raise KeyError
    assert schedule.done


def test_waiting_has_a_deadline(lab: Lab) -> None:
    schedule = lab.schedule([(3600, print)])
    with pytest.raises(WaitTimeout, match=r"0 of 1 done.*waited 0.01 s"):
        schedule.wait(0.01)


def test_bad_events_are_named(lab: Lab) -> None:
    for event, words in (
        ((-1, print), "-1 is not a time"),
        (("soon", print), "'soon' is not a time"),
        ((True, print), "True is not a time"),
        ((1, None), r"without \(\)"),
        (5, "not a pair"),
    ):
        with pytest.raises(TopologyError, match=words):
            lab.schedule([event])  # type: ignore[list-item]
    for events in (None, 5):
        with pytest.raises(TopologyError, match=rf"{events} are not events; expected pairs: "):
            lab.schedule(events)  # type: ignore[arg-type]
