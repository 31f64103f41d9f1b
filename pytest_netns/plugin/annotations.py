"""Annotations: workflow commands of GitHub Actions, which it shows at the line of the test.

https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import os

import pytest


def annotate(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one for each failed test whose cause is known."""
    root = os.environ.get("GITHUB_WORKSPACE") or os.getcwd()
    for kind in ("failed", "error"):
        for report in terminalreporter.stats.get(kind, []):
            known = dict(getattr(report, "user_properties", ()))
            if "netns_cause" not in known:
                continue
            path, line = _place(report, str(terminalreporter.config.rootpath))
            cure = f"\ncure: {known['netns_cure']}" if "netns_cure" in known else ""
            file = os.path.relpath(path, root) if os.path.isabs(path) else path
            terminalreporter.write_line(
                f"::error file={_escaped(file, ',:')},line={line},title={_escaped(report.nodeid, ',:')}::"
                f"{_escaped(known['netns_cause'] + cure)}"
            )


def _place(report: pytest.TestReport, root: str) -> tuple[str, int]:
    """File and line: where it failed within the test's file, or else where the test begins."""
    file, line, _ = report.location
    path = os.path.join(root, file)
    for entry in getattr(getattr(report.longrepr, "reprtraceback", None), "reprentries", ()):
        place = getattr(entry, "reprfileloc", None)
        if place is not None and os.path.join(root, place.path) == path:
            line = place.lineno - 1
    return path, (line or 0) + 1


def _escaped(text: str, more: str = "") -> str:
    for sign in ("%", "\r", "\n", *more):
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
