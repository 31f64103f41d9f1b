"""Which labs of a session are the running test's, and how they were when they closed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pytest_netns.clock import wall_ns
from pytest_netns.events import Event, ProgramStarting, everywhere
from pytest_netns.plugin import session as _session
from pytest_netns.plugin.cause import Why, why_of
from pytest_netns.plugin.settings import Pcap, Settings
from pytest_netns.weak_list import WeakList

if TYPE_CHECKING:
    from pytest_netns.capture.frame import Frame
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.nodes import Node
    from pytest_netns.report.recorder import Recorder
    from pytest_netns.report.snapshot import LabState
    from pytest_netns.stack.namespace import Namespace


@dataclass(slots=True)
class Remains:
    """A lab that has closed, or is about to, as it was.

    Attributes:
        lab: which.
        state: how it was.
        failing: an exception has closed it.
        why: of the probe that this was about, which cannot be asked again.
    """

    lab: Lab
    state: LabState
    failing: bool
    why: Why | None = None


@dataclass(slots=True)
class Seen:
    """A lab, or the namespaces outside of labs, as the test left it: before anything is asked again."""

    lab: Lab | None
    state: LabState
    frames: list[Frame]
    remark: str


@dataclass(slots=True)
class Case:
    """A test that runs."""

    nodeid: str = ""
    begun: int = field(default_factory=wall_ns)
    labs: WeakList[Lab] = field(default_factory=WeakList)
    namespaces: WeakList[Namespace] = field(default_factory=WeakList)
    remains: list[Remains] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    failed_in: str = ""
    folder: Path | None = None


class Monitor:
    """Knows the labs of one session, which of them are the running test's, and what was recorded in them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.case: Case = Case()
        self.labs: WeakList[Lab] = WeakList()
        self.namespaces: WeakList[Namespace] = WeakList()
        self._recorder: Recorder | None = None
        self.unsubscribe: Callable[[], None] | None = None

    @property
    def recorder(self) -> Recorder | None:
        """None unless the run asked for one."""
        if self._recorder is None and self.settings.pcap is not Pcap.OFF:
            from pytest_netns.report.recorder import Recorder

            self._recorder = Recorder()
        return self._recorder

    def begin(self, nodeid: str) -> None:
        """A test begins."""
        self.case = Case(nodeid)
        if (programs := sys.modules.get("pytest_netns.plugin.programs")) is not None:
            programs.begin()
        if (attempts := sys.modules.get("pytest_netns.plugin.attempts")) is not None:
            attempts.begin()
        if self._recorder is not None:
            self._recorder.begin()

    def sweep(self) -> None:
        """Namespaces may have closed: nothing holds them any longer."""
        if self._recorder is not None:
            self._recorder.sweep()

    def close(self) -> None:
        """The session ends."""
        if self._recorder is not None:
            self._recorder.close()

    # ------------------------------------------------------- what it is told

    def told(self, event: Event) -> None:
        """Something has happened in a lab, which has imported the module of these events."""
        from pytest_netns.topology.network_events import LabClosing, LabFailing, NodeAdded

        if isinstance(event, NodeAdded):
            self._added(cast("Node", event.node))
        elif isinstance(event, LabFailing):
            # What the test fails with, perhaps: the lab is still as it was.
            if isinstance(event.error, Exception | pytest.fail.Exception):
                self._keep(cast("Lab", event.network), failing=True, error=event.error)
        elif isinstance(event, ProgramStarting):
            from pytest_netns.plugin import programs

            programs.starting(event.namespace)
        elif isinstance(event, LabClosing):
            self._closing(cast("Lab", event.network))

    def _added(self, node: Node) -> None:
        lab = cast("Lab", node.lab)
        self.labs.add(lab)
        self.case.labs.add(lab)
        from pytest_netns.plugin import attempts  # not at start-up: most runs need no network

        attempts.listen(lab)
        if (recorder := self.recorder) is not None:
            recorder.listen(node, lab)

    def met(self, namespace: Namespace) -> None:
        """A namespace outside of labs was made."""
        self.namespaces.add(namespace)
        self.case.namespaces.add(namespace)
        if (recorder := self.recorder) is not None:
            recorder.listen(namespace)

    def _closing(self, lab: Lab) -> None:
        """If the test fails later, its artifacts need what is there now."""
        if self.settings.artifacts is not None:
            self._keep(lab, failing=False)
        if self._recorder is not None:
            self._recorder.release(lab)

    def _keep(self, lab: Lab, failing: bool, error: BaseException | None = None) -> None:
        if lab.closed or any(remains.lab is lab for remains in self.case.remains):
            return
        from pytest_netns.report.snapshot import snapshot

        try:
            remains = Remains(lab, snapshot(lab), failing)
            self.case.remains.append(remains)
            if error is not None:  # now, or never
                remains.why = why_of([lab], error, "")
        except Exception as trouble:  # told if the test fails; the lab must close none the less
            self.case.troubles.append(f"lab {lab.name!r} could not be looked at: {trouble!r}")


_KEY = pytest.StashKey[Monitor]()


def of(config: pytest.Config) -> Monitor:
    """That of a session."""
    return config.stash[_KEY]


def start(config: pytest.Config) -> None:
    """Begin to watch the labs of a session."""
    watch = config.stash[_KEY] = Monitor(_session.of(config).settings)
    watch.unsubscribe = everywhere.subscribe(watch.told)


def stop(config: pytest.Config) -> None:
    """The session ends."""
    watch = config.stash.get(_KEY, None)
    if watch is not None and watch.unsubscribe is not None:
        watch.unsubscribe()
        watch.unsubscribe = None
        watch.close()


def begin(item: pytest.Item) -> None:
    """A test begins, or begins anew."""
    item.config.stash[_KEY].begin(item.nodeid)


def met(config: pytest.Config, namespace: Namespace) -> None:
    """The running test was given a namespace outside of labs."""
    config.stash[_KEY].met(namespace)


def met_again(config: pytest.Config, namespace: Namespace) -> None:
    """The running test shares a namespace with others, which is known."""
    config.stash[_KEY].case.namespaces.add(namespace)


def sweep(config: pytest.Config) -> None:
    """A test is torn down: the recorder lets go of its namespaces, before anybody looks for what keeps them."""
    config.stash[_KEY].sweep()
