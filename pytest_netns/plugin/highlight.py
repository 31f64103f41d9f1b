"""Highlight: the cause of a failure in bold, where pytest writes in colours (--color, NO_COLOR, a terminal)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_SECTION = "netns: why"
_CAUSE = "cause: "


def highlight(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Highlight the reports that are about to be shown. JUnit XML and other plugins' reports are written already."""
    writer = config.get_terminal_writer()
    if not writer.hasmarkup:
        return
    for kind in ("failed", "error"):
        for report in terminalreporter.stats.get(kind, []):
            sections = getattr(report.longrepr, "sections", None)
            if sections is not None:
                sections[:] = [
                    (name, _bold(writer.markup, content) if name == _SECTION else content, mark)
                    for name, content, mark in sections
                ]


def _bold(markup: Callable[..., str], content: str) -> str:
    return "\n".join(markup(line, bold=True) if line.startswith(_CAUSE) else line for line in content.splitlines())
