"""Other plugins and ways to run: each with networks, as root and as an ordinary user where that may differ."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec

import pytest

from .inner import Project, User, await_none

#: Labs of a test and of a module, a namespace of its own, processes, a capture: what another runner could break.
NETWORKS = """
import os, socket, sys
import pytest

@pytest.fixture(scope="module")
def backbone(lab_factory):
    lab = lab_factory("backbone")
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    blue.spawn([sys.executable, "-m", "http.server", "8080"], ready=8080)
    return red, blue

@pytest.mark.parametrize("number", range(2))
def test_a_lab_of_the_module(backbone, number):
    red, blue = backbone
    assert red.ping(blue)
    assert red.tcp(blue, 8080)

@pytest.mark.parametrize("number", range(2))
def test_a_lab_of_its_own(veth_pair, number):
    left, right = veth_pair
    right.spawn([sys.executable, "-m", "http.server", "8080"], ready=8080)
    with left.capture() as capture:
        assert left.tcp(right, 8080)
    assert capture.packets
    assert left.run(["echo", "inside"]).stdout == "inside\\n"

@pytest.mark.netns
@pytest.mark.parametrize("number", range(2))
def test_inside(number):
    with socket.create_server(("127.0.0.1", 8080)):
        socket.create_connection(("127.0.0.1", 8080)).close()
"""


@pytest.mark.parametrize("dist", ["no", "loadfile", "loadgroup"])
def test_xdist_distributes_in_every_way(project: Project, user: User, dist: str) -> None:
    # load, loadscope, worksteal and each: test_xdist.py
    group = 'pytestmark = pytest.mark.xdist_group("together")\n' if dist == "loadgroup" else ""
    project.write("test_inside.py", NETWORKS + group)
    result = project.run("-p", "xdist", "-n", "2", "--dist", dist, "--netns-require", user=user)
    result.assert_outcomes(passed=6)


def test_xdist_starts_workers_by_a_gateway_of_its_own(project: Project, user: User) -> None:
    project.write("test_inside.py", NETWORKS)
    result = project.run(
        *(
            "-p",
            "xdist",
            "--dist=load",
            "--tx",
            f"popen//python={sys.executable}//id=first",
            "--tx",
            "popen//id=second",
        ),
        *("-p", "netns", "--netns-require", "-v"),
        user=user,
    )
    result.assert_outcomes(passed=6)
    assert {"[first]", "[second]"} <= set(result.stdout.str().split())


#: As pytest-forked does it: each test from set-up to teardown in a child, whose reports are handed over.
FORKED = """
import os, pickle, warnings
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:
        reports = runtestprotocol(item, log=False, nextitem=None)
        told = [hook.pytest_report_to_serializable(config=item.config, report=each) for each in reports]
        with open(theirs, "wb") as pipe:
            pipe.write(pickle.dumps(told))
        os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        told = pickle.loads(pipe.read())
    assert os.waitpid(child, 0)[1] == 0
    for data in told:
        hook.pytest_runtest_logreport(report=hook.pytest_report_from_serializable(config=item.config, data=data))
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2", "-p", "netns")], ids=["alone", "distributed"])
def test_each_test_may_run_in_a_forked_child(project: Project, user: User, workers: tuple[str, ...]) -> None:
    project.write("conftest.py", FORKED)
    project.write("test_inside.py", NETWORKS)
    project.run(*workers, "--netns-require", user=user).assert_outcomes(passed=6)


ONLY_CHILDREN = """(item, nextitem):
    if "child" not in item.name:
        return None"""


def test_a_forked_child_may_use_the_lab_that_its_parent_made(project: Project, user: User) -> None:
    # As pytest-forked does for a marked test beside others: the module's lab is older than the child.
    project.write("conftest.py", FORKED.replace("(item, nextitem):", ONLY_CHILDREN))
    project.write(
        "test_inside.py",
        NETWORKS
        + """
def test_zz_child(backbone):
    test_a_lab_of_the_module(backbone, 0)
    assert backbone[0].run(["echo", "inside"]).stdout == "inside\\n"

def test_zz_parent(backbone):
    test_a_lab_of_the_module(backbone, 0)
""",
    )
    project.run("-p", "no:randomly", "--netns-require", user=user).assert_outcomes(passed=8)


SLOW = """
import time
import pytest

@pytest.mark.timeout(1, func_only=True)  # a busy machine may need its time to build
def test_slow(veth_pair):
    left, right = veth_pair
    right.spawn(["sleep", "1020"])
    with left:
        time.sleep(60)

def test_next(veth_pair):
    left, right = veth_pair
    assert left.ping(right)
"""


def test_a_timeout_by_signal_fails_its_test_and_shows_the_lab(project: Project, user: User) -> None:
    # That nothing survives either method: test_death.py
    project.write("test_inside.py", SLOW)
    with project.start("-p", "timeout", "--timeout-method=signal", "-p", "no:randomly", user=user) as running:
        result = running.result()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*netns: lab*", "*FAILED*test_slow*Timeout*"])
        assert not await_none(running.processes)


def test_a_timeout_by_thread_ends_the_session_and_names_the_test(project: Project, user: User) -> None:
    project.write("test_inside.py", SLOW)
    result = project.run("-p", "timeout", "--timeout-method=thread", "-p", "no:randomly", user=user)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*Timeout*", "*in test_slow*"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_will_do(project: Project, seed: int) -> None:
    project.write("test_inside.py", NETWORKS)
    project.run("-p", "randomly", f"--randomly-seed={seed}").assert_outcomes(passed=6)


def test_a_rerun_has_networks_of_its_own(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
import os, socket
import pytest

tries = {}

def first(name):
    tries[name] = tries.get(name, 0) + 1
    return tries[name] == 1

def test_lab(lab):
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.0.0.0/24")
    assert red.ping(blue)
    red.spawn(["sleep", "1021"])
    if first("lab"):
        blue.interfaces["eth0"].down()
    assert red.ping(blue, timeout=0.1)

@pytest.mark.netns
def test_inside():
    server = socket.create_server(("127.0.0.1", 8080))
    kept.append(server)
    assert not first("inside")

kept = []

def test_last():
    for server in kept:
        server.close()
""",
    )
    options = ("-p", "rerunfailures", "--reruns=1", "-p", "no:randomly", "-rR")
    result = project.run(*options, "--netns-leaks=off", user=user)  # the servers are kept on purpose
    result.assert_outcomes(passed=3)
    assert "2 rerun" in result.outlines[-1]


def test_rerunfailures_beside_xdist_starts_a_thread_and_the_sandbox_is_entered_before(project: Project) -> None:
    project.write("test_inside.py", NETWORKS)
    both = ("-p", "xdist", "-p", "rerunfailures")
    project.run(*both, "-p", "netns", "--netns-require", user="ordinary").assert_outcomes(passed=6)
    project.run(*both, "-p", "netns", "--netns-require", "-n", "2", user="ordinary").assert_outcomes(passed=6)


@pytest.mark.parametrize(
    ("workers", "why"), [((), "*has 2 threads already (*run_server*"), (("-n", "2"), "*a worker of*")]
)
def test_a_run_beside_rerunfailures_and_xdist_that_does_not_name_us_fails_and_is_not_green(
    project: Project, workers: tuple[str, ...], why: str
) -> None:
    project.write("test_inside.py", NETWORKS)
    both = ("-p", "xdist", "-p", "rerunfailures", *workers)
    result = project.run(*both, user="ordinary")
    assert result.ret == 1
    assert result.parseoutcomes().get("skipped") is None
    result.stdout.fnmatch_lines(["*though this machine allows it: pytest-rerunfailures starts a thread*"])
    result.stdout.fnmatch_lines([why])
    result.stdout.fnmatch_lines(["*-p no:rerunfailures*"])
    forbidden = project.run(*both, "--netns-sandbox=never", user="ordinary")
    forbidden.assert_outcomes(skipped=6)  # it was named, and told not to


SUBTESTS = """
import unittest
import pytest

def test_it(subtests, veth_pair):
    left, right = veth_pair
    for port in (1, 2):
        with subtests.test(port=port):
            assert left.tcp(right, port).state == "closed"
    with subtests.test("broken"):
        right.interfaces["eth0"].down()
        assert left.ping(right, timeout=0.1)
    with subtests.test("mended"):
        right.interfaces["eth0"].up()
        assert left.ping(right, timeout=5)

@pytest.mark.netns
class TestUnit(unittest.TestCase):
    def test_it(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)
"""


def test_subtests_are_reported_one_by_one_and_the_failed_one_is_explained(project: Project) -> None:
    project.write("test_inside.py", SUBTESTS)
    if pytest.version_tuple < (9,):
        pytest.skip("pytest has subtests from version 9 on")
    result = project.run("-p", "no:randomly")
    result.stdout.fnmatch_lines(
        [
            "*test_it ?broken?*",
            "*netns: why*",
            "cause: interface 'eth0' of 'right' is down*",
            "SUBFAILED?broken? *",
            "SUBFAILED(number=1) *",
        ]
    )
    assert result.stdout.str().count("netns: why") == 1


def test_the_last_failed_alone_are_run_again(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        NETWORKS + "\ndef test_red(veth_pair):\n    left, right = veth_pair\n    assert left.tcp(right, 1)\n",
    )
    cache = ("-o", f"cache_dir={project.temporary}/cache", "--netns-require")
    project.run(*cache, user=user).assert_outcomes(passed=6, failed=1)
    result = project.run(*cache, "--lf", user=user)
    result.assert_outcomes(failed=1)
    project.run(*cache, "--ff", "-x", user=user).assert_outcomes(failed=1)


def test_the_first_failure_ends_the_run_and_all_is_torn_down(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        NETWORKS.replace("assert red.tcp(blue, 8080)", "assert not red.tcp(blue, 8080)"),
    )
    for workers in ((), ("-p", "xdist", "-n", "2", "-p", "netns")):
        with project.start("-x", "-p", "no:randomly", *workers, user=user) as running:
            result = running.result()
            assert result.ret in (1, 2), running.output
            assert result.parseoutcomes()["failed"] in (1, 2)
            assert not await_none(running.processes)


@pytest.mark.parametrize("option", [[], ["--netns-isolate"]], ids=["lab", "isolated"])
def test_ctrl_c_ends_a_distributed_run_and_all_its_processes(project: Project, user: User, option: list[str]) -> None:
    # Without workers: test_death.py
    project.write(
        "test_inside.py",
        """
import time
from outside import tell_outside

def test_it(veth_pair):
    left, right = veth_pair
    right.spawn(["sleep", "1022"])
    tell_outside(up=True)
    time.sleep(60)
""",
    )
    with project.start("-p", "xdist", "-n", "1", "-p", "netns", *option, user=user) as running:
        running.report()
        assert any(process.command == "sleep" for process in running.processes())
        running.popen.send_signal(signal.SIGINT)
        result = running.result()
        assert result.ret == pytest.ExitCode.INTERRUPTED
        left: object = await_none(running.processes)
        assert not left


GREENLETS = {
    "gevent": ("from gevent import monkey", "monkey.patch_all", "thread=False, queue=False, subprocess=False"),
}


@pytest.mark.parametrize("library", GREENLETS)
def test_greenlets_for_threads_are_an_error_that_names_the_cure(project: Project, user: User, library: str) -> None:
    if find_spec(library) is None:  # not imported here: it registers what runs at each fork
        pytest.skip(f"{library} is not installed")
    imported, patch, cure = GREENLETS[library]
    project.write("conftest.py", f"{imported}\n{patch}()\n")
    project.write("test_inside.py", "def test_it(lab):\n    lab.host('red')\n")
    result = project.run("-W", "ignore", user=user, fresh=True)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{patch.split('.')[-1]}({cure})*"])


@pytest.mark.parametrize("library", GREENLETS)
def test_what_the_cure_leaves_of_greenlets_is_a_friend(project: Project, user: User, library: str) -> None:
    if find_spec(library) is None:  # not imported here: it registers what runs at each fork
        pytest.skip(f"{library} is not installed")
    imported, patch, cure = GREENLETS[library]
    project.write("conftest.py", f"{imported}\n{patch}({cure})\n")
    project.write(
        "test_inside.py",
        """
import os

def here():
    return os.readlink("/proc/thread-self/ns/net")

def test_it(veth_pair):
    (left, right), before = veth_pair, here()
    assert str(right.inode) in right.call(here)
    assert here() == before
    assert left.ping(right)
    assert left.run(["true"])
""",
    )
    project.run("-W", "ignore", user=user, fresh=True).assert_outcomes(passed=1)


def test_threads_that_become_greenlets_during_a_test_leave_the_next_ones_alone(project: Project, user: User) -> None:
    if find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    project.write(
        "test_inside.py",
        """
import os
import pytest
from pytest_netns import NetnsError

def here():
    return os.readlink("/proc/thread-self/ns/net")

HOME = []

def test_patched_in_the_middle(lab):
    HOME.append(here())
    red = lab.host("red")
    red.run(["true"])
    from gevent import monkey
    monkey.patch_all()
    for use in (lambda: red.call(here), lambda: red.run(["true"]), lambda: red.spawn(["true"]), red.__enter__):
        with pytest.raises(NetnsError, match="gevent has replaced threading, queue, subprocess"):
            use()

def test_next():
    assert [here()] == HOME
""",
    )
    project.run("-W", "ignore", "-p", "no:randomly", user=user).assert_outcomes(passed=2)


@pytest.mark.parametrize("option", ["--disable-socket", "--allow-hosts=203.0.113.1"])
@pytest.mark.netns_requires("nft")
def test_pytest_socket_does_not_forbid_networks_that_reach_nobody(project: Project, user: User, option: str) -> None:
    pytest.importorskip("pytest_socket")
    # the first test imports scapy, the second one pyroute2: neither was there before sockets were refused
    project.write(
        "test_inside.py",
        """
import sys
from pytest_netns import Capture, why

def test_one(veth_pair):
    left, right = veth_pair
    right.spawn(["sleep", "1050"])
    with left.capture() as capture:
        left.run([sys.executable, "-c", f"import socket; socket.socket(2, 2).sendto(b'x', ('{right.ip4}', 9))"])
        assert any(packet.haslayer("UDP") for packet in capture.packets)
    assert left.ping(right)
    right.block(protocol="icmp")
    assert why(left.ping(right, timeout=0.2)).node == "right"

def test_two(lab):
    red = lab.host("red")
    assert [link.get("ifname") for link in red.iproute.get_links()] == ["lo"]
    red.nft("add table inet t")
""",
    )
    result = project.run("-p", "pytest_socket", option, "-p", "no:randomly", user=user)
    result.assert_outcomes(passed=2)
