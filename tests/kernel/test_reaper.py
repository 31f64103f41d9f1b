"""What takes long to close is closed in a thread of its own, in order; who hands over too much waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from pytest_netns.kernel import reaper


def test_where_many_wait_who_hands_over_more_waits_until_all_are_closed() -> None:
    reaper.settle()
    gate, many = threading.Event(), threading.Event()
    closed: list[int] = []

    def hand_over() -> None:
        reaper.later(lambda: gate.wait(30))
        for number in range(150):
            if number == 50:
                many.set()
            reaper.later(lambda number=number: closed.append(number))  # type: ignore[misc]

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(hand_over)
        try:
            assert many.wait(30)
            assert closed == []
        finally:
            gate.set()
        done.result(30)
    reaper.settle()
    assert closed == list(range(150))
