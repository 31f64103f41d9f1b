"""What a run says about limits of the kernel that are shared by the whole machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_netns import Lab
from pytest_netns.kernel.netlink.neighbour_table import neighbour_tables

from .inner import Project, User

pytestmark = pytest.mark.netns_requires("program:ip")

LINE = "netns: the kernel's ARP table holds * of at most * entries, *sysctl -w net.ipv4.neigh.default.gc_thresh3=*"


@pytest.fixture
def crowd(lab: Lab) -> Iterator[None]:
    """More entries than half of the limit. None of them counts towards it, so that nobody is disturbed."""
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.77.0.0/16")
    number = neighbour_tables(red.rtnl)[4].limit // 2 + 10
    lines = [
        f"neighbour add 10.77.{9 + each // 250}.{each % 250} lladdr 02:00:00:00:00:09 dev eth0 extern_learn\n"
        for each in range(number)
    ]
    red.run(["ip", "-batch", "-"], input="".join(lines))
    yield
    red.close()  # at once, and not when all else is closed


def test_the_report_says_that_the_neighbour_table_is_more_than_half_full(
    project: Project, user: User, crowd: None
) -> None:
    project.write("test_one.py", "def test_one(lab): pass")
    project.write("test_two.py", "def test_two(): pass")
    result = project.run("-p", "netns", user=user)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["collected 2 items", "netns: root*", LINE, "test_one.py *"])
    assert "ARP table" not in project.run("test_two.py", user=user).stdout.str()


def test_with_workers_the_head_of_the_report_says_it_once(project: Project, crowd: None) -> None:
    project.write("test_one.py", "def test_one(lab): pass")
    result = project.run("-p", "xdist", "-n", "2", "--netns-sandbox=always")
    assert result.stdout.str().count("ARP table holds") == 1
    result.stdout.fnmatch_lines(["netns: root*", LINE])


def test_the_doctor_calls_it_low(project: Project, crowd: None) -> None:
    result = project.run("--netns-doctor")
    result.stdout.fnmatch_lines(["networks can be made here: *", "*arp-table*low*the kernel's ARP table holds*"])
