"""Options: where they come from, which one wins, and what is said about bad ones."""

from __future__ import annotations

import itertools

import pytest

from pytest_netns.plugin.settings import OPTIONS

from .inner import Project

SHOW = """
from pytest_netns.plugin import session

def pytest_report_header(config):
    settings = session.of(config).settings
    return f"settings: sandbox={settings.sandbox.value} require={settings.require} asked={settings.asked}"
"""

PLACES = ("ini", "environment", "command line")


def shown(project: Project, name: str, values: dict[str, str], *arguments: str) -> str:
    """The settings of a session in which an option has these values in these places."""
    project.write("conftest.py", SHOW)
    project.write("test_inside.py", "def test_one():\n    pass\n")
    project.ini(*([f"netns_{name} = {values['ini']}"] if "ini" in values else []))
    env = {f"PYTEST_NETNS_{name.upper()}": values["environment"]} if "environment" in values else {}
    line = [f"--netns-{name}={values['command line']}"] if "command line" in values else []
    result = project.run(*line, *arguments, env=env)
    result.assert_outcomes(passed=1)
    return next(row for row in result.outlines if row.startswith("settings: "))


def test_defaults(project: Project) -> None:
    assert shown(project, "sandbox", {}) == "settings: sandbox=auto require=False asked=False"


def test_naming_the_plugin_asks_for_it(project: Project) -> None:
    assert shown(project, "sandbox", {}, "-p", "netns") == "settings: sandbox=auto require=False asked=True"


@pytest.mark.parametrize("places", [p for n in (1, 2, 3) for p in itertools.combinations(PLACES, n)], ids=" and ".join)
def test_the_command_line_beats_the_environment_which_beats_the_ini_file(
    project: Project, places: tuple[str, ...]
) -> None:
    # Every place but the winning one says "auto", which is not what is expected.
    values = dict.fromkeys(places, "auto") | {places[-1]: "never"}
    assert shown(project, "sandbox", values) == "settings: sandbox=never require=False asked=True"


@pytest.mark.parametrize(
    ("text", "meant"),
    [("1", True), ("true", True), ("Yes", True), ("on", True), ("0", False), ("false", False), ("NO", False)],
)
def test_a_switch_understands_the_usual_words(project: Project, text: str, meant: bool) -> None:
    found = shown(project, "require", {"environment": text})
    assert found == f"settings: sandbox=auto require={meant} asked=True"


def test_the_switch_on_the_command_line_beats_a_no_elsewhere(project: Project) -> None:
    found = shown(project, "require", {"ini": "false", "environment": "no"}, "--netns-require")
    assert found == "settings: sandbox=auto require=True asked=True"


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "distributed"])
@pytest.mark.parametrize(
    ("name", "values", "origin", "allowed"),
    [
        ("sandbox", {"ini": "sometimes"}, "ini key netns_sandbox: invalid value 'sometimes'", "auto, always, never"),
        (
            "sandbox",
            {"environment": "ALWAYS"},
            "environment variable PYTEST_NETNS_SANDBOX: invalid value 'ALWAYS'",
            "auto, always, never",
        ),
        ("sandbox", {"command line": ""}, "option --netns-sandbox: invalid value ''", "auto, always, never"),
        ("require", {"ini": "perhaps"}, "ini key netns_require: invalid truth value 'perhaps'", "true or false"),
        (
            "require",
            {"environment": "2"},
            "environment variable PYTEST_NETNS_REQUIRE: invalid value '2'",
            "true or false",
        ),
        # A bad value is not excused by a good one that beats it: it would come out on the day that goes.
        (
            "sandbox",
            {"ini": "sometimes", "command line": "auto"},
            "ini key netns_sandbox: invalid value 'sometimes'",
            "auto, always, never",
        ),
    ],
)
def test_a_bad_value_is_a_usage_error_that_says_where_it_stands(
    project: Project, name: str, values: dict[str, str], origin: str, allowed: str, workers: tuple[str, ...]
) -> None:
    project.write("test_inside.py", "def test_one():\n    pass\n")
    project.ini(*([f"netns_{name} = {values['ini']}"] if "ini" in values else []))
    env = {f"PYTEST_NETNS_{name.upper()}": values["environment"]} if "environment" in values else {}
    line = [f"--netns-{name}={values['command line']}"] if "command line" in values else []
    result = project.run(*workers, *line, env=env)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [row for row in result.outlines if row] == [f"ERROR: {origin}; allowed: {allowed}"]


@pytest.mark.parametrize(
    ("name", "bad", "allowed"),
    [
        ("sandbox", "perhaps", "auto, always, never"),
        ("pcap", "some", "off, failed, all"),
        ("leaks", "warn", "error, off"),
        ("artifacts", "pytest.ini", "a directory, which is made if it is not there"),
        ("isolate", "perhaps", "true or false"),
        ("require", "perhaps", "true or false"),
        ("shell", "perhaps", "true or false"),
        ("keep", "perhaps", "true or false"),
    ],
)
def test_every_option_is_validated_in_every_place(project: Project, name: str, bad: str, allowed: str) -> None:
    project.write("test_inside.py", "def test_one():\n    pass\n")
    variable = f"PYTEST_NETNS_{name.upper()}"
    result = project.run(env={variable: bad})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([f"ERROR: environment variable {variable}: invalid value '{bad}'; allowed: {allowed}"])
    if allowed != "true or false":
        result = project.run(f"--netns-{name}={bad}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines([f"ERROR: option --netns-{name}: invalid value '{bad}'; allowed: {allowed}"])
        result = project.run(f"--netns-{name}=")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
    project.ini(f"netns_{name} = {bad}")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([f"ERROR: ini key netns_{name}: invalid *'{bad}'; allowed: {allowed}"])


def test_every_option_is_among_those_that_are_validated_here() -> None:
    (cases,) = [
        mark.args[1] for mark in test_every_option_is_validated_in_every_place.pytestmark if mark.name == "parametrize"
    ]
    assert sorted(case[0] for case in cases) == sorted(option.name for option in OPTIONS)


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("tool.pytest.ini_options", "netns_require = true", None),
        ("tool.pytest.ini_options", 'netns_require = "yes"', None),
        (
            "tool.pytest.ini_options",
            "netns_require = 7",
            "ini key netns_require: invalid truth value '7'*true or false",
        ),
        ("tool.pytest.ini_options", "netns_require = [true]", "ini key netns_require: *true or false"),
        ("tool.pytest.ini_options", "netns_sandbox = true", "ini key netns_sandbox: *auto, always, never"),
        ("tool.pytest.ini_options", 'netns_sandbox = ["auto"]', "ini key netns_sandbox: *auto, always, never"),
        ("tool.pytest", "netns_require = true", None),
        (
            "tool.pytest",
            'netns_require = "yes"',
            "ini key netns_require: *expects a bool*'yes'; allowed: true or false",
        ),
        ("tool.pytest", "netns_require = 7", "ini key netns_require: *expects a bool*7; allowed: true or false"),
        ("tool.pytest", "netns_sandbox = true", "ini key netns_sandbox: *expects a string*True; allowed: *always*"),
        ("tool.pytest", 'netns_sandbox = ["auto"]', "ini key netns_sandbox: *expects a string*; allowed: *always*"),
    ],
)
def test_values_of_toml_are_validated_too(project: Project, table: str, line: str, said: str | None) -> None:
    if table == "tool.pytest" and pytest.version_tuple < (9,):
        pytest.skip("pytest has this table from version 9 on")
    (project.folder / "pytest.ini").unlink()
    project.write("pyproject.toml", f"[{table}]\n{line}\n")
    project.write("conftest.py", SHOW)
    project.write("test_inside.py", "def test_one():\n    pass\n")
    result = project.run()
    if said is None:
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["settings: *require=True*"])
    else:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines([f"ERROR: {said}"])


def test_an_unknown_variable_is_a_usage_error_as_an_unknown_option_is(project: Project) -> None:
    project.write("test_inside.py", "def test_one():\n    pass\n")
    result = project.run(env={"PYTEST_NETNS_REQUIRED": "1"})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["ERROR: environment variable PYTEST_NETNS_REQUIRED: there is no such option; known are *_REQUIRE,*"]
    )
    result = project.run("--netns-req")  # abbreviated
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*unrecognized arguments: --netns-req"])


def test_the_switch_takes_no_value(project: Project) -> None:
    result = project.run("--netns-require=yes")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*--netns-require*ignored explicit argument*yes*"])


def test_the_help_names_every_way_to_set_an_option(project: Project) -> None:
    result = project.run("--help")
    words = " ".join(result.stdout.str().split())
    for name in ("sandbox", "require"):
        assert f"--netns-{name}" in words
        assert f"Ini key netns_{name}, environment PYTEST_NETNS_{name.upper()}." in words
    assert "auto|always|never" in words
