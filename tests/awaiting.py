"""Awaiting what happens in the background."""

from __future__ import annotations

import threading

from slowness import patient

from pytest_netns.kernel import reaper


def await_reaper() -> None:
    """Until everything is closed that is closed later."""
    done = threading.Event()
    reaper.later(done.set)
    assert done.wait(patient(20))
