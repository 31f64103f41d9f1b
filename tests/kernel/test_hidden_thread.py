from __future__ import annotations

import os
import sys
import threading

import pytest
from slowness import patient

from pytest_netns.kernel.hidden_thread import HiddenThread


def test_a_hidden_thread_is_not_listed_and_is_gone_when_it_is_awaited() -> None:
    listed = threading.enumerate()
    there, go_on = threading.Event(), threading.Event()

    def work() -> None:
        there.set()
        go_on.wait(patient(20))

    before = len(os.listdir("/proc/self/task"))
    thread = HiddenThread(work)
    assert there.wait(patient(20))
    assert threading.enumerate() == listed
    assert thread.is_alive()
    assert not thread.join(0.0)
    go_on.set()
    assert thread.await_gone(patient(20))
    assert not thread.is_alive()
    assert len(os.listdir("/proc/self/task")) == before


def test_what_a_hidden_thread_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append((what.exc_value, what.err_msg)))
    error = LookupError("lemon")

    def fail() -> None:
        raise error

    HiddenThread(fail).join(patient(20))
    assert told == [(error, "Exception ignored in a thread of pytest-netns")]
