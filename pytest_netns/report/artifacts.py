"""Artifacts: a folder for a failed test, with all that is known of its labs (``--netns-artifacts``).

    state.json                               the labs, see ``snapshot``
    lab.svg                                  a drawing
    why.txt                                  the failure, and the sections of its report in their long form
    processes/<node>-<pid>-<program>.log     what background processes wrote
    captures/<node>-<interface>.pcapng       what the recorder has

If a test had several labs, each has a folder of its own in it.
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

#: Characters of a folder's name, without its number.
_LONGEST = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9_.,=+@-]+")


@dataclass(slots=True)
class Subject:
    """What there is to write about one lab.

    Attributes:
        name: of the lab.
        state: of its nodes.
        frames: recorded ones, in the order of time.
        remark: what is missing in them.
        way: the nodes that a packet of the failed probe was seen at, in order.
        ended: where it ended; None if that is not known.
    """

    name: str
    state: LabState
    frames: list[Frame] = field(default_factory=list)
    remark: str = ""
    way: Sequence[str] = ()
    ended: str | None = None


def folder_name(nodeid: str) -> str:
    """A readable name that any file system takes: ``tests.test_x.test_ping-1-2``.

    If something other than separators had to be replaced, or it was too long, a digest keeps it apart from others.
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
    """A new folder for a test. Nothing is overwritten: the second of a name ends in ``.2``.

    Raises:
        OSError: it cannot be made.
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
    """Write all; what is there already of the same test is replaced, and ``why.txt`` continued.

    Args:
        folder: of ``make_folder``.
        test: its node ID.
        phase: in which it failed: ``setup``, ``call``, ``teardown``; empty if it passed.
        subjects: its labs.
        why: for ``why.txt``; nothing if empty.

    Raises:
        OSError: the disk is full, ...
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
    """Safe file names, numbered where two are the same on a file system that ignores case."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        wanted, number = _safe(name), 1
        while (candidate := wanted if number == 1 else f"{wanted}.{number}").lower() in taken:
            number += 1
        taken.add(candidate.lower())
        found.append(candidate)
    return found
