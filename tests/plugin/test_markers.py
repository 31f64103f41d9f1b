"""The markers: a namespace of its own for each test, and tests that need a feature."""

from __future__ import annotations

import pytest

from .inner import Project, User

WHERE = """
import os, socket, threading, unittest
import pytest

def here():
    return os.readlink("/proc/thread-self/ns/net")

@pytest.fixture(scope="session", autouse=True)
def home():
    return here()
"""


def test_each_test_has_a_namespace_of_its_own(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
seen = {}

@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 8080)) as sock:
        yield here()

@pytest.mark.netns
@pytest.mark.parametrize("number", range(3))
def test_it(server, home, number):
    assert here() == server != home
    inside = []
    thread = threading.Thread(target=lambda: inside.append(here()))
    thread.start()
    thread.join()
    assert inside == [server]
    assert here() not in seen
    seen[here()] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)  # else its number goes to another
    socket.create_connection(("127.0.0.1", 8080)).close()

@pytest.mark.netns
class TestUnit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.outside = here()

    def setUp(self):
        self.inside = here()

    def test_it(self):
        assert here() == self.inside != self.outside

def test_others_stay_at_home(home):
    assert here() == home
""",
    )
    # the descriptors that it keeps are a leak, on purpose
    project.run("--netns-leaks=off", user=user).assert_outcomes(passed=5)


def test_fixtures_of_wider_scope_live_and_die_at_home(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
@pytest.fixture(scope="module")
def wide(home):
    assert here() == home
    yield here()
    assert here() == home

@pytest.fixture(scope="module")
def wider_by_request(request, home):
    request.addfinalizer(lambda: check(home))
    assert here() == home

def check(home):
    assert here() == home

@pytest.mark.netns
def test_first(wide, wider_by_request):
    assert here() != wide

@pytest.mark.netns
def test_last(wide, wider_by_request):
    assert here() != wide
""",
    )
    project.run(user=user).assert_outcomes(passed=2)


def test_isolate_does_the_same_for_every_test(project: Project, user: User) -> None:
    project.write("test_inside.py", WHERE + "def test_it(home):\n    assert here() != home\n")
    project.run("--netns-isolate", user=user).assert_outcomes(passed=1)
    project.run(user=user).assert_outcomes(failed=1)


def test_isolate_can_be_set_in_the_ini_file(project: Project, user: User) -> None:
    project.write("pytest.ini", "[pytest]\nnetns_isolate = true\n")
    project.write("test_inside.py", WHERE + "def test_it(home):\n    assert here() != home\n")
    project.run(user=user).assert_outcomes(passed=1)


def test_a_missing_feature_skips_with_the_reason_and_a_present_one_does_not(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
import pytest

@pytest.mark.netns_requires("veth", "bridge", "program:sh")
def test_present():
    pass

@pytest.mark.netns_requires("veth", "program:no-such-program")
def test_missing():
    raise AssertionError("this must not run")

@pytest.mark.netns_requires("program:/opt/no-such/tool")
def test_missing_at_its_path():
    raise AssertionError("this must not run")
""",
    )
    result = project.run("-rs", user=user)
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*netns_requires('program:no-such-program'): *'no-such-program' is not installed*"])
    result.stdout.fnmatch_lines(["*netns_requires('program:/opt/*'): the program '/opt/no-such/tool' does not exist*"])


MISTAKES = {
    "netns('red', mtu=9)": "@pytest.mark.netns takes scope= and interface=, and got 'red', mtu=9",
    "netns(None)": "@pytest.mark.netns takes scope= and interface=, and got None",
    "netns_requires": "@pytest.mark.netns_requires takes names such as 'netem' or 'program:dnsmasq', and got nothing",
    "netns_requires(['veth'])": "@pytest.mark.netns_requires takes names such as *, and got ?'veth'?",
    "netns_requires(feature='veth')": "@pytest.mark.netns_requires takes names such as *, and got feature='veth'",
    "netns_requires('veth', 7)": "@pytest.mark.netns_requires takes names such as *, and got 'veth', 7",
    "netns_requires('')": "@pytest.mark.netns_requires: '' is not known; known are *",
    "netns_requires('veth', 'netmen')": "@pytest.mark.netns_requires: 'netmen' is not known; did you mean 'netem'? *",
    "netns_requires('program:')": "@pytest.mark.netns_requires: 'program:' is not known; known are *, and program:NAME",
}


@pytest.mark.parametrize(("marker", "said"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_in_a_marker_is_a_usage_error_before_any_test_runs(project: Project, marker: str, said: str) -> None:
    project.write(
        "test_inside.py",
        "import pytest\n\ndef test_first():\n    open('ran', 'w')\n\n"
        f"@pytest.mark.{marker}\ndef test_it():\n    pass\n",
    )
    for arguments in ((), ("--collect-only", "-q")):
        result = project.run(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines([f"ERROR: test_inside.py::test_it: {said}"])
        assert not (project.folder / "ran").exists()


def test_mistakes_are_told_once_each_wherever_the_marker_stands(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
import unittest
import pytest

pytestmark = pytest.mark.netns_requires("veht")

@pytest.mark.netns(1)
class TestMany:
    @pytest.mark.netns
    @pytest.mark.parametrize("number", range(3))
    def test_it(self, number):
        pass

class TestUnit(unittest.TestCase):
    @pytest.mark.netns_requires("veth")
    @pytest.mark.netns_requires("veth", "veth")
    def test_it(self):
        pass
""",
    )
    result = project.run("-p", "no:randomly")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        [
            "ERROR: test_inside.py::TestMany::test_it?0? and 2 more: @pytest.mark.netns takes scope= and interface=, "
            "and got 1",
            "test_inside.py::TestMany::test_it?0? and 3 more: @pytest.mark.netns_requires: 'veht' is not known; "
            "did you mean 'veth'? *",
        ]
    )
    project.run("-k", "nothing").assert_outcomes(deselected=4)


def test_a_worker_fails_the_test_whose_marker_is_wrong(project: Project) -> None:
    project.write(
        "test_inside.py",
        "import pytest\n\ndef test_first():\n    pass\n\n@pytest.mark.netns(1)\ndef test_it():\n    pass\n",
    )
    result = project.run("-p", "xdist", "-n", "2")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*test_inside.py::test_it: @pytest.mark.netns takes scope= and interface=, and got 1*"]
    )


def test_a_namespace_that_a_test_does_not_leave_is_an_error_and_the_next_test_is_at_home(project: Project) -> None:
    project.write(
        "test_inside.py",
        WHERE
        + """
def test_leaves_late(netns):
    netns.__enter__()

def test_next(home):
    assert here() == home
""",
    )
    result = project.run("-p", "no:randomly")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the test entered 'netns' and did not leave*"])
