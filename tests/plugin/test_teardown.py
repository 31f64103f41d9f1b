"""Orderly ends: everything is gone before the next test, and every error of it is reported beside the test's own."""

from __future__ import annotations

import pytest

from .inner import Project, User

#: A daemon that left its parent and ignores what would end it.
DAEMON = """
DAEMON = ["sh", "-c", "trap '' TERM HUP INT; setsid -f sleep 1005"]
"""

GONE_BEFORE_THE_NEXT = (
    DAEMON
    + """
import os, re

made = {}

def inside(inode):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/net") == f"net:[{inode}]":
                found.append(int(pid))
        except OSError:
            pass  # of another user, or gone
    return found

def held():
    "Network namespaces that descriptors of this process refer to."
    links = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return {link for link in links if link.startswith("net:")}
"""
)


def test_everything_is_gone_before_the_next_test(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        GONE_BEFORE_THE_NEXT
        + """
def test_first(lab, netns):
    made["descriptors"] = len(os.listdir("/proc/self/fd")), held()
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    for each in (red, blue, netns):
        each.run(DAEMON)
        each.spawn(["sleep", "1006"])
        sock = each.socket()
    made["pids"] = {pid for each in (red, blue, netns) for pid in inside(each.inode)}
    made["inodes"] = {each.inode for each in (red, blue, netns)}
    assert len(made["pids"]) == 6, made

def test_second(request):
    assert not {pid for pid in made["pids"] if os.path.exists(f"/proc/{pid}")}
    assert held() <= made["descriptors"][1]

def test_third(lab, netns):
    assert len(os.listdir("/proc/self/fd")) == made["descriptors"][0]
""",
    )
    project.run(user=user).assert_outcomes(passed=3)


def test_a_process_that_died_unasked_is_an_error_with_its_output(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
        import time

        def test_one(netns):
            process = netns.spawn(["sh", "-c", "echo port 53 is taken >&2; exit 3"])
            while process.returncode is None:
                time.sleep(0.002)

        def test_two(netns):
            netns.run(["true"])
        """,
    )
    result = project.run(user=user)
    result.assert_outcomes(passed=2, errors=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_one*", "*exited unexpectedly (exit status 3)*"])
    result.stdout.fnmatch_lines(["*port 53 is taken*"])


DIES = """
import time

def dies(node, word):
    process = node.spawn(["sh", "-c", f"echo the last word is {word}; kill -SEGV $$"])
    while process.returncode is None:
        time.sleep(0.002)
"""


def test_an_error_at_teardown_does_not_hide_the_tests_own_failure(project: Project) -> None:
    project.write(
        "test_inside.py",
        DIES
        + """
def test_one(lab):
    dies(lab.host("red"), "lemon")
    assert "mine" == "yours"
""",
    )
    result = project.run("-rEf")
    result.assert_outcomes(failed=1, errors=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*AssertionError: assert 'mine' == 'yours'*"])
    result.stdout.fnmatch_lines(["*exited unexpectedly (killed by SIGSEGV)*", "*the last word is lemon*"])
    result.stdout.fnmatch_lines_random(["FAILED test_inside.py::test_one*", "ERROR test_inside.py::test_one*"])


def test_all_processes_that_died_are_reported(project: Project) -> None:
    project.write(
        "test_inside.py",
        DIES
        + """
def test_one(lab, netns):
    red = lab.host("red")
    dies(red, "lemon")
    dies(red, "melon")
    dies(lab.host("blue"), "plum")
    dies(netns, "fig")
""",
    )
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    shown = result.stdout.str()
    for word in ("lemon", "melon", "plum", "fig"):
        assert f"the last word is {word}\n" in shown


def test_factories_close_when_the_session_ends_and_report_every_error(project: Project) -> None:
    project.write(
        "test_inside.py",
        DIES
        + """
made = []

def test_one(netns_factory, lab_factory):
    made.extend([netns_factory("red"), lab_factory("backbone"), netns_factory(), lab_factory("other")])
    dies(made[0], "lemon")
    dies(made[1].host("core"), "melon")
    dies(made[3].host("edge"), "plum")

def test_two():
    assert not any(each.closed for each in made)
    made[2].run(["true"])
""",
    )
    project.write(
        "conftest.py",
        """
        import sys
        from outside import tell_outside

        def pytest_unconfigure():
            tell_outside(closed=[each.closed for each in sys.modules["test_inside"].made])
        """,
    )
    with project.start() as running:
        assert running.report() == {"closed": [True] * 4}
        result = running.result()
    assert result.parseoutcomes()["passed"] == 2
    assert result.parseoutcomes()["errors"] >= 1
    assert result.ret == 1
    shown = result.stdout.str()
    for word in ("lemon", "melon", "plum"):
        assert f"the last word is {word}\n" in shown


@pytest.mark.parametrize("method", ["terminate", "kill", "wait"])
def test_a_process_that_was_asked_to_end_is_no_error(project: Project, method: str) -> None:
    program = ["true"] if method == "wait" else ["sleep", "1007"]
    project.write(
        "test_inside.py",
        f"""
        def test_one(netns):
            netns.spawn({program!r}).{method}()

        def test_still_running(netns):
            netns.spawn(["sleep", "1008"])
        """,
    )
    project.run().assert_outcomes(passed=2)


def test_users_fixtures_are_torn_down_while_their_namespace_is_still_there(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import pytest

        order = []

        @pytest.fixture
        def server(lab):
            red = lab.host("red")
            process = red.spawn(["sleep", "1009"])
            yield process
            assert process.returncode is None
            assert red.run(["echo", "bye"]).stdout == "bye\\n"
            order.append("server")

        def test_one(server, lab):
            order.append(lab)

        def test_two():
            lab, *rest = order
            assert rest == ["server"]
            assert lab.closed
        """,
    )
    project.run().assert_outcomes(passed=2)


def test_a_test_that_fails_inside_a_namespace_does_not_take_the_next_one_with_it(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import os
        import pytest

        def here():
            return os.readlink("/proc/thread-self/ns/net")

        home = []

        @pytest.fixture(autouse=True, scope="module")
        def remember(netns_factory):
            home.append(here())

        def test_one(netns, lab):
            with netns, lab.host("red"):
                assert here() == home[0], "as it must"

        def test_two():
            assert here() == home[0]
        """,
    )
    result = project.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*as it must*"])


def test_leaving_in_the_wrong_order_is_reported(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import pytest

        @pytest.fixture
        def inside(netns):
            with netns:
                yield

        def test_one(inside, lab):
            lab.host("red").__enter__()
        """,
    )
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*leaving namespace 'netns', but the innermost one of this thread is 'red'*"])


def test_a_closed_lab_says_so(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import pytest
        from pytest_netns import NetnsError

        kept = []

        def test_one(lab):
            kept.extend([lab, lab.host("red")])

        def test_two():
            with pytest.raises(NetnsError, match="closed"):
                kept[0].host("blue")
            with pytest.raises(NetnsError, match="closed"):
                kept[1].run(["true"])
        """,
    )
    project.run().assert_outcomes(passed=2)
