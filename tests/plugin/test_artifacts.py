"""The folders that ``--netns-artifacts`` and ``--netns-pcap`` write, seen from outside."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

from pytest_netns.report.artifacts import folder_name

from .inner import Project, User

TESTS = """
import sys
import pytest
from pytest_netns import Lab

@pytest.fixture
def pair(lab):
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    return red, blue

def test_fails(pair):
    red, blue = pair
    blue.spawn(["sh", "-c", "echo I am here; exec sleep 100"])
    assert red.ping(blue)
    assert red.name == "blue"

def test_passes(pair):
    assert pair[0].ping(pair[1])
"""
WAYS = pytest.mark.parametrize("way", [(), ("-p", "xdist", "-n", "2", "-p", "netns")], ids=["alone", "distributed"])


def written(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def frames(path: Path) -> list[str]:
    """What is in a pcapng file, by scapy."""
    return [packet.summary() for packet in rdpcap(str(path))]


@WAYS
def test_a_failed_test_has_a_folder_and_a_passed_one_has_none(
    project: Project, user: User, way: tuple[str, ...]
) -> None:
    project.write("test_inside.py", TESTS)
    result = project.run(*way, "--netns-artifacts=art", user=user)
    result.assert_outcomes(passed=1, failed=1)
    art = project.folder / "art"
    assert [path.name for path in art.iterdir()] == ["test_inside.test_fails"]
    folder = art / "test_inside.test_fails"
    result.stdout.fnmatch_lines(["*- netns: artifacts -*", str(folder)])
    files = written(folder)
    assert [name for name in files if not name.startswith("processes/")] == ["lab.svg", "state.json", "why.txt"]
    (log,) = (folder / "processes").iterdir()
    assert log.name.startswith("blue-")
    assert log.name.endswith("-sh.log")
    assert log.read_text() == "I am here\n"


def test_what_is_in_the_files(project: Project) -> None:
    project.write("test_inside.py", TESTS)
    project.run("--netns-artifacts=art")
    folder = project.folder / "art" / "test_inside.test_fails"
    state = json.loads((folder / "state.json").read_text())
    assert (state["test"], state["failed_in"]) == ("test_inside.py::test_fails", "call")
    red, blue = state["lab"]["nodes"]
    assert (red["name"], red["kind"]) == ("red", "host")
    assert red["interfaces"][1]["addresses"][0] == "192.168.15.1/24"
    assert red["interfaces"][1]["peer"] == "blue:eth0"
    assert red["neighbours"][0]["address"] == "192.168.15.2"
    (process,) = blue["processes"]
    assert process["state"] == "still running"
    assert (folder / process["log"]).read_text() == "I am here\n"
    assert state["lab"]["cables"] == [
        {"a": {"node": "red", "interface": "eth0"}, "b": {"node": "blue", "interface": "eth0"}}
    ]
    texts = [element.text for element in ET.parse(folder / "lab.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"red", "blue", "192.168.15.1/24"} <= set(texts)
    why = (folder / "why.txt").read_text()
    assert why.startswith("test_inside.py::test_fails, in call\n")
    assert "E       AssertionError: assert 'red' == 'blue'" in why
    assert "neighbour 192.168.15.2" in why  # the long form


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_failures_before_and_after_the_test_itself(project: Project, phase: str) -> None:
    body = {
        "setup": "@pytest.fixture\ndef broken(pair):\n    raise ValueError\n\ndef test_it(broken):\n    pass\n",
        "teardown": "def test_it(pair):\n"
        "    process = pair[0].spawn(['sh', '-c', 'echo I am gone'])\n"
        "    while process.returncode is None:\n        pass\n",
    }[phase]
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    result = project.run("--netns-artifacts=art", "--netns-pcap=failed")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    folder = project.folder / "art" / "test_inside.test_it"
    result.stdout.fnmatch_lines(["*- netns: artifacts -*", str(folder)])
    state = json.loads((folder / "state.json").read_text())
    assert state["failed_in"] == phase
    assert [node["name"] for node in state["lab"]["nodes"]] == ["red", "blue"]
    assert (folder / "lab.svg").exists()
    if phase == "teardown":
        (log,) = (folder / "processes").iterdir()
        assert log.read_text() == "I am gone\n"
        assert "exited unexpectedly" in (folder / "why.txt").read_text()


def test_a_second_run_overwrites_nothing(project: Project) -> None:
    project.write("test_inside.py", TESTS)
    for number in (1, 2):
        project.run("--netns-artifacts=art")
        (project.folder / "art" / f"test_inside.test_fails{'.2' if number == 2 else ''}" / "mine").touch()
    found = sorted(path.name for path in (project.folder / "art").iterdir())
    assert found == ["test_inside.test_fails", "test_inside.test_fails.2"]
    assert len(list((project.folder / "art").rglob("mine"))) == 2


def test_names_that_a_file_system_cannot_take(project: Project) -> None:
    body = """
@pytest.mark.parametrize("value", ["a/b", "a-b", "../..", "x" * 300, "y" * 300, "1"])
def test_it(lab, value):
    assert False
"""
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    project.run("-p", "xdist", "-n", "2", "-p", "netns", "--netns-artifacts=art").assert_outcomes(failed=6)
    names = sorted(path.name for path in (project.folder / "art").iterdir())
    assert len(names) == 6
    assert {"test_inside.test_it-1", "test_inside.test_it-a-b"} <= set(names)
    assert max(map(len, names)) < 140
    assert {path.name for path in (project.folder).iterdir() if path.is_dir()} <= {
        "art",
        "tmp",
        ".cache",
        "__pycache__",
    }


@given(st.text(), st.text())
def test_a_folders_name_is_one_that_any_file_system_takes(path: str, test: str) -> None:
    name = folder_name(f"{path}::{test}")
    assert name
    assert name not in (".", "..")
    assert name.isascii()
    assert not set(name) & set('/\\:*?"<>|\0 ')
    assert len(name) < 140


def test_what_cannot_be_written_is_said_and_hides_nothing(project: Project, user: User) -> None:
    project.write("test_inside.py", TESTS)
    project.write("file", "")
    result = project.run("--netns-artifacts=file/art", user=user)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError: assert 'red' == 'blue'",
            "*- netns: lab -*",
            "could not be written to *file/art: *Not a directory*",
        ]
    )


@pytest.mark.parametrize("place", ["file", "x" * 300, ""])
def test_a_place_that_can_be_no_directory_is_a_usage_error(project: Project, place: str) -> None:
    project.write("test_inside.py", TESTS)
    project.write("file", "")
    result = project.run(f"--netns-artifacts={place}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "allowed: a directory, which is made if it is not there" in result.stdout.str()


def test_a_failure_that_was_expected_is_none(project: Project) -> None:
    body = "@pytest.mark.xfail\ndef test_it(pair):\n    assert False\n\ndef test_skips(pair):\n    pytest.skip()\n"
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    project.run("--netns-artifacts=art", "--netns-pcap=failed").assert_outcomes(xfailed=1, skipped=1)
    assert not (project.folder / "art").exists()


def test_several_labs_have_a_folder_each(project: Project) -> None:
    body = """
def test_it(lab, lab_factory):
    lab.host("red")
    for name in ("other", "other", "LAB"):
        lab_factory(name).host("blue")
    assert False
"""
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    project.run("--netns-artifacts=art").assert_outcomes(failed=1)
    folder = project.folder / "art" / "test_inside.test_it"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["LAB", "lab.2", "other", "other.2"]
    assert json.loads((folder / "LAB" / "state.json").read_text())["lab"]["nodes"][0]["name"] == "blue"


# ----------------------------------------------------------------------- pcap


@WAYS
def test_failed_keeps_the_packets_of_failed_tests(project: Project, user: User, way: tuple[str, ...]) -> None:
    project.write("test_inside.py", TESTS)
    result = project.run(*way, "--netns-artifacts=art", "--netns-pcap=failed", user=user)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*- netns: packets -*", "recorded on every interface:", "* ms  |---------->| *echo-request*"]
    )
    art = project.folder / "art"
    assert [path.name for path in art.iterdir()] == ["test_inside.test_fails"]
    captures = art / "test_inside.test_fails" / "captures"
    assert written(captures) == ["blue-eth0.pcapng", "red-eth0.pcapng"]
    for name in written(captures):
        assert sum("echo-request" in line for line in frames(captures / name)) == 1
        assert sum("echo-reply" in line for line in frames(captures / name)) == 1


def test_all_keeps_those_of_passed_tests_too(project: Project, user: User) -> None:
    project.write("test_inside.py", TESTS)
    project.run("--netns-artifacts=art", "--netns-pcap=all", user=user).assert_outcomes(passed=1, failed=1)
    folder = project.folder / "art" / "test_inside.test_passes"
    assert "captures/red-eth0.pcapng" in written(folder)
    assert not (folder / "why.txt").exists()
    assert json.loads((folder / "state.json").read_text())["failed_in"] is None


def test_nodes_and_interfaces_made_later_are_recorded(project: Project) -> None:
    body = """
def test_it(pair, lab):
    red, blue = pair
    assert red.ping(blue)
    green = lab.host("green")
    lab.connect(red, green)
    assert green.ping(red)
    blue.run(["true"])
    with blue:
        import socket
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        out.sendto(b"to myself", ("127.0.0.1", 9))
        out.close()
    assert False
"""
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    project.run("--netns-artifacts=art", "--netns-pcap=failed").assert_outcomes(failed=1)
    captures = project.folder / "art" / "test_inside.test_it" / "captures"
    assert {"blue-lo.pcapng", "green-eth0.pcapng", "red-eth1.pcapng"} <= set(written(captures))
    assert any("echo-request" in line for line in frames(captures / "green-eth0.pcapng"))


def test_labs_made_by_hand_and_namespaces_are_recorded(project: Project) -> None:
    body = """
import socket

def whisper(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"to myself", ("127.0.0.1", port))

@pytest.mark.netns
def test_it(netns, netns_factory):
    whisper(1001)
    netns.call(whisper, 1002)
    netns_factory("other").call(whisper, 1003)
    with Lab("mine") as lab:
        red, blue = lab.host("red"), lab.host("blue")
        lab.connect(red, blue)
        red.ping(blue)
        assert False
"""
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    project.run("--netns-artifacts=art", "--netns-pcap=failed").assert_outcomes(failed=1)
    folder = project.folder / "art" / "test_inside.test_it"
    assert [name for name in written(folder) if name.endswith("pcapng")] == [
        "mine/captures/blue-eth0.pcapng",
        "mine/captures/red-eth0.pcapng",
        "namespaces/captures/netns-lo.pcapng",
        "namespaces/captures/other-lo.pcapng",
        "namespaces/captures/test_it-lo.pcapng",
    ]


def test_a_lab_of_wider_scope_has_the_packets_of_each_test_in_its_folder(project: Project) -> None:
    body = """
@pytest.fixture(scope="module")
def wide(lab_factory):
    lab = lab_factory()
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    return red, blue

def test_one(wide):
    wide[0].udp(wide[1], 1001, timeout=0.1)

def test_two(wide):
    wide[0].udp(wide[1], 1002, timeout=0.1)
    assert False

def test_three(wide):
    wide[0].udp(wide[1], 1003, timeout=0.1)
"""
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    project.run("--netns-artifacts=art", "--netns-pcap=all").assert_outcomes(passed=2, failed=1)
    for name, port in (("one", 1001), ("two", 1002), ("three", 1003)):
        path = project.folder / "art" / f"test_inside.test_{name}" / "captures" / "blue-eth0.pcapng"
        ports = {packet[UDP].dport for packet in rdpcap(str(path)) if UDP in packet and "ICMP" not in packet}
        assert ports == {port}


def test_what_the_explanation_sends_is_not_in_the_files(project: Project) -> None:
    body = """
def test_it(pair):
    red, blue = pair
    blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
    assert red.ping(blue, timeout=0.1)
"""
    project.write("test_inside.py", TESTS.partition("def test_fails")[0] + body)
    project.run("--netns-artifacts=art", "--netns-pcap=failed").stdout.fnmatch_lines(
        ["*- netns: why -*", "asked again:"]
    )
    path = project.folder / "art" / "test_inside.test_it" / "captures" / "blue-eth0.pcapng"
    assert sum("echo-request" in line for line in frames(path)) == 1


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "distributed"])
def test_packets_without_a_place_for_them_are_a_usage_error(project: Project, workers: tuple[str, ...]) -> None:
    project.write("test_inside.py", TESTS)
    result = project.run(*workers, "--netns-pcap=failed")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [row for row in result.outlines if row] == [
        "ERROR: option --netns-pcap=failed: the packets are kept among the artifacts; say where: --netns-artifacts=DIR"
    ]
    project.ini("netns_pcap = all")
    result = project.run(*workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ini key netns_pcap=all: the packets are kept" in result.stdout.str()
    assert project.run(*workers, "--netns-pcap=off").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("how", [["--netns-isolate"], []])
@pytest.mark.parametrize("whose", ["failed", "all"])
def test_what_is_recorded_is_no_leak(project: Project, user: User, how: list[str], whose: str) -> None:
    project.write("test_inside.py", "def test_inside(netns):\n    netns.run(['true'])\n")
    project.run(*how, "--netns-artifacts=art", f"--netns-pcap={whose}", user=user).assert_outcomes(passed=1)


def test_the_folder_has_the_tests_name_whoever_fails_its_set_up(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_setup(item):
            raise RuntimeError(item.name)
        """,
    )
    project.write("test_inside.py", "def test_one():\n    pass\n\ndef test_two():\n    pass\n")
    project.run("--netns-artifacts=art").assert_outcomes(errors=2)
    names = sorted(folder.name for folder in (project.folder / "art").iterdir())
    assert ["test_one" in names[0], "test_two" in names[1]] == [True, True], names
