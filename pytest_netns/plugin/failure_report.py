"""What is told of a failed test: why a probe failed, the last packets, the labs; and the folder of its artifacts.

It is loaded in every run, so what it needs is imported when a test has failed, or when the run asked for recording.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pytest_netns.clock import wall_ns
from pytest_netns.events import Event, everywhere
from pytest_netns.plugin import session as _session
from pytest_netns.plugin.settings import Pcap, Settings
from pytest_netns.weak_list import WeakList

if TYPE_CHECKING:
    from pytest_netns.capture.frame import Frame
    from pytest_netns.explain.diagnosis import Explanation
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.nodes import Node
    from pytest_netns.report.artifacts import Subject
    from pytest_netns.report.recorder import Recorder
    from pytest_netns.report.snapshot import LabState
    from pytest_netns.stack.namespace import Namespace

#: The verbosity from which on everything is told as a whole: -vv.
_WHOLE = 2
#: Lines of all sections together in the short form, of an explanation in it, and of a lab at least.
_BUDGET, _WHY, _LAB = 35, 12, 10
#: Rows of packets in the short form, and in the long one.
_ROWS, _ALL_ROWS = 12, 200
#: How a cause begins that is said shorter where there is one line for all.
_RULE = re.compile(r"a netfilter rule on ('[^']+') (drops|takes) the request\b")
#: In the text of an error of ours that explains itself, or of a result: the cause, and who asked whom.
_CAUSE, _CURE = re.compile(r"^cause: (?!not found)(.*)$", re.MULTILINE), re.compile(r"^cure: (.*)$", re.MULTILINE)
_ASKED = re.compile(r"^<?\w+ (\S+ -> [^\s:]+)")
_QUOTED = re.compile(r"'([^']+)'")
#: What namespaces outside of labs are called together.
_LOOSE = "namespaces"


@dataclass(frozen=True, slots=True)
class _Section:
    """A section of a report, in both forms."""

    name: str
    short: str
    whole: str


@dataclass(slots=True)
class _Remains:
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
    why: _Why | None = None


@dataclass(frozen=True, slots=True)
class _Why:
    """The explanation of what a test has failed of, and who asked whom."""

    found: Explanation
    asked: str = ""

    @property
    def line(self) -> str:
        """All of it in one line; empty if the cause was not found."""
        return _line(self.asked, self.found.cause or "")


@dataclass(slots=True)
class _Seen:
    """A lab, or the namespaces outside of labs, as the test left it: before anything is asked again."""

    lab: Lab | None
    state: LabState
    frames: list[Frame]
    remark: str


@dataclass(slots=True)
class _Case:
    """A test that runs."""

    nodeid: str = ""
    begun: int = field(default_factory=wall_ns)
    labs: WeakList[Lab] = field(default_factory=WeakList)
    namespaces: WeakList[Namespace] = field(default_factory=WeakList)
    remains: list[_Remains] = field(default_factory=list)
    seen: list[_Seen] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    failed_in: str = ""
    folder: Path | None = None


def _line(asked: str, cause: str) -> str:
    shorter = _RULE.sub(lambda m: f"{m[1]} {m[2]} it", cause)
    return f"{asked}: {shorter}" if asked and cause else shorter


class _Watch:
    """Knows the labs of one session, which of them are the running test's, and what was recorded in them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.case = _Case()
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
        self.case = _Case(nodeid)
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
        from pytest_netns.topology.events import LabClosing, LabFailing, NodeAdded

        if isinstance(event, NodeAdded):
            self._added(cast("Node", event.node))
        elif isinstance(event, LabFailing):
            # What the test fails with, perhaps: the lab is still as it was.
            if isinstance(event.error, Exception | pytest.fail.Exception):
                self._keep(cast("Lab", event.network), failing=True, error=event.error)
        elif isinstance(event, LabClosing):
            self._closing(cast("Lab", event.network))

    def _added(self, node: Node) -> None:
        lab = cast("Lab", node.lab)
        self.labs.add(lab)
        self.case.labs.add(lab)
        from pytest_netns.plugin import attempts  # not at start-up: most runs need no network

        attempts.listen()
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
            remains = _Remains(lab, snapshot(lab), failing)
            self.case.remains.append(remains)
            if error is not None:  # now, or never
                remains.why = _why([lab], error, "")
        except Exception as trouble:  # told if the test fails; the lab must close none the less
            self.case.troubles.append(f"lab {lab.name!r} could not be looked at: {trouble!r}")


_KEY = pytest.StashKey[_Watch]()


def start(config: pytest.Config) -> None:
    """Begin to watch the labs of a session."""
    watch = config.stash[_KEY] = _Watch(_session.of(config).settings)
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


def sweep(config: pytest.Config) -> None:
    """A test is torn down: the recorder lets go of its namespaces, before anybody looks for what keeps them."""
    config.stash[_KEY].sweep()


def tell(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Add to the report of a failed test what answers the next question, and write its artifacts.

    The sections are part of the failure's own text where that can have some, so that they are in JUnit XML too.
    """
    watch = item.config.stash[_KEY]
    if watch.case.nodeid != item.nodeid:  # the set-up of another plugin has failed before ours began
        watch.begin(item.nodeid)
    if report.failed:
        error = call.excinfo.value if call.excinfo is not None else None
        watch.case.failed_in = watch.case.failed_in or report.when or ""
        teller = _Teller(item, watch)
        sections = teller.sections(error, report)
        whole = item.config.get_verbosity() >= _WHOLE
        add = getattr(report.longrepr, "addsection", None)
        for section in sections:
            if add is not None:
                add(section.name, section.whole if whole else section.short)
            else:
                report.sections.append((section.name, section.whole if whole else section.short))
        _sum_up(item, report, teller.why, error)
    elif report.when == "teardown" and watch.settings.pcap is Pcap.ALL:
        trouble = _Teller(item, watch).write("", "")
        if trouble:
            report.sections.append(("netns: artifacts", trouble))
    if report.when == "teardown":  # its labs may go
        watch.case = _Case()


def _sum_up(item: pytest.Item, report: pytest.TestReport, why: _Why | None, error: BaseException | None) -> None:
    """The cause in the line of pytest's short summary, and as properties of JUnit XML."""
    from pytest_netns.errors import ProbeFailure

    found: dict[str, str] = {}
    line = ""
    if why is not None and why.found.cause is not None:
        line = why.line
        found = {"cause": why.found.cause, "node": why.found.node or "", "cure": "; ".join(why.found.cures)}
    elif isinstance(error, ProbeFailure) and (cause := _CAUSE.search(str(error))) is not None:
        asked = _ASKED.match(str(error))
        line = _line(asked[1] if asked is not None else "", cause[1])
        node = _QUOTED.search(cause[1])
        cures = "; ".join(_CURE.findall(str(error)))
        found = {"cause": cause[1], "node": node[1] if node is not None else "", "cure": cures}
    if not found:
        return
    properties = [(f"netns_{name}", value) for name, value in found.items() if value]
    item.user_properties += properties
    report.user_properties += properties
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = f"{line}\n{crash.message}"


def _why(labs: list[Lab], error: BaseException | None, text: str) -> _Why | None:
    """Why the probe failed that an error is about, or what the test's own sockets have tried."""
    from pytest_netns.errors import ProbeFailure
    from pytest_netns.plugin import attempts, relevance

    if error is None or isinstance(error, ProbeFailure):
        return None  # ProbeFailure says why itself
    probes = [failure for lab in labs for failure in lab.failed]
    failure = relevance.newest(probes, error.__traceback__, text)
    if failure is not None:
        from pytest_netns.explain.results import explain_failure, words

        asked = _ASKED.match(words(failure.result))
        return _Why(explain_failure(failure), asked[1] if asked is not None else "")
    found = attempts.explained(labs, error)
    return None if found is None else _Why(found, found.observed.partition(" tcp port")[0].partition(" udp port")[0])


class _Teller:
    """Tells of one failure."""

    why: _Why | None = None

    def __init__(self, item: pytest.Item, watch: _Watch) -> None:
        self._item = item
        self._watch = watch
        self._case = watch.case

    def sections(self, error: BaseException | None, report: pytest.TestReport) -> list[_Section]:
        """All sections, the answer to the next question first. Nothing is raised."""
        told: list[_Section] = []
        if report.when != "teardown":
            text = report.longreprtext
            told += self._guarded(self._look)
            packets = self._guarded(self._packets)
            told += self._guarded(lambda: self._explanation(error, text)) + packets
            used = sum(section.short.count("\n") + 2 for section in told)
            told += self._guarded(lambda: self._labs_in_text(max(_LAB, _BUDGET - used)))
        told += [_Section("netns", trouble, trouble) for trouble in self._case.troubles]
        if self._watch.settings.artifacts is not None:
            why = [f"{' ' + section.name + ' ':-^80}\n{section.whole}" for section in told]
            words = self.write(report.when or "", "\n\n".join([report.longreprtext, *why]))
            told.append(_Section("netns: artifacts", words, words))
        return told

    def _guarded(self, tell_: Callable[[], list[_Section]]) -> list[_Section]:
        try:
            return tell_()
        except Exception as trouble:  # whatever it is, it must not take the place of the failure that is reported
            words = f"telling more failed: {trouble!r}"
            return [_Section("netns", words, words)]

    # ------------------------------------------------------------- the labs

    def _labs(self) -> list[Lab]:
        """The test's labs that are open: what its fixtures gave it, and what was made since it began."""
        if "pytest_netns.lab.lab" not in sys.modules:  # nobody has made one
            return []
        from pytest_netns.lab.lab import Lab

        found: dict[int, Lab] = {}
        for value in getattr(self._item, "funcargs", {}).values():
            each = value[0] if isinstance(value, tuple) and value else value
            # Only what is there without asking: a proxy's __getattr__ may do anything.
            lab = each if isinstance(each, Lab) else inspect.getattr_static(each, "lab", None) and each.lab
            if isinstance(lab, Lab):
                found[id(lab)] = lab
        wide = self._watch.labs if "lab_factory" in getattr(self._item, "fixturenames", ()) else ()
        for lab in (*self._case.labs, *wide):
            found[id(lab)] = lab
        return sorted((lab for lab in found.values() if not lab.closed), key=lambda lab: lab.name)

    def _namespaces(self) -> list[Namespace]:
        wide = self._watch.namespaces if "netns_factory" in getattr(self._item, "fixturenames", ()) else ()
        found = {id(each): each for each in (*self._case.namespaces, *wide)}
        return sorted((each for each in found.values() if not each.closed), key=lambda each: each.name)

    def _look(self) -> list[_Section]:
        """Look at all labs, open ones and those that the failure has closed. Tells nothing."""
        if "pytest_netns.stack.namespace" not in sys.modules:  # nothing of ours was ever used
            return []
        from pytest_netns.report.snapshot import snapshot, snapshot_of

        self._case.seen = [self._seen(lab, snapshot(lab)) for lab in self._labs() if len(lab)]
        self._case.seen += [self._seen(each.lab, each.state) for each in self._case.remains if each.failing]
        loose = self._namespaces()
        if loose:
            self._case.seen.append(self._seen(None, snapshot_of(_LOOSE, loose)))
        return []

    def _seen(self, lab: Lab | None, state: LabState) -> _Seen:
        recorder = self._watch.recorder
        if recorder is None:
            return _Seen(lab, state, [], "")
        return _Seen(lab, state, recorder.frames(lab), recorder.remark(lab))

    def _labs_in_text(self, most: int) -> list[_Section]:
        if not self._case.seen:
            return []
        from pytest_netns.report.state import is_bare, text

        told = [each.state for each in self._case.seen if each.lab is not None or not is_bare(each.state)]
        share = max(_LAB, most // max(1, len(told)))
        return [_Section(f"netns: {s['name']}", text(s, most=share), text(s, whole=True)) for s in told]

    # -------------------------------------------------------------- answers

    def _explanation(self, error: BaseException | None, text: str) -> list[_Section]:
        if error is None:
            return []
        kept = next((each.why for each in self._case.remains if each.failing and each.why is not None), None)
        self.why = kept or _why(self._labs(), error, text)
        if self.why is None:
            return []
        whole = str(self.why.found)
        return [_Section("netns: why", _cut(whole, max(_WHY, self.why.found.shortest)), whole)]

    def _packets(self) -> list[_Section]:
        found = []
        for each in self._case.seen:
            if each.lab is not None and (each.frames or each.lab.captures):
                from pytest_netns.report.packets import captured, recorded

                short, whole = (
                    recorded(each.lab, each.frames, rows) or captured(each.lab.captures, self._case.begun, rows)
                    for rows in (_ROWS, _ALL_ROWS)
                )
                found += [_Section("netns: packets", short, whole)] if short else []
        return found

    # ------------------------------------------------------------ artifacts

    def write(self, phase: str, why: str) -> str:
        """Write the artifacts, if there is anything; returns what the report says of them. Nothing is raised."""
        directory = self._watch.settings.artifacts
        if directory is None:
            return ""
        try:
            from pytest_netns.report import artifacts

            if not self._case.seen:  # it fails in its teardown, or has passed: wider labs are open still
                self._look()
            subjects = list(self._subjects())
            if not phase and (self._case.folder is not None or not any(subject.frames for subject in subjects)):
                return ""
            if self._case.folder is None:
                self._case.folder = artifacts.make_folder(directory, self._case.nodeid)
            artifacts.write(self._case.folder, self._case.nodeid, self._case.failed_in, subjects, why)
        except Exception as trouble:  # whatever it is, it must not take the place of the failure that is reported
            return f"could not be written to {self._case.folder or directory}: {trouble}"
        return str(self._case.folder) if phase else ""

    def _subjects(self) -> Iterable[Subject]:
        from pytest_netns.report.artifacts import Subject

        known = [each.lab for each in self._case.seen]
        closed = [self._seen(each.lab, each.state) for each in self._case.remains if each.lab not in known]
        for each in (*self._case.seen, *closed):
            yield Subject(each.state["name"], each.state, each.frames, each.remark)
        if self._watch.recorder is not None and None not in known:
            gone = self._seen(None, {"name": _LOOSE, "faults": [], "nodes": [], "cables": []})
            if gone.frames:
                yield Subject(_LOOSE, gone.state, gone.frames, gone.remark)


def _cut(text: str, most: int) -> str:
    lines = text.splitlines()
    if len(lines) <= most:
        return text
    return "\n".join([*lines[: most - 1], f"... {len(lines) - most + 1} more lines; see all with -vv"])
