"""The doctor: what this machine allows and has."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from pytest_netns.cli import doctor
from pytest_netns.cli.doctor import Finding
from pytest_netns.errors import PrivilegeError
from pytest_netns.kernel import sandbox
from pytest_netns.kernel.features.features import feature, known

COMMAND = (sys.executable, "-m", "pytest_netns", "doctor")


def test_the_table_names_every_kind_and_the_verdict() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {*known(), "nftables", "libpcap", "program:ip"} <= rows.keys()
    assert set(rows.values()) <= {"ok", "missing"}
    assert rows["veth"] == rows["bridge"] == rows["networks"] == "ok"
    verdict, _, *versions = done.stdout.splitlines()[:8]
    assert verdict.startswith("networks can be made here: ")
    named = [line.split()[0] for line in versions]
    assert named == ["pytest-netns", "pytest", "scapy", "pyroute2", "Python", "Linux"]


def test_json_says_the_same_for_programs() -> None:
    done = subprocess.run((*COMMAND, "--json"), capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["healthy"] is True
    assert told["findings"][0]["section"] == "privileges"
    assert {"section": "device", "name": "veth", "state": "ok", "detail": ""} in told["findings"]
    said = {each["name"]: each for each in told["findings"]}
    for name in known():
        there = feature(name)
        assert (said[name]["state"] == "ok", said[name]["detail"]) == (there.present, there.reason)


def test_the_option_of_pytest_does_it_instead_of_a_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it():\n    raise AssertionError('this must not run')\n")
    result = pytester.runpytest_subprocess("-p", "netns", "--netns-doctor", "-p", "no:cacheprovider")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["networks can be made here: *", "*veth*ok*"])


def test_without_privileges_it_fails_and_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PrivilegeError("cannot create network namespaces: user.max_user_namespaces is 0; cure: sysctl")

    monkeypatch.setattr(sandbox, "enter", refused)
    text, status = doctor.report()
    assert status == 1
    assert "cure: sysctl" in text
    assert text.splitlines()[0].startswith("NO NETWORKS CAN BE MADE HERE: cannot create network namespaces")
    assert Finding("device", "veth", "unknown", "cannot be asked without a namespace") in doctor.examine()


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_program", lambda _name: None)
    assert Finding("program", "program:bwrap", "missing", "sudo apt-get install bubblewrap") in doctor.examine()


def test_the_version_is_told() -> None:
    done = subprocess.run((*COMMAND[:-1], "--version"), capture_output=True, text=True, check=True)
    assert done.stdout == f"pytest-netns {version('pytest-netns')}\n"


@pytest.mark.parametrize("docker", [True, False])
def test_the_advice_of_docker_is_given_in_docker(docker: bool) -> None:
    filtered = {"/proc/self/status": "Seccomp:\t2\n"}.get
    said = sandbox.diagnose("user namespace", errno.EPERM, lambda path: filtered(path, ""), lambda _: docker)
    assert ("docker run" in said) is docker
    assert "cure: " in said
