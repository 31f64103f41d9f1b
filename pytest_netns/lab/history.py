"""History: what a lab remembers of its probes and captures, for explanations and reports."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, cast

from pytest_netns.events import Event, Events
from pytest_netns.topology.failure import Failure
from pytest_netns.topology.network import Network
from pytest_netns.topology.network_events import CaptureOpened, ProbeFailed
from pytest_netns.weak_list import WeakList

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture

#: All that somebody has still: which of them a result is from is asked when it is to be explained.
labs: WeakList[Network] = WeakList()


class History:
    """That of one lab.

    Args:
        events: of the lab.

    Attributes:
        failed: the last 50 probes that failed, and traces, to be explained.
    """

    def __init__(self, events: Events) -> None:
        self.failed: deque[Failure] = deque(maxlen=50)
        self._captures: deque[weakref.ref[Capture]] = deque(maxlen=8)
        self._begun: WeakList[Capture] = WeakList()
        events.subscribe(self._remember)

    def _remember(self, event: Event) -> None:
        if isinstance(event, ProbeFailed):
            self.failed.append(event.failure)
        elif isinstance(event, CaptureOpened):
            capture = cast("Capture", event.capture)
            self._captures.append(weakref.ref(capture))  # without keeping it
            self._begun.add(capture)

    @property
    def captures(self) -> list[Capture]:
        """The last captures that somebody still has, oldest first."""
        known = [capture for reference in self._captures if (capture := reference()) is not None]
        return [capture for capture in known if not capture.internal]

    def stop_captures(self) -> list[Exception]:
        """Stop those that nobody has stopped, which would keep the namespaces alive; returns what went wrong."""
        errors: list[Exception] = []
        for capture in self._begun:
            try:
                capture.stop()
            except Exception as error:  # a warning of lost frames, where warnings are errors; raised by close()
                errors.append(error)
        return errors
