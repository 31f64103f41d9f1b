"""The workflows parse, ask for as little as they can, and run the lanes that tox.ini has."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}


def load(name: str) -> dict[str, Any]:
    found = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    found["on"] = found.pop(True)  # YAML 1.1 takes the word "on" for true
    return found


def jobs() -> list[Any]:
    return [pytest.param(job, id=f"{file}:{name}") for file in WORKFLOWS for name, job in load(file)["jobs"].items()]


def lanes() -> set[str]:
    """The lanes of tox.ini, those that need nothing but an interpreter included."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "tox.ini")
    named = {section.partition(":")[2] for section in parser.sections() if section.startswith("testenv:")}
    return named | {lane.strip() for lane in parser["tox"]["env_list"].split(",")}


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def lanes_of(job: dict[str, Any]) -> set[str]:
    """The lanes that a job runs, its matrix written out."""
    matrix = job.get("strategy", {}).get("matrix", {})
    expanded = {entry["lane"] for entry in matrix.get("include", [])} | set(matrix.get("lane", []))
    called = set(re.findall(r"tox run -e (\$\{\{ matrix\.lane \}\}|\S+)", commands(job)))
    return {lane for word in called for lane in (expanded if word.startswith("$") else {word})}


def test_there_are_two() -> None:
    assert list(WORKFLOWS) == ["ci.yml", "release.yml"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_may_be_written_but_where_a_job_says_so(name: str) -> None:
    assert load(name)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("job", jobs())
def test_every_job_ends_and_every_action_has_a_version(job: dict[str, Any]) -> None:
    assert job["timeout-minutes"] <= (60 if "kernel" in lanes_of(job) else 20)
    assert not job["runs-on"].endswith("-latest"), "a runner that changes under us"
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+|[0-9a-f]{40})", step["uses"])
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def test_ci_runs_every_lane_and_no_other() -> None:
    run = set().union(*(lanes_of(job) for job in load("ci.yml")["jobs"].values()))
    # In every lane that has workers the whole suite is run as by this one.
    assert run == lanes() - {"xdist"}


def test_the_machine_of_the_project_runs_the_documentation_too() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "run_tox docs" in script


def test_root_runs_as_root_and_rootless_does_not() -> None:
    found = load("ci.yml")["jobs"]
    assert re.search(r"^sudo .*tox run", commands(found["root"]), re.MULTILINE)
    assert not re.search(r"^sudo .*tox run", commands(found["rootless"]), re.MULTILINE)
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in commands(found["rootless"])


def test_pythons_are_those_that_the_package_names() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    promised = {line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)}
    matrix = load("ci.yml")["jobs"]["root"]["strategy"]["matrix"]["include"]
    assert {entry["python"] for entry in matrix} == promised


def test_packages_are_those_of_our_own_machine() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    installed = re.search(r"apt-get install ([^>]*)>", script)
    assert installed
    wanted = {word for word in installed[1].split() if re.match(r"[a-z]", word)}
    named = load("ci.yml")["env"]
    assert wanted - {"ca-certificates", "git", "python3", "python3-pip", "debootstrap"} == {
        *named["PACKAGES"].split(),
        *named["KERNEL_PACKAGES"].split(),
    }


def test_the_kernel_lane_ends_itself_and_has_what_it_says_it_needs() -> None:
    job = load("ci.yml")["jobs"]["kernel"]
    assert float(job["env"]["KERNEL_LANE_MINUTES"]) < job["timeout-minutes"] - 10  # so that it says how far it came
    assert "$PACKAGES $KERNEL_PACKAGES" in commands(job)
    assert job["container"] == {"image": "debian:12", "options": "--privileged"}
    script = (ROOT / ".ci" / "kernel").read_text()
    for package in load("ci.yml")["env"]["KERNEL_PACKAGES"].split():
        assert f'"{package}"' in script


def test_a_release_is_a_tag_that_is_built_first_and_published_without_a_secret() -> None:
    found = load("release.yml")
    assert found["on"] == {"push": {"tags": ["v*"]}}
    publish = found["jobs"]["publish"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]["name"] == "pypi"
    assert "id-token" not in str(found["jobs"]["build"])
    assert "secrets." not in WORKFLOWS["release.yml"].read_text()
    assert [step["uses"] for step in publish["steps"]][-1] == "pypa/gh-action-pypi-publish@release/v1"
