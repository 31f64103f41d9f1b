"""Installing and loading: by name, by entry point, not at all, at no cost, and on other systems than Linux."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import subprocess
import sys

import pytest

import pytest_netns

from .inner import Project

FIXTURES = ("netns", "netns_factory", "veth_pair", "bridge", "lab", "lab_factory", "netns_lab_options")

ONE_TEST_OF_OURS = """
def test_one(veth_pair):
    left, right = veth_pair
    assert left.ping(right)
"""


def test_the_entry_point_is_called_netns() -> None:
    (entry,) = importlib.metadata.entry_points(group="pytest11", name="netns")
    assert entry.value == "pytest_netns.plugin.hooks"
    assert entry.dist is not None
    assert entry.dist.name == "pytest-netns"


#: Warns at start-up, and warnings are errors, unless an ini file tells the scope of its loops.
OTHERS = ("-p", "no:asyncio")


def test_it_loads_by_itself(project: Project) -> None:
    project.write("test_inside.py", ONE_TEST_OF_OURS)
    result = project.run(*OTHERS, autoload=True)
    result.assert_outcomes(passed=1)


def test_it_loads_by_name_when_nothing_loads_by_itself(project: Project) -> None:
    project.write("test_inside.py", ONE_TEST_OF_OURS)
    result = project.run("-p", "netns", env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    result.assert_outcomes(passed=1)
    assert "xdist" not in result.stdout.str()


def test_it_can_be_left_out(project: Project) -> None:
    project.write("test_inside.py", ONE_TEST_OF_OURS)
    result = project.run("-p", "no:netns", *OTHERS, autoload=True)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'veth_pair' not found*"])
    result = project.run("-p", "no:netns", "--netns-require", *OTHERS, autoload=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*unrecognized arguments: --netns-require*"])


UNUSED = """
import sys

def pytest_unconfigure():
    ours = sorted(name for name in sys.modules if name.startswith("pytest_netns"))
    print("OURS:", *ours)
    print("HEAVY:", *sorted({"pyroute2", "scapy", "ctypes", "asyncio", "sqlite3"} & set(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [(), ("-p", "netns"), ("--collect-only",)], ids=["installed", "named", "collect"])
def test_a_session_that_does_not_use_it_imports_next_to_nothing(project: Project, arguments: tuple[str, ...]) -> None:
    project.write("conftest.py", UNUSED)
    project.write("test_inside.py", "def test_one():\n    pass\n")
    result = project.run("-s", *arguments, fresh=True)
    assert result.ret == 0
    loaded = {row.split(":")[0]: row.split()[1:] for row in result.outlines if row.startswith(("OURS", "HEAVY"))}
    always = {"pytest_netns", "pytest_netns.plugin", "pytest_netns.plugin.hooks", "pytest_netns.plugin.names"}
    asked = {f"pytest_netns.plugin.{name}" for name in ("markers", "session", "settings")}
    assert set(loaded["OURS"]) == always | (asked if "netns" in arguments else set())
    assert loaded["HEAVY"] == []


def test_a_session_that_uses_namespaces_only_needs_neither_pyroute2_nor_scapy(project: Project) -> None:
    project.write("conftest.py", UNUSED)
    project.write("test_inside.py", "def test_one(lab):\n    lab.connect(lab.host('red'), lab.host('blue'))\n")
    result = project.run("-s", fresh=True)
    result.assert_outcomes(passed=1)
    heavy = next(row for row in result.outlines if row.startswith("HEAVY:"))
    assert not {"pyroute2", "scapy"} & set(heavy.split())


WITHOUT_PYROUTE2 = """
import sys

SERVER = "import socket, time; server = socket.create_server(('', 80)); time.sleep(600)"

def test_one(lab):
    bridge = lab.bridge("sw", stp=False)
    red, blue = bridge.host("red"), bridge.host("blue")
    link = lab.connect(red, blue)
    link.impair(delay="1ms")
    link.heal()
    blue.spawn([sys.executable, "-c", SERVER], ready=80)
    assert red.tcp(blue, 80)
    assert red.ping(blue)
    assert lab.ping_all()
    blue.crash()
    assert str(red.routes)
    assert "pyroute2" not in sys.modules
"""


def test_what_most_labs_do_needs_no_pyroute2(project: Project) -> None:
    project.write("test_inside.py", WITHOUT_PYROUTE2)
    project.run(fresh=True).assert_outcomes(passed=1)


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import sys, pytest_netns; dir(pytest_netns); print(*sorted(m for m in sys.modules if m != '__main__'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pytest_netns" in loaded
    assert not {"pyroute2", "scapy", "pytest", "pytest_netns.errors", "ctypes"} & loaded


def test_every_public_name_is_there() -> None:
    assert [name for name in pytest_netns.__all__ if getattr(pytest_netns, name, None) is None] == []
    assert set(pytest_netns.__all__) <= set(dir(pytest_netns))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Labb'"):
        pytest_netns.Labb  # noqa: B018


def test_the_package_says_that_it_is_typed() -> None:
    files = importlib.resources.files(pytest_netns)
    assert (files / "py.typed").is_file()


def test_all_fixtures_are_listed_with_what_they_are_for(project: Project) -> None:
    result = project.run("--fixtures", "-p", "netns")
    assert result.ret == 0
    rows = result.outlines
    for name in FIXTURES:
        found = [position for position, row in enumerate(rows) if row.split(" ")[0] == name]
        assert len(found) == 1, f"{name} is listed {len(found)} times"
        assert rows[found[0] + 1].startswith("    "), f"{name} has no docstring"
        assert rows[found[0] + 1].strip() != "no docstring available"


def test_markers_can_be_listed(project: Project) -> None:
    assert project.run("--markers", "--strict-markers").ret == 0


# --------------------------------------------------------------- not on Linux

#: Makes this interpreter look like one on macOS, as far as the plugin can see it. Loaded before the plugin.
ELSEWHERE = """
import os, select, signal, socket, sys

import _pytest.capture, _pytest.logging, subprocess, tempfile, ctypes, asyncio  # these may know where they really are

sys.platform = "darwin"
for name in [name for name in dir(socket) if name.startswith(("AF_NETLINK", "AF_PACKET", "NETLINK_", "SO_BINDTODEVICE",
             "PACKET_", "AF_VSOCK", "AF_ALG"))]:
    delattr(socket, name)
for name in ("setns", "unshare", "memfd_create", "pidfd_open", "MFD_CLOEXEC", "pipe2", "sched_getaffinity", "eventfd",
             "CLONE_NEWNET", "CLONE_NEWNS", "CLONE_NEWUSER", "CLONE_NEWPID", "posix_fallocate", "getresuid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("epoll", "EPOLLIN"):
    if hasattr(select, name):
        delattr(select, name)

def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(arguments[0])
    if event == "ctypes.dlopen" and arguments[0] is None:
        raise OSError("no system calls of Linux here")

sys.addaudithook(refuse)
"""


@pytest.fixture
def elsewhere(project: Project) -> Project:
    """A project in which every session believes to be on macOS."""
    project.write("elsewhere.py", ELSEWHERE)
    project.write("test_inside.py", ONE_TEST_OF_OURS + "\ndef test_two():\n    pass\n")
    return project


ON_MACOS = {"PYTEST_PLUGINS": "elsewhere,pytest_netns.plugin.hooks"}


@pytest.mark.parametrize("argument", ["--fixtures", "--markers", "--help", "--collect-only", "--version"])
def test_elsewhere_everything_can_be_looked_at(elsewhere: Project, argument: str) -> None:
    result = elsewhere.run(argument, env=ON_MACOS)
    assert result.ret == 0
    if argument == "--fixtures":
        result.stdout.fnmatch_lines(["veth_pair -- *"])
    if argument == "--collect-only":
        result.stdout.fnmatch_lines(["*test_one*"])


def test_elsewhere_tests_are_skipped_and_say_why(elsewhere: Project) -> None:
    result = elsewhere.run("-rs", env=ON_MACOS)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*network namespaces exist on Linux only, and this is darwin*"])


@pytest.mark.parametrize("arguments", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "distributed"])
def test_elsewhere_tests_fail_if_networks_are_required(elsewhere: Project, arguments: tuple[str, ...]) -> None:
    result = elsewhere.run("--netns-require", "--netns-sandbox=always", *arguments, env=ON_MACOS)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*netns is required*network namespaces exist on Linux only, and this is darwin*"])


def test_elsewhere_every_public_name_can_be_imported(elsewhere: Project) -> None:
    # scapy has code for each system: it must be the one for where we really are.
    elsewhere.write("elsewhere.py", "import scapy.layers.inet, scapy.layers.inet6, scapy.layers.l2\n" + ELSEWHERE)
    names = ", ".join(pytest_netns.__all__)
    elsewhere.write("test_inside.py", f"from pytest_netns import {names}\n\ndef test_two(): Lab")
    elsewhere.run(env=ON_MACOS).assert_outcomes(passed=1)
