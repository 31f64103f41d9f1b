"""Several sessions at once: workers of one run, and runs that know nothing of each other."""

from __future__ import annotations

import pytest

from .inner import Project, User

MANY = """
import os
import pytest

@pytest.mark.parametrize("number", range(6))
def test_same_names_everywhere(lab, number):
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    assert red.ping(blue)
    red.spawn(["sleep", "1010"])
    assert len(set(red.interfaces)) == 2

@pytest.fixture(scope="module")
def backbone(lab_factory):
    lab = lab_factory("backbone")
    switch = lab.bridge("switch")
    return switch.host("one"), switch.host("two")

@pytest.mark.parametrize("number", range(4))
def test_a_lab_of_the_module(backbone, number):
    one, two = backbone
    assert two.ping(one)
"""


@pytest.mark.parametrize(
    ("user", "dist"),
    [("root", "load"), ("root", "loadscope"), ("root", "worksteal"), ("ordinary", "load"), ("ordinary", "each")],
)
def test_workers_have_networks_of_their_own(project: Project, user: User, dist: str) -> None:
    project.write("test_inside.py", MANY)
    number = ["--tx=2*popen"] if dist == "each" else ["-n", "2"]
    result = project.run("-p", "xdist", *number, "--dist", dist, "--netns-sandbox=auto", "--netns-require", user=user)
    result.assert_outcomes(passed=20 if dist == "each" else 10)


def test_the_header_of_a_distributed_run_says_rootless_once(project: Project) -> None:
    project.write("test_inside.py", MANY)
    result = project.run("-p", "xdist", "-n", "2", "-p", "netns", user="ordinary")
    result.assert_outcomes(passed=10)
    assert result.stdout.str().count("netns: rootless") == 1


RENDEZVOUS = """
from outside import tell_outside, wait_for_outside

def test_one(lab):
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    with red.socket() as server:
        server.bind(("192.168.15.1", 8080))
        server.listen()
        tell_outside(mac=str(red.mac), inode=red.inode)
        wait_for_outside()
        assert blue.ping(red)
        assert blue.tcp(red, 8080).state == "open"
        assert [str(n.mac) for n in blue.neighbours() if str(n.address) == "192.168.15.1"] == [str(red.mac)]
"""


def test_two_sessions_at_once_do_not_meet(project: Project, user: User) -> None:
    project.write("test_inside.py", RENDEZVOUS)
    with project.start(user=user) as first, project.start(user=user) as second:
        said = first.report(), second.report()
        assert said[0]["mac"] == said[1]["mac"], "equal labs look alike"
        assert said[0]["inode"] != said[1]["inode"]
        for each in (first, second):
            each.go_on()
        for each in (first, second):
            each.result().assert_outcomes(passed=1)


def test_one_session_may_die_beside_another(project: Project) -> None:
    project.write("test_inside.py", RENDEZVOUS)
    with project.start() as first, project.start() as second:
        first.report()
        second.report()
        first.popen.kill()
        first.wait()
        second.go_on()
        second.result().assert_outcomes(passed=1)
