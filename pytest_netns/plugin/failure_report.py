"""What is told of a failed test: why a probe failed, the last packets, the labs; and the folder of its artifacts.

It is loaded in every run, so what it needs is imported when a test has failed, or when the run asked for recording.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from pytest_netns.plugin import lab_monitor
from pytest_netns.plugin.cause import Why, sum_up, why_of
from pytest_netns.plugin.lab_monitor import Monitor, Seen
from pytest_netns.plugin.settings import Pcap

if TYPE_CHECKING:
    from pytest_netns.capture.frame import Frame
    from pytest_netns.explain.diagnosis import Explanation
    from pytest_netns.lab.lab import Lab
    from pytest_netns.plugin.attachments import Attachment
    from pytest_netns.report.artifacts import Subject
    from pytest_netns.report.snapshot import LabState
    from pytest_netns.stack.namespace import Namespace

#: The verbosity from which on everything is told as a whole: -vv.
_WHOLE = 2

#: Lines of all sections together in the short form, of an explanation in it, and of a lab at least.
_BUDGET, _WHY, _LAB = 35, 12, 10

#: Rows of packets in the short form, and in the long one.
_ROWS, _ALL_ROWS = 12, 200

#: What namespaces outside of labs are called together.
_LOOSE = "namespaces"


@dataclass(frozen=True, slots=True)
class _Section:
    """A section of a report, in both forms."""

    name: str
    short: str
    whole: str


def tell(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Add to the report of a failed test what answers the next question, and write its artifacts.

    The sections are part of the failure's own text where that can have some, so that they are in JUnit XML too.
    """
    watch = lab_monitor.of(item.config)
    if watch.case.nodeid != item.nodeid:  # the set-up of another plugin has failed before ours began
        watch.begin(item.nodeid)
    if report.failed:
        error = call.excinfo.value if call.excinfo is not None else None
        watch.case.failed_in = watch.case.failed_in or report.when or ""
        teller = FailureReport(item, watch)
        sections = teller.sections(error, report)
        whole = item.config.get_verbosity() >= _WHOLE
        add = getattr(report.longrepr, "addsection", None)
        for section in sections:
            if add is not None:
                add(section.name, section.whole if whole else section.short)
            else:
                report.sections.append((section.name, section.whole if whole else section.short))
        sum_up(item, report, teller.why, error)
        teller.attach(report, sections)
    elif report.when == "teardown" and watch.settings.pcap is Pcap.ALL:
        trouble = FailureReport(item, watch).write("", "")
        if trouble:
            report.sections.append(("netns: artifacts", trouble))
    if report.when == "teardown":  # its labs may go
        watch.case = lab_monitor.Case()


class FailureReport:
    """Tells of one failure."""

    why: Why | None = None
    _error: BaseException | None = None

    def __init__(self, item: pytest.Item, watch: Monitor) -> None:
        self._item = item
        self._watch = watch
        self._case = watch.case

    def sections(self, error: BaseException | None, report: pytest.TestReport) -> list[_Section]:
        """All sections, the answer to the next question first. Nothing is raised."""
        told: list[_Section] = []
        self._error = error
        if report.when != "teardown":
            text = report.longreprtext
            told += self._guarded(lambda: self._refused(error, text))
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

    def attach(self, report: pytest.TestReport, sections: Iterable[_Section]) -> None:
        """Give all of it to the reports of other plugins, if any is written. Nothing is raised."""
        from pytest_netns.plugin import attachments

        if not attachments.wanted(self._item.config):
            return
        try:
            text = "\n\n".join(f"{section.name}\n{section.whole}" for section in sections)
            several = [attachments.Attachment("netns", "text", text.encode())] if text else []
            for subject in self._subjects():
                several += self._pictures(subject)
            attachments.attach(self._item.config, report, several)
        except Exception as trouble:  # whatever it is, it must not take the place of the failure that is reported
            report.sections.append(("netns", f"attaching to a report failed: {trouble!r}"))

    def _pictures(self, subject: Subject) -> Iterable[Attachment]:
        from pytest_netns.plugin import attachments
        from pytest_netns.report.svg import svg

        picture = svg(subject.state, way=subject.way, ended=subject.ended)
        yield attachments.Attachment(f"{subject.name}.svg", "svg", picture.encode())
        if subject.frames:
            yield attachments.recording(subject.name, subject.frames)

    def _refused(self, error: BaseException | None, text: str) -> list[_Section]:
        from pytest_netns.plugin import isolate, refused

        if not isolate.is_inside(self._item):
            return []
        words = refused.explanation(self._item.config, error, text)
        return [_Section("netns: refused", words, words)] if words else []

    def _found(self) -> Explanation | None:
        """The explanation of what the test has failed of, where there is one."""
        if self.why is not None:
            return self.why.found
        if not isinstance(self._error, AssertionError) or "pytest_netns.explain.explain" not in sys.modules:
            return None
        from pytest_netns.explain.explain import recent

        text = str(self._error)
        return next((each for each in reversed(recent) if str(each) in text), None)

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

    def _seen(self, lab: Lab | None, state: LabState) -> Seen:
        recorder = self._watch.recorder
        if recorder is None:
            return Seen(lab, state, [], "")
        return Seen(lab, state, recorder.frames(lab), recorder.remark(lab))

    def _labs_in_text(self, most: int) -> list[_Section]:
        if not self._case.seen:
            return []
        from pytest_netns.report.state import is_bare, text

        told = [each.state for each in self._case.seen if each.lab is not None or not is_bare(each.state)]
        share = max(_LAB, most // max(1, len(told)))
        blamed = self.why.found.node if self.why is not None and self.why.found.cause is not None else None
        return [
            _Section(f"netns: {s['name']}", text(s, most=share, about=_in(s, blamed)), text(s, whole=True))
            for s in told
        ]

    # -------------------------------------------------------------- answers

    def _explanation(self, error: BaseException | None, text: str) -> list[_Section]:
        if error is None:
            return []
        from pytest_netns.errors import ProbeFailure

        if isinstance(error, ProbeFailure) and error._unexpected is not None:
            return self._passage(*error._unexpected)
        kept = next((each.why for each in self._case.remains if each.failing and each.why is not None), None)
        self.why = kept or why_of(self._labs(), error, text)
        if self.why is None:
            return []
        whole = str(self.why.found)
        return [_Section("netns: why", _cut(whole, max(_WHY, self.why.found.shortest)), whole)]

    def _passage(self, frame: object, capture: object) -> list[_Section]:
        """Which way a packet took that was not to come, and which rules let it pass."""
        from pytest_netns.explain.passage import passage, question_about

        for lab in self._labs():
            if capture in lab.captures and (question := question_about(lab, cast("Frame", frame))) is not None:
                words = f"asked again, {passage(question)}"
                return [_Section("netns: why", words, words)]
        return []

    def _packets(self) -> list[_Section]:
        found = []
        for each in self._case.seen:
            if each.lab is not None and (each.frames or each.lab.captures):
                from pytest_netns.report.recorded_packets import captured, recorded

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
        found = self._found()
        way, ended = (found.way, found.node) if found is not None else ([], None)
        for each in (*self._case.seen, *closed):
            yield Subject(each.state["name"], each.state, each.frames, each.remark, way, ended)
        if self._watch.recorder is not None and None not in known:
            gone = self._seen(None, {"name": _LOOSE, "faults": [], "nodes": [], "cables": []})
            if gone.frames:
                yield Subject(_LOOSE, gone.state, gone.frames, gone.remark)


def _in(state: LabState, name: str | None) -> str | None:
    """A name, if a node of a lab has it."""
    return name if any(node["name"] == name for node in state["nodes"]) else None


def _cut(text: str, most: int) -> str:
    lines = text.splitlines()
    if len(lines) <= most:
        return text
    return "\n".join([*lines[: most - 1], f"... {len(lines) - most + 1} more lines; see all with -vv"])
