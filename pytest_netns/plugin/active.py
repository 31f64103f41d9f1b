"""The hooks that a session has as soon as anything of ours is used in it. See ``hooks.activate``."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator

import pytest

from pytest_netns.plugin import failure_report as _failed
from pytest_netns.plugin import isolate as _isolate
from pytest_netns.plugin import lab_monitor as _labs
from pytest_netns.plugin import leaks as _leaks
from pytest_netns.plugin import markers as _markers
from pytest_netns.plugin import session as _session


def start(config: pytest.Config, running: pytest.Item | None) -> None:
    """Register these hooks.

    Args:
        config: of the session.
        running: the test that runs, if one does: its set-up has begun.
    """
    _labs.start(config)
    config.pluginmanager.register(sys.modules[__name__], "netns-active")
    _leaks.register(config)  # last, so that it looks when all others have closed what is theirs
    if running is not None:
        _labs.begin(running)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of what watches the labs."""
    _labs.stop(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, tests that need networks where none can be created; put those that want it into a namespace."""
    _labs.begin(item)
    if _session.needs_networks(item):
        _markers.check([item])
        _session.require_access(item.config)
        _markers.skip_unless_there(item)
        _isolate.enter(item)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Fixtures of wider scope than one test do not share its namespace."""
    return (yield from _isolate.around_fixture(fixturedef, request))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Bring the main thread home if a test left it inside a namespace, and say so."""
    try:
        return (yield)
    finally:
        if _session.needs_networks(item):
            try:
                _isolate.leave(item)
            finally:
                _labs.sweep(item.config)
                _session.restore_namespaces()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under a failed test, say why a ping failed that it asserted, show its lab, and write its artifacts."""
    if call.excinfo is not None:
        from pytest_netns.plugin import own_frames

        own_frames.hide(item.config, call)
    report = yield
    _failed.tell(item, call, report)
    return report


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say where the tests run, if any of them is ours."""
    return _session.collection_line(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In a run of GitHub Actions, an annotation with the cause at the line of each failed test."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from pytest_netns.plugin.annotations import annotate

        annotate(terminalreporter)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The cause in bold where failures are about to be shown in colours."""
    terminalreporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminalreporter is not None and (terminalreporter.stats.get("failed") or terminalreporter.stats.get("error")):
        from pytest_netns.plugin.highlight import highlight

        highlight(terminalreporter, session.config)
