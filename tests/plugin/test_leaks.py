"""The leak check: what a test left alive is an error at that test, and not at the next one."""

from __future__ import annotations

import sys

import pytest

from pytest_netns import Namespace
from pytest_netns.kernel import procfs
from pytest_netns.plugin import leaks
from pytest_netns.process.spawner import living

from .inner import Project, User

#: Each leaves something; what is said of it. The line that makes it is marked.
LEAKS = {
    "lab": (
        """
        from pytest_netns import Lab
        def test_one(netns_factory):
            lab = Lab("mine")  # here
            lab.host("red").spawn(["sleep", "1015"])
            keep.append(lab)
        """,
        "lab 'mine' (nodes: red) with running 'sleep 1015', made at test_inside.py:{line}",
    ),
    "lab in a cycle": (
        """
        from pytest_netns import Lab
        def test_one(netns_factory):
            Lab("mine").host("red")  # here
        """,
        "lab 'mine' (nodes: red), made at test_inside.py:{line}",
    ),
    "namespace": (
        """
        from pytest_netns import Namespace
        def made():
            return Namespace("alone")  # here
        def test_one(netns_factory):
            keep.append(made())
        """,
        "namespace 'alone', made at test_inside.py:{line}",
    ),
    "fixture of the test's own": (
        """
        from pytest_netns import Namespace
        @pytest.fixture
        def alone():
            return Namespace("alone")  # here
        def test_one(alone, netns):
            keep.append(alone)
        """,
        "namespace 'alone', made at test_inside.py:{line}",
    ),
    "process in a wider lab": (
        """
        def test_one(wide):
            wide["red"].spawn(["sleep", "1016"])  # here
        """,
        "process 'sleep 1016' in 'red', pid *, started at test_inside.py:{line}",
    ),
    "daemon in a wider lab": (
        """
        def test_one(wide):
            wide["red"].run(["sh", "-c", "trap '' TERM HUP; setsid -f sleep 1017"])  # here
        """,
        "process '*sleep 1017', pid *, left behind by a command that has ended",
    ),
    "plain process": (
        """
        import subprocess
        def test_one(lab):
            with lab.host("red"):
                keep.append(subprocess.Popen(["sleep", "1023"]))  # here
        """,
        "process 'sleep 1023' in 'red', pid *, which it has started by itself",
    ),
    "plain daemon in an isolated test": (
        """
        import subprocess
        @pytest.mark.netns
        def test_one():
            subprocess.run(["setsid", "-f", "sleep", "1024"], check=True)  # here
        """,
        "process '*sleep 1024' in 'test_one', pid *, which it has started by itself",
    ),
    "plain process in a wider lab": (
        """
        import subprocess
        def test_one(wide):
            keep.append(wide["red"].call(subprocess.Popen, ["sleep", "1025"]))  # here
        """,
        "process 'sleep 1025' in 'red', pid *, which it has started by itself",
    ),
    "capture in a wider lab": (
        """
        def test_one(wide):
            keep.append(wide["red"].capture("lo").start())  # here
        """,
        "capture of red:lo, started at test_inside.py:{line}",
    ),
    "thread": (
        """
        import threading
        def test_one(wide):
            begun = threading.Event()
            def stay():
                begun.set()
                forever.wait()
            threading.Thread(target=wide["red"].call, args=(stay,), daemon=True).start()  # here
            begun.wait()
        """,
        "thread 'netns-red': what call() runs in it has not returned",
    ),
    "descriptor": (
        """
        import os
        def test_one(netns):
            keep.append(os.dup(netns.fd))  # here
        """,
        "descriptor * (net:[[]*]), which keeps namespace net:[[]*] alive though it was closed: of no socket object *",
    ),
    "socket": (
        """
        import socket
        def test_one(netns):
            with netns:
                keep.append(socket.socket())  # here
        """,
        "descriptor * (socket:[[]*]), which keeps namespace net:[[]*] alive though it was closed: the test's "
        "<socket.socket fd=*>, made somewhere (python -X tracemalloc=10 *",
    ),
}

PROLOGUE = """
import threading
import pytest

keep = []
forever = threading.Event()

@pytest.fixture(scope="session")
def wide(lab_factory):
    lab = lab_factory("wide")
    lab.host("red").run(["true"])
    return lab

@pytest.fixture(autouse=True, scope="session")
def first(netns_factory):
    # what is made once a session is there from now on
    netns_factory("first").run(["true"])
"""
EPILOGUE = """
def test_two(netns):
    pass

def test_three():
    pass
"""


def write(project: Project, text: str) -> int:
    """Write the tests; returns the number of the marked line."""
    lines = (PROLOGUE + "\n".join(line[8:] for line in text.splitlines()) + "\n" + EPILOGUE).splitlines()
    project.write("test_inside.py", "\n".join(lines) + "\n")
    return next((number for number, line in enumerate(lines, 1) if line.endswith("# here")), 0)


@pytest.mark.parametrize("what", LEAKS)
def test_what_is_left_is_an_error_at_that_test_alone(project: Project, user: User, what: str) -> None:
    text, said = LEAKS[what]
    line = write(project, text)
    result = project.run(user=user)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_one*", "test_inside.py::test_one left alive:"])
    result.stdout.fnmatch_lines(["  " + said.format(line=line)])
    result.stdout.no_fnmatch_line("*ResourceWarning*")


def test_what_is_left_is_closed(project: Project) -> None:
    write(
        project,
        """
        from pytest_netns import Lab, Namespace

        def test_one(wide):
            lab, alone = Lab(), Namespace("alone")
            process = wide["red"].spawn(["sleep", "1018"])
            keep.extend([lab, alone, process, wide["red"].capture("lo").start()])

        def test_after():
            lab, alone, process, capture = keep
            assert lab.closed and alone.closed and not capture.running
            assert process.returncode == -9
        """,
    )
    project.run().assert_outcomes(passed=4, errors=1)


WIDER = """
        import subprocess
        from pytest_netns import Lab, Namespace
        {other}
        @pytest.fixture(scope="{scope}")
        def backbone(netns_factory):
            lab = Lab("backbone")
            lab.host("core").spawn(["sleep", "1019"])
            lab["core"].run(["sh", "-c", "setsid -f sleep 1022"])
            own = lab["core"].call(subprocess.Popen, ["sleep", "1026"])
            with lab["core"].capture("lo"), lab["core"]:
                import socket
                sock = socket.socket()
                yield lab
            own.kill()
            own.wait()
            sock.close()
            lab.close()

        @pytest.fixture
        def late(request):
            return request.getfixturevalue("backbone")

        class TestThem:
            def test_one(self, late, lab):
                lab.host("red")

            def test_two(self, backbone, netns_factory, lab_factory):
                netns_factory("kept").run(["true"])
                lab_factory("kept").host("blue")
                backbone.host("another")

            def test_again(self, lab_factory, netns):
                pass
"""


@pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
def test_what_wider_fixtures_make_is_no_leak(project: Project, scope: str) -> None:
    text = WIDER.replace("{scope}", scope).replace("{other}", "").replace(', lab["core"]:', ":")
    write(project, text)
    project.run().assert_outcomes(passed=5)


def test_what_a_module_makes_when_it_is_imported_is_no_leak(project: Project) -> None:
    project.write(
        "helper.py",
        """
        import atexit
        from pytest_netns import Lab
        LAB = Lab("module's")
        LAB.host("red")
        atexit.register(LAB.close)
        """,
    )
    write(
        project,
        """
        def test_one(netns_factory):
            import helper
            assert helper.LAB["red"]
        """,
    )
    project.run().assert_outcomes(passed=3)


def test_everyday_use_leaks_nothing(project: Project, user: User) -> None:
    write(
        project,
        """
        import socket
        from pytest_netns.kernel.features.features import feature

        def test_one(veth_pair, netns):
            left, right = veth_pair
            with left.capture() as capture:
                assert left.ping(right)
                assert left.arp(right)
                left.tcp(right, 80)
            if feature("nft").present:
                left.nft("add table inet t")
            right.iproute.link("dump")
            right.call(lambda: right.iproute.link("dump"))
            right.spawn(["sleep", "1020"])
            left.run(["sh", "-c", "setsid -f sleep 1021"])
            sock = right.socket()
            with left, pytest.raises(OSError) as caught:
                local = socket.socket()
                try:
                    local.connect(("127.0.0.1", 9))
                finally:
                    local.close()

        @pytest.mark.netns
        def test_marked():
            socket.socket().close()
        """,
    )
    for _ in range(3):
        project.run(user=user).assert_outcomes(passed=4)


def test_a_failure_is_not_drowned_by_what_its_traceback_holds(project: Project) -> None:
    write(
        project,
        """
        import socket

        def test_one(netns):
            with netns:
                local = socket.socket()
            assert not local
        """,
    )
    ignored = ("-W", "ignore::ResourceWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning")
    project.run(*ignored).assert_outcomes(failed=1, passed=2)


def test_it_comes_beside_other_errors(project: Project) -> None:
    write(
        project,
        """
        from pytest_netns import Lab

        @pytest.fixture
        def broken():
            yield
            raise ValueError("mine")

        def test_one(broken, lab):
            keep.append(Lab("first"))
            assert "lemon" == "melon"

        def test_inside(netns):
            keep.append(Lab("second"))
            netns.__enter__()

        def test_died(netns_factory):
            keep.append(Lab("third"))
            process = keep[-1].host("red").spawn(["sh", "-c", "echo a lemon; exit 3"])
            process._popen.await_end(10)
        """,
    )
    result = project.run()
    result.assert_outcomes(failed=1, passed=4, errors=3)
    shown = result.stdout.str()
    for words in (
        "AssertionError: assert 'lemon' == 'melon'",
        "ValueError: mine",
        "lab 'first' (nodes: none), made at",
        "the test entered 'netns' and did not leave",
        "lab 'second' (nodes: none), made at",
        "lab 'third' (nodes: red), made at",
        "a lemon",
    ):
        assert words in shown, words


@pytest.mark.parametrize("way", ["option", "environment", "ini"])
def test_it_can_be_left_out(project: Project, way: str) -> None:
    text, _ = LEAKS["namespace"]
    write(project, text)
    project.ini(*(["netns_leaks = off"] if way == "ini" else []))
    result = project.run(
        *(["--netns-leaks=off"] if way == "option" else []),
        env={"PYTEST_NETNS_LEAKS": "off"} if way == "environment" else {},
    )
    assert result.parseoutcomes().get("errors", 0) == 0
    result.stdout.no_fnmatch_line("*left alive*")


@pytest.mark.parametrize("way", ["option", "environment", "ini"])
def test_it_can_warn_instead(project: Project, way: str) -> None:
    text, _ = LEAKS["namespace"]
    write(project, text)
    project.ini(*(["netns_leaks = warn"] if way == "ini" else []))
    result = project.run(
        "-W",
        "default",
        *(["--netns-leaks=warn"] if way == "option" else []),
        env={"PYTEST_NETNS_LEAKS": "warn"} if way == "environment" else {},
    )
    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.fnmatch_lines(["*LeakWarning: test_inside.py::test_one left alive:", "*namespace 'alone', made at *"])


def test_where_a_socket_that_is_left_was_made_is_told_where_allocations_are_traced(project: Project) -> None:
    text, _ = LEAKS["socket"]
    line = write(project, text)
    result = project.run(python=(sys.executable, "-X", "tracemalloc=10"))
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        [f"  descriptor * closed: the test's <socket.socket fd=*>, made at */test_inside.py:{line}"]
    )


def test_a_forgotten_socket_of_an_isolated_test_is_an_error_or_a_warning(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
        import socket
        keep = []

        def test_one():
            keep.append(socket.create_server(("127.0.0.1", 8080)))

        def test_two():
            socket.create_server(("127.0.0.1", 8080)).close()
        """,
    )
    # the forgotten one is collected at the end, when nobody turns its ResourceWarning into an error any more
    warns = project.run("-W", "default", "--netns-isolate", "--netns-leaks=warn", user=user)
    warns.assert_outcomes(passed=2, warnings=1)
    project.run("-W", "default", "--netns-isolate", user=user).assert_outcomes(passed=2, errors=1)


def test_workers_check_too(project: Project, user: User) -> None:
    text, _ = LEAKS["lab"]
    write(project, text)
    project.run("-p", "netns", "-p", "xdist", "-n", "2", user=user).assert_outcomes(passed=3, errors=1)


def test_a_child_that_is_reaped_meanwhile_hides_no_daemon(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.run(["sh", "-c", "trap '' TERM HUP; setsid -f sleep 1029"])
    gone, children = 1 << 22, leaks._children  # no process has a number above pid_max
    monkeypatch.setattr(leaks, "_children", lambda pid: [gone, *children(pid)])
    assert any("sleep 1029" in command for command in leaks._orphans(living()).values())


def test_a_daemon_in_the_middle_of_its_start_is_seen(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.run(["sh", "-c", "trap '' TERM HUP; setsid -f sleep 1030"])
    asked, command_of = set(), procfs.command_of

    def in_execve(pid: int) -> str:
        if pid in asked:
            return command_of(pid)
        asked.add(pid)
        return ""

    monkeypatch.setattr(procfs, "command_of", in_execve)
    assert any("sleep 1030" in command for command in leaks._orphans(living()).values())


def test_sessions_without_us_are_not_looked_at(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import sys

        def test_one():
            assert "pytest_netns.stack.namespace" not in sys.modules
            assert "pytest_netns.kernel.netns.holders" not in sys.modules

        test_two = test_one
        """,
    )
    project.run(fresh=True).assert_outcomes(passed=2)


def test_an_event_loop_that_somebody_keeps_is_no_leak(project: Project, user: User) -> None:
    # pytest-asyncio before 1.5 makes one in the first test that asks for it, and keeps it
    project.write(
        "test_inside.py",
        """
import asyncio, pytest

kept = []

@pytest.fixture(scope="session", autouse=True)
def let_go():
    yield
    kept[0].close()

@pytest.mark.netns
def test_it():
    kept.append(asyncio.new_event_loop())
""",
    )
    project.run(user=user).assert_outcomes(passed=1)


def test_what_multiprocessing_keeps_for_all_tests_is_no_leak(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
import multiprocessing
from multiprocessing.resource_tracker import _resource_tracker

import pytest

@pytest.mark.netns
def test_one():
    multiprocessing.get_context("spawn").Lock()
    assert _resource_tracker._pid is not None
""",
    )
    project.run(fresh=True).assert_outcomes(passed=1)
