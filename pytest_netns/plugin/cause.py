"""The cause that a failed test names, wherever it is told in short: pytest's summary, JUnit XML."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_netns.explain.diagnosis import Explanation
    from pytest_netns.lab.lab import Lab

#: How a cause begins that is said shorter where there is one line for all.
_RULE = re.compile(r"a netfilter rule on ('[^']+') (drops|takes) the request\b")

#: In the text of an error of ours that explains itself, or of a result: the cause, and who asked whom.
_CAUSE, _CURE = re.compile(r"^cause: (?!not found)(.*)$", re.MULTILINE), re.compile(r"^cure: (.*)$", re.MULTILINE)

_ASKED = re.compile(r"^<?\w+ (\S+ -> \S+?):?(?= )")

#: In a ProbeFailure: it says why itself.
_SAYS_WHY = re.compile("^(cause|the way|ruled out|nothing was sent)", re.MULTILINE)
_QUOTED = re.compile(r"'([^']+)'")


@dataclass(frozen=True, slots=True)
class Why:
    """The explanation of what a test has failed of, and who asked whom."""

    found: Explanation
    asked: str = ""

    @property
    def line(self) -> str:
        """All of it in one line; empty if the cause was not found."""
        return cause_line(self.asked, self.found.cause or "")


def cause_line(asked: str, cause: str) -> str:
    """Who asked whom, and why that failed, in one line."""
    shorter = _RULE.sub(lambda m: f"{m[1]} {m[2]} it", cause)
    return f"{asked}: {shorter}" if asked and cause else shorter


def sum_up(item: pytest.Item, report: pytest.TestReport, why: Why | None, error: BaseException | None) -> None:
    """The cause in the line of pytest's short summary, and as properties of JUnit XML."""
    from pytest_netns.errors import ProbeFailure

    found: dict[str, str] = {}
    line = ""
    if why is not None and why.found.cause is not None:
        line = why.line
        found = {"cause": why.found.cause, "node": why.found.node or "", "cure": "; ".join(why.found.cures)}
    elif isinstance(error, ProbeFailure) and (cause := _CAUSE.search(str(error))) is not None:
        asked = _ASKED.match(str(error))
        line = cause_line(asked[1] if asked is not None else "", cause[1])
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


def why_of(labs: list[Lab], error: BaseException | None, text: str) -> Why | None:
    """Why the probe failed that an error is about, or what the test's own sockets have tried."""
    from pytest_netns.errors import ProbeFailure
    from pytest_netns.plugin import attempts, relevance

    if error is None or (isinstance(error, ProbeFailure) and _SAYS_WHY.search(str(error))):
        return None
    # What a ProbeFailure is about has been asked by it; a program may be what it has waited for.
    probes = [] if isinstance(error, ProbeFailure) else [failure for lab in labs for failure in lab.failed]
    failure = relevance.newest(probes, error.__traceback__, text)
    if failure is not None:
        from pytest_netns.explain.results import explain_failure, words

        asked = _ASKED.match(words(failure.result))
        return Why(explain_failure(failure), asked[1] if asked is not None else "")
    found = attempts.explained(labs, error)
    if found is None and (programs := sys.modules.get("pytest_netns.plugin.programs")) is not None:
        found = programs.explained(labs, error)
    return (
        None
        if found is None
        else Why(
            found, found.observed.removeprefix("a program in ").partition(" tcp port")[0].partition(" udp port")[0]
        )
    )
