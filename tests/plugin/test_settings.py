"""Options: where they come from, which one wins, and what is said about bad ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pytest_netns.plugin import names, settings
from pytest_netns.plugin.names import OPTIONS
from pytest_netns.plugin.settings import Sandbox, Settings, Unit

from .inner import Project

PLACES = ("ini", "environment", "command line")


class Declared:
    """Our options, without the hooks that act upon them."""

    pytest_addoption = staticmethod(names.add_options)


class Configuration:
    """What an option is in each place, read in this process as a session reads it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.plugins = [Declared()]

    def read(self, name: str, values: dict[str, str], *arguments: str) -> Settings:
        """The settings of a session in which an option has these values in these places."""
        if "ini" in values:
            self._pytester.makefile(".ini", pytest=f"[pytest]\nnetns_{name} = {values['ini']}\n")
        environ = {f"PYTEST_NETNS_{name.upper()}": values["environment"]} if "environment" in values else {}
        line = [f"--netns-{name.replace('_', '-')}={values['command line']}"] if "command line" in values else []
        return self.read_as_it_is(*line, *arguments, environ=environ)

    def read_as_it_is(self, *arguments: str, environ: dict[str, str] | None = None) -> Settings:
        """The same, from an ini file that is there."""
        config = self._pytester.parseconfig("-p", "no:netns", *arguments)
        return settings.read(config, config.option, environ or {})


@pytest.fixture
def configuration(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """Nothing is set."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)
    return Configuration(pytester)


SHOW = """
from pytest_netns.plugin import session

def pytest_report_header(config):
    settings = session.of(config).settings
    return f"settings: sandbox={settings.sandbox.value} require={settings.require} asked={settings.asked}"
"""


def test_defaults(configuration: Configuration) -> None:
    assert configuration.read("sandbox", {}) == Settings()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((), "sandbox=auto require=False asked=False"),
        (("-p", "netns"), "sandbox=auto require=False asked=True"),
        (("--netns-sandbox=never", "--netns-require"), "sandbox=never require=True asked=True"),
    ],
    ids=["installed", "named", "options"],
)
def test_a_session_has_them_and_to_name_the_plugin_asks_for_it(
    project: Project, arguments: tuple[str, ...], shown: str
) -> None:
    project.write("conftest.py", SHOW)
    project.write("test_inside.py", "def test_one():\n    pass\n")
    result = project.run(*arguments)
    result.assert_outcomes(passed=1)
    assert f"settings: {shown}" in result.outlines


@pytest.mark.parametrize("places", [p for n in (1, 2, 3) for p in itertools.combinations(PLACES, n)], ids=" and ".join)
def test_the_command_line_beats_the_environment_which_beats_the_ini_file(
    configuration: Configuration, places: tuple[str, ...]
) -> None:
    # Every place but the winning one says "auto", which is not what is expected.
    values = dict.fromkeys(places, "auto") | {places[-1]: "never"}
    assert configuration.read("sandbox", values) == Settings(sandbox=Sandbox.NEVER, asked=True)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("1", True), ("true", True), ("Yes", True), ("on", True), ("0", False), ("false", False), ("NO", False)],
)
def test_a_switch_understands_the_usual_words(configuration: Configuration, text: str, meant: bool) -> None:
    assert configuration.read("require", {"environment": text}) == Settings(require=meant, asked=True)


def test_the_switch_on_the_command_line_beats_a_no_elsewhere(configuration: Configuration) -> None:
    found = configuration.read("require", {"ini": "false", "environment": "no"}, "--netns-require")
    assert found == Settings(require=True, asked=True)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "sandbox",
            {"ini": "sometimes"},
            "ini key netns_sandbox: invalid value 'sometimes'; allowed: auto, always, never",
        ),
        (
            "sandbox",
            {"environment": "ALWAYS"},
            "environment variable PYTEST_NETNS_SANDBOX: invalid value 'ALWAYS'; allowed: auto, always, never",
        ),
        ("sandbox", {"command line": ""}, "option --netns-sandbox: invalid value ''; allowed: auto, always, never"),
        ("require", {"ini": "perhaps"}, "ini key netns_require: invalid truth value 'perhaps'; allowed: true or false"),
        (
            "require",
            {"environment": "2"},
            "environment variable PYTEST_NETNS_REQUIRE: invalid value '2'; allowed: true or false",
        ),
        # A bad value is not excused by a good one that beats it: it would come out on the day that goes.
        (
            "sandbox",
            {"ini": "sometimes", "command line": "auto"},
            "ini key netns_sandbox: invalid value 'sometimes'; allowed: auto, always, never",
        ),
    ],
)
def test_a_bad_value_is_a_usage_error_that_says_where_it_stands(
    configuration: Configuration, name: str, values: dict[str, str], said: str
) -> None:
    with pytest.raises(pytest.UsageError) as raised:
        configuration.read(name, values)
    assert str(raised.value) == said


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "distributed"])
def test_a_usage_error_is_all_that_a_session_says(project: Project, workers: tuple[str, ...]) -> None:
    project.write("test_inside.py", "def test_one():\n    pass\n")
    result = project.run(*workers, "--netns-sandbox=sometimes")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = "ERROR: option --netns-sandbox: invalid value 'sometimes'; allowed: auto, always, never"
    assert [row for row in result.outlines if row] == [said]


@pytest.mark.parametrize(
    ("name", "bad", "allowed"),
    [
        ("sandbox", "perhaps", "auto, always, never"),
        ("pcap", "some", "off, failed, all"),
        ("leaks", "perhaps", "error, warn, off"),
        ("artifacts", "pytest.ini", "a directory, which is made if it is not there"),
        ("isolate", "perhaps", "test, class, module, session; true means test, false none"),
        ("isolate_interface", "lo", "a name of 15 characters at most, such as eth0, and not lo, all or default"),
        ("isolate_interface", "all", "a name of 15 characters at most, such as eth0, and not lo, all or default"),
        ("isolate_interface", "default", "a name of 15 characters at most, such as eth0, and not lo, all or default"),
        ("require", "perhaps", "true or false"),
        ("root", "perhaps", "true or false"),
        ("shell", "perhaps", "true or false"),
        ("keep", "perhaps", "true or false"),
    ],
)
def test_every_option_is_validated_in_every_place(
    configuration: Configuration, name: str, bad: str, allowed: str
) -> None:
    Path("pytest.ini").write_text("[pytest]")  # a file, for one of the bad values
    invalid = f"invalid value '{bad}'; allowed: {allowed}"
    with pytest.raises(pytest.UsageError, match=f"^environment variable PYTEST_NETNS_{name.upper()}: {invalid}$"):
        configuration.read(name, {"environment": bad})
    if allowed != "true or false" and name != "isolate":  # a switch whose values are options of their own
        for value in (bad, ""):
            invalid = f"invalid value '{value}'; allowed: {allowed}"
            with pytest.raises(pytest.UsageError, match=f"^option --netns-{name.replace('_', '-')}: {invalid}$"):
                configuration.read(name, {"command line": value})
    with pytest.raises(pytest.UsageError, match=f"^ini key netns_{name}: invalid .*'{bad}'; allowed: {allowed}$"):
        configuration.read(name, {"ini": bad})


def test_every_option_is_among_those_that_are_validated_here() -> None:
    (cases,) = [
        mark.args[1] for mark in test_every_option_is_validated_in_every_place.pytestmark if mark.name == "parametrize"
    ]
    assert sorted({case[0] for case in cases}) == sorted(option.name for option in OPTIONS)


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("tool.pytest.ini_options", "netns_require = true", None),
        ("tool.pytest", "netns_isolate = 7", "netns_isolate: .*expects a string.*7; allowed: .*test.class.*"),
        ("tool.pytest.ini_options", 'netns_require = "yes"', None),
        ("tool.pytest.ini_options", "netns_require = 7", "netns_require: invalid truth value '7'.*true or false"),
        ("tool.pytest.ini_options", "netns_require = [true]", "netns_require: .*true or false"),
        ("tool.pytest.ini_options", "netns_sandbox = true", "netns_sandbox: .*auto, always, never"),
        ("tool.pytest.ini_options", 'netns_sandbox = ["auto"]', "netns_sandbox: .*auto, always, never"),
        ("tool.pytest", "netns_require = true", None),
        ("tool.pytest", 'netns_require = "yes"', "netns_require: .*expects a bool.*'yes'; allowed: true or false"),
        ("tool.pytest", "netns_require = 7", "netns_require: .*expects a bool.*7; allowed: true or false"),
        ("tool.pytest", "netns_sandbox = true", "netns_sandbox: .*expects a string.*True; allowed: .*always.*"),
        ("tool.pytest", 'netns_sandbox = ["auto"]', "netns_sandbox: .*expects a string.*; allowed: .*always.*"),
    ],
)
@pytest.mark.filterwarnings("ignore:Passing a value that is not a string")  # pytest's word on one of them
def test_values_of_toml_are_validated_too(
    configuration: Configuration, pytester: pytest.Pytester, table: str, line: str, said: str | None
) -> None:
    if table == "tool.pytest" and pytest.version_tuple < (9,):
        pytest.skip("pytest has this table from version 9 on")
    pytester.makepyprojecttoml(f"[{table}]\n{line}\n")
    if said is None:
        assert configuration.read_as_it_is() == Settings(require=True, asked=True)
    else:
        with pytest.raises(pytest.UsageError, match=f"^ini key {said}$"):
            configuration.read_as_it_is()


@pytest.mark.parametrize(
    ("table", "value", "unit"),
    [
        ("tool.pytest.ini_options", "true", Unit.TEST),
        ("tool.pytest.ini_options", "false", None),
        ("tool.pytest.ini_options", '"module"', Unit.MODULE),
        ("tool.pytest", "true", Unit.TEST),
        ("tool.pytest", "false", None),
        ("tool.pytest", '"module"', Unit.MODULE),
    ],
)
@pytest.mark.filterwarnings("ignore:Passing a value that is not a string")
def test_toml_may_say_true_or_a_unit(
    configuration: Configuration, pytester: pytest.Pytester, table: str, value: str, unit: Unit | None
) -> None:
    if table == "tool.pytest" and pytest.version_tuple < (9,):
        pytest.skip("pytest has this table from version 9 on")
    pytester.makepyprojecttoml(f"[{table}]\nnetns_isolate = {value}\n")
    assert configuration.read_as_it_is().isolate is unit


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
        assert f"--netns-{name.replace('_', '-')}" in words
        assert f"Ini key netns_{name}, environment PYTEST_NETNS_{name.upper()}." in words
    assert "auto|always|never" in words
