"""Artifacts: a folder for a failed test with the state of its labs (``--netns-artifacts``).

    state.json                               the labs, see ``snapshot``
    lab.svg                                  a drawing
    why.txt                                  the failure, and the sections of its report in their long form
    processes/<node>-<pid>-<program>.log     output of background processes
    captures/<node>-<interface>.pcapng       recorded packets

If a test had several labs, each has its own subfolder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_netns.capture import pcapng
from pytest_netns.capture.frame import Frame
from pytest_netns.report.snapshot import LabState
from pytest_netns.report.svg import svg

#: Maximum length of a folder's name in characters, without its number.
_LONGEST = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9_.,=+@-]+")


@dataclass(slots=True)
class Subject:
    """What is written about one lab.

    Attributes:
        name: name of the lab.
        state: state of its nodes.
        frames: the recorded frames, oldest first.
        remark: what is missing from the frames.
        way: the nodes that saw a packet of the failed probe, in order.
        ended: the node where that packet ended; None if that is not known.
    """

    name: str
    state: LabState
    frames: list[Frame] = field(default_factory=list)
    remark: str = ""
    way: Sequence[str] = ()
    ended: str | None = None


def folder_name(nodeid: str) -> str:
    """A readable name that is valid on any file system: ``tests.test_x.test_ping-1-2``.

    If a character other than a separator had to be replaced, or the name was too long, a digest keeps it unique.
    """
    path, colons, rest = nodeid.partition("::")
    path = path.removesuffix(".py").replace("/", ".")
    plain, bracket, parameters = f"{path}{colons}{rest}".replace("::", ".").partition("[")
    readable = plain + (f"-{parameters.removesuffix(']')}" if bracket else "")
    safe = _UNSAFE.sub("-", readable).strip(".-") or "test"
    if safe == readable and len(safe) <= _LONGEST:
        return safe
    digest = hashlib.blake2b(nodeid.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{safe[:_LONGEST]}-{digest}"


def make_folder(directory: Path, nodeid: str) -> Path:
    """Create a folder for a test. Nothing is overwritten: the second folder of the same name ends in ``.2``.

    Raises:
        OSError: the folder cannot be created.
    """
    directory.mkdir(parents=True, exist_ok=True)
    name, number = folder_name(nodeid), 1
    while True:
        folder = directory / (name if number == 1 else f"{name}.{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def write(folder: Path, test: str, phase: str, subjects: Sequence[Subject], why: str) -> None:
    """Write all artifacts of a test. Files of an earlier phase are replaced; ``why.txt`` is appended to.

    Args:
        folder: the folder from ``make_folder``.
        test: node ID of the test.
        phase: the phase that failed: ``setup``, ``call``, ``teardown``; empty if the test passed.
        subjects: the labs of the test.
        why: text for ``why.txt``; empty: nothing is added.

    Raises:
        OSError: a file cannot be written, e.g. because the disk is full.
    """
    if why:
        with (folder / "why.txt").open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{test}, in {phase}\n\n{why.rstrip()}\n\n")
    for subject, name in zip(subjects, _unique(subject.name for subject in subjects), strict=True):
        place = folder / name if len(subjects) > 1 else folder
        place.mkdir(exist_ok=True)
        (place / "lab.svg").write_text(svg(subject.state, way=subject.way, ended=subject.ended), encoding="utf-8")
        _write_state(place, test, phase, subject.state)
        _write_frames(place, subject)


def _write_state(place: Path, test: str, phase: str, state: LabState) -> None:
    nodes: list[dict[str, object]] = []
    for node in state["nodes"]:
        processes: list[dict[str, object]] = []
        for process in node["processes"]:
            program = os.path.basename(process["argv"][0])
            log = place / "processes" / f"{_safe(node['name'])}-{process['pid']}-{_safe(program)}.log"
            log.parent.mkdir(exist_ok=True)
            log.write_text(process["output"], encoding="utf-8", errors="replace")
            told = {key: value for key, value in process.items() if key != "output"}
            processes.append({**told, "log": str(log.relative_to(place))})
        nodes.append({**node, "processes": processes})
    document = {"test": test, "failed_in": phase or None, "lab": {**state, "nodes": nodes}}
    (place / "state.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write_frames(place: Path, subject: Subject) -> None:
    by_interface: dict[tuple[str, str], list[Frame]] = {}
    for frame in subject.frames:
        by_interface.setdefault((frame.node, frame.interface), []).append(frame)
    names = _unique(f"{node}-{interface}" for node, interface in by_interface)
    for ((node, interface), frames), name in zip(by_interface.items(), names, strict=True):
        path = place / "captures" / f"{name}.pcapng"
        path.parent.mkdir(exist_ok=True)
        comment = f"recorded on {node}:{interface} of lab {subject.name}"
        with path.open("wb") as file:
            pcapng.write(file, frames, comment + (f"; {subject.remark}" if subject.remark else ""))


def _safe(name: str) -> str:
    return _UNSAFE.sub("-", name).strip(".")[:80] or "-"


def _unique(names: Iterable[str]) -> list[str]:
    """Safe file names, numbered where two would clash on a case-insensitive file system."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        wanted, number = _safe(name), 1
        while (candidate := wanted if number == 1 else f"{wanted}.{number}").lower() in taken:
            number += 1
        taken.add(candidate.lower())
        found.append(candidate)
    return found
