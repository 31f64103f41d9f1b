"""What a report says under a failed probe, seen from outside."""

from __future__ import annotations

import pytest

from .inner import Project, User

PAIR = """
import pytest
from pytest_netns import assert_ping, assert_no_ping

@pytest.fixture
def pair(lab):
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
    return red, blue
"""
CAUSE = "cause: 'blue' ignores echo requests: net.ipv4.icmp_echo_ignore_all is 1"

ASSERTED = """
def test_inside(pair):
    red, blue = pair
    assert_ping(red, blue, timeout=0.1)
"""
PLAIN = """
def test_inside(lab, pair):
    red, blue = pair
    assert red.ping(blue, timeout=0.1)
"""


def test_a_failed_assertion_is_failed(project: Project) -> None:
    project.write("test_inside.py", PAIR + ASSERTED)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ProbeFailure: PingResult red -> blue (192.168.15.2): *", f"E *{CAUSE}"])


def test_the_own_line_of_the_test_is_the_last_of_the_traceback(project: Project) -> None:
    project.write("test_inside.py", PAIR + ASSERTED)
    output = project.run("--tb=short").stdout.str()
    assert "assertions.py" not in output
    assert "test_inside.py:14: in test_inside\n    assert_ping(red, blue, timeout=0.1)\nE " in output


@pytest.mark.parametrize(
    "body", ["assert_no_ping(red, red)", "red.capture().start().expect(lambda p: True, timeout=0.01)"]
)
def test_other_helpers_are_hidden_too(project: Project, body: str) -> None:
    project.write("test_inside.py", f"{PAIR}\ndef test_inside(pair):\n    red, blue = pair\n    {body}\n")
    result = project.run("--tb=short", "--netns-leaks=off")  # the capture is left running
    result.assert_outcomes(failed=1)
    assert "pytest_netns/" not in result.stdout.str().partition("short test summary")[0].replace("/work/", "")


def test_a_lab_that_cannot_be_built_is_an_error(project: Project) -> None:
    broken = PAIR.replace('"192.168.15.0/24"', '"192.168.15.0/32"')
    project.write("test_inside.py", broken + ASSERTED)
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *TopologyError: *"])


def test_a_plain_assert_gets_the_reason_in_a_section(project: Project) -> None:
    project.write("test_inside.py", PAIR + PLAIN)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *assert <PingResult red -> blue*", "*- netns: why -*", CAUSE, "observed: *"])


def test_a_plain_assert_that_is_about_something_else_gets_none(project: Project) -> None:
    test = "def test_inside(lab, pair):\n    red, blue = pair\n    red.ping(blue, timeout=0.1)\n    assert 1 == 2\n"
    project.write("test_inside.py", PAIR + test)
    result = project.run()
    result.assert_outcomes(failed=1)
    assert "netns: why" not in result.stdout.str()


def test_a_probe_failure_gets_no_second_explanation(project: Project) -> None:
    project.write("test_inside.py", PAIR + ASSERTED.replace("(pair)", "(lab, pair)"))
    result = project.run()
    result.assert_outcomes(failed=1)
    assert "netns: why" not in result.stdout.str()


def test_the_reason_travels_from_the_worker(project: Project) -> None:
    project.write("test_inside.py", PAIR + PLAIN)
    result = project.run("-p", "xdist", "-n", "1", "-p", "netns")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- netns: why -*", CAUSE, "observed: *"])


def test_a_lab_of_the_fixtures_own_value_is_found(project: Project) -> None:
    project.write("test_inside.py", PAIR + PLAIN.replace("(lab, pair)", "(pair)"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- netns: why -*", CAUSE, "observed: *"])


def test_a_failed_test_shows_its_lab_and_a_passed_one_does_not(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
def test_fails(veth_pair):
    left, right = veth_pair
    assert left.name == "somebody"

def test_passes(veth_pair):
    pass
""",
    )
    result = project.run(user=user)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- netns: lab -*", "left (host)", "  eth0 up 10.0.0.1/24 fd00::1/64 -- right:eth0"])
    assert result.stdout.str().count("- netns: lab -") == 1
    assert "fe80" not in result.stdout.str()
    assert "fe80" in project.run("-vv", user=user).stdout.str()


def test_trouble_in_telling_more_does_not_hide_the_failure(project: Project) -> None:
    project.write(
        "conftest.py",
        """
from pytest_netns.explain import results

def broken(failure):
    raise RuntimeError("a bug of ours")

results.explain_failure = broken
""",
    )
    project.write("test_inside.py", "def test_it(veth_pair):\n    assert veth_pair[0].tcp(veth_pair[1], 80)\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*telling more failed: RuntimeError('a bug of ours')*", "*- netns: lab -*"])


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("lab.partition(left, right)", "partition left | right"),
        ("right.block()", "'right' drops packets of all kinds"),
        ("lab.links[0].down()", "left:eth0 -- right:eth0 is down"),
        ("lab.links[0].impaired(loss=1)", "left:eth0 is impaired: loss 100% by *"),
    ],
    ids=["partition", "block", "down", "impaired"],
)
@pytest.mark.netns_requires("nft", "tap")
def test_what_a_with_block_has_undone_is_the_cause_all_the_same(project: Project, broken: str, words: str) -> None:
    body = ["def test_inside(veth_pair, lab):", "left, right = veth_pair", f"with {broken}:"]
    project.write("test_inside.py", "\n    ".join([*body, "    assert left.ping(right, timeout=0.1)"]))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"cause: when it was asked, this was in force, and has been undone since: {words}*"])
