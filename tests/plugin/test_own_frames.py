"""What a traceback shows of an error of ours: the test, and neither our code nor the environment."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_netns import Lab, Namespace
from pytest_netns.plugin import own_frames
from pytest_netns.process.environment import Environment

from .inner import Project

SECRET = "correct-horse-battery"


def shown(pytestconfig: pytest.Config, test: Callable[[], object], *, hidden: bool = True) -> str:
    """What pytest prints of a test that fails, with local variables."""
    call = pytest.CallInfo.from_call(lambda: test() and None, "call")
    if hidden:
        own_frames.hide(pytestconfig, call)
    assert call.excinfo is not None
    return str(call.excinfo.getrepr(showlocals=True, funcargs=True, truncate_locals=False))


def files(text: str) -> set[str]:
    """The names of the files that a traceback names, this one apart."""
    found = {Path(line.split(":")[0]).name for line in text.splitlines() if ".py:" in line and line[0] not in " E>"}
    return found - {Path(__file__).name, "runner.py"}


@pytest.mark.parametrize(
    "mistake",
    [
        lambda ns: ns.run(["false"]),
        lambda ns: ns.run(["no-such-program"]),
        lambda ns: ns.run(["sleep", "60"], timeout=0.01),
        lambda ns: ns.run(["true"], cwd="/no-such-directory"),
        lambda ns: ns.run("true"),
        lambda ns: ns.spawn(["false"], ready=80),
        lambda ns: ns.sysctl["net.no-such-one"],
        lambda ns: ns.nft("nonsense"),
    ],
)
def test_an_error_of_ours_shows_the_test_alone(
    pytestconfig: pytest.Config, netns: Namespace, mistake: Callable[[Namespace], object]
) -> None:
    text = shown(pytestconfig, lambda: mistake(netns))
    assert "lambda ns: ns." in text
    assert not files(text)


@pytest.mark.parametrize("hidden", [True, False], ids=["hidden", "full trace"])
@pytest.mark.parametrize("argv", [["false"], ["no-such-program"]])
def test_the_environment_is_in_no_traceback(
    pytestconfig: pytest.Config, netns: Namespace, monkeypatch: pytest.MonkeyPatch, argv: list[str], hidden: bool
) -> None:
    monkeypatch.setenv("PASSWORD", SECRET)
    mine = Environment(TOKEN=SECRET)
    tests: list[Callable[[], object]] = [
        lambda: netns.run(argv),
        lambda: netns.spawn(argv, ready=80),
        lambda: netns.run(argv, env=mine.copy()),
    ]
    for test in tests:
        text = shown(pytestconfig, test, hidden=hidden)
        assert SECRET not in text
        assert (not files(text)) == hidden


def test_an_error_of_the_test_inside_shows_where_the_test_stands(pytestconfig: pytest.Config, netns: Namespace) -> None:
    def divide() -> float:
        return 1 / 0

    text = shown(pytestconfig, lambda: netns.call(divide))
    assert "return 1 / 0" in text
    assert not files(text)


def test_an_error_of_ours_in_what_the_test_gave_us_shows_both(pytestconfig: pytest.Config, netns: Namespace) -> None:
    def look() -> object:
        return netns.run(["false"])

    text = shown(pytestconfig, lambda: netns.spawn(["sleep", "60"], ready=look))
    assert "netns.spawn(" in text
    assert 'return netns.run(["false"])' in text
    assert not files(text)


def test_a_fault_of_ours_is_shown_as_a_whole(
    pytestconfig: pytest.Config, netns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netns, "_supervisor", types.SimpleNamespace(run=None))
    assert files(shown(pytestconfig, lambda: netns.run(["true"]))) == {"commands.py"}


def test_of_a_group_of_our_errors_our_outermost_frame_stays_where_only_the_runner_is_left(
    pytestconfig: pytest.Config, lab: Lab
) -> None:
    host = lab.host("host")
    for _ in range(2):
        host.spawn(["false"])._popen.wait()
    call = pytest.CallInfo.from_call(lab.close, "teardown")
    own_frames.hide(pytestconfig, call)
    assert call.excinfo is not None
    assert [entry.path.name for entry in call.excinfo.traceback if isinstance(entry.path, Path)][-1] == "lab.py"
    assert "2 sub-exceptions" in str(call.excinfo.getrepr())


def test_a_fixture_of_ours_that_fails_below_another_plugin_shows_itself_alone(
    pytestconfig: pytest.Config, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_frames, "_RUNNERS", (*own_frames._RUNNERS, f"/plugin/{Path(__file__).name}"))
    call = pytest.CallInfo.from_call(lambda: lab.host("no name") and None, "setup")
    own_frames.hide(pytestconfig, call)
    assert call.excinfo is not None
    assert [entry.path.name for entry in call.excinfo.traceback if isinstance(entry.path, Path)] == ["lab.py"]


def test_reports_of_all_kinds_are_free_of_it(project: Project) -> None:
    project.write(
        "test_inside.py",
        f"""
import os
os.environ["PASSWORD"] = {SECRET[:7]!r} + {SECRET[7:]!r}

def test_it(netns):
    netns.run(["false"])
""",
    )
    result = project.run("--showlocals", "--junitxml=report.xml", "-vv")
    result.assert_outcomes(failed=1)
    for text in (result.stdout.str(), (project.folder / "report.xml").read_text()):
        assert "'false' in namespace 'netns': exit status 1" in text
        assert SECRET not in text
        assert "commands.py" not in text
    assert result.stdout.str().count("\n") < 40
