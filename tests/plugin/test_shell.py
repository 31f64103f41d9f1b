"""``--netns-shell``: a shell in the lab of a failed test; ``pytest-netns shell``: the same from another terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from .inner import NOBODY, Process, Project, User, as_user, await_none, processes_of, skip_unless_nobody_can_run
from .person import Person

QUESTION = r"which node \(name or number; Enter goes on\)\? "
FAILS = """
def test_one(veth_pair):
    left, right = veth_pair
    print("words of the test")
    assert left is right

def test_two(lab):
    pass
"""


def prompt(node: str) -> str:
    return rf"\[netns {node}\][#$] "


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_shell_in_the_chosen_node(project: Project, user: User, shell: str) -> None:
    project.write("test_inside.py", FAILS)
    # a start-up file must not take the prompt away
    project.write(".bashrc", "PS1='wrong> '\n")
    with Person(project, "--netns-shell", user=user, shell=shell) as person:
        head = person.reads(QUESTION)
        assert "netns: test_inside.py::test_one failed in call: AssertionError: assert" in head
        assert re.search(r"1  lab/left   nsenter .*--net=/proc/\d+/fd/\d+\n  2  lab/right  nsenter ", head)
        assert f"pytest-netns shell {re.findall('/proc/([0-9]+)/fd', head)[0]} NODE" in head
        assert "words of the test" not in head
        person.types("left\n")
        person.reads(prompt("lab/left"))
        person.types("cat /proc/net/fib_trie\n")
        assert "-- 10.0.0.1\n" in person.reads(prompt("lab/left"))
        person.types("exit 3\n")
        person.reads(QUESTION)
        person.types("2\n")
        person.reads(prompt("lab/right"))
        person.types("cat /proc/net/fib_trie\n")
        assert "-- 10.0.0.2\n" in person.reads(prompt("lab/right"))
        person.types("exit\n")
        person.reads(QUESTION)
        person.types("\n")
        result = person.leaves()
    result.assert_outcomes(failed=1, passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*Captured stdout call*", "words of the test"])


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_the_shell_controls_jobs_and_ctrl_c_is_its_own(project: Project, user: User, shell: str) -> None:
    project.write("test_inside.py", FAILS)
    project.write("waiting.txt", "it runs\n")
    with Person(project, "--netns-shell", "-k", "one", user=user, shell=shell) as person:
        person.reads(QUESTION)
        person.types("1\n")
        assert "no job control" not in person.reads(prompt("lab/left"))
        for key in ("\x03", "\x1a"):
            person.types("tail -f waiting.txt\n")
            person.reads("it runs\n")
            person.types(key)
            person.reads(prompt("lab/left"))
        person.types("jobs; kill -KILL %1\n")
        assert "Stopped" in person.reads(prompt("lab/left"))
        person.types("exit\n")
        person.reads("stopped jobs|" + QUESTION)
        person.types("exit\n")
        person.types("\n")
        assert person.leaves().ret == 1


def test_a_shell_in_an_isolated_host(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
        def test_one(lab):
            lab.host("blue", isolate={"mount", "uts", "pid"})
            assert not lab
        """,
    )
    with Person(project, "--netns-shell", user=user) as person:
        person.reads(prompt("lab/blue"))  # there is one node: no question
        person.types("hostname; readlink /proc/self; cat /etc/hosts\n")
        shown = person.reads(prompt("lab/blue"))
        assert "\nblue\n" in shown
        assert int(re.findall(r"^(\d+)$", shown, re.MULTILINE)[0]) < 100
        person.types("exit\n")
        person.reads(QUESTION)
        person.types("\n")
        assert person.leaves().ret == 1


def test_a_failure_in_set_up_stops_too_and_one_without_a_lab_does_not(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import pytest

        @pytest.fixture
        def broken(lab):
            lab.host("red")
            raise ValueError("no good")

        def test_without():
            assert 0

        def test_one(broken):
            pass
        """,
    )
    with Person(project, "--netns-shell") as person:
        head = person.reads(prompt("lab/red"))
        assert "test_inside.py::test_one failed in setup: ValueError: no good" in head
        assert "test_without failed" not in head
        person.types("exit\n")
        person.reads(QUESTION)
        person.types("green\n")
        assert "no such node" in person.reads(QUESTION)
        person.types("\x04")
        result = person.leaves()
    result.assert_outcomes(failed=1, errors=1)


def test_a_shell_that_does_not_exist_leaves_the_question(project: Project) -> None:
    project.write("test_inside.py", FAILS)
    with Person(project, "--netns-shell", "-k", "one", shell="/no/such/shell") as person:
        person.reads(QUESTION)
        person.types("left\n")
        assert "cannot run '/no/such/shell'" in person.reads(QUESTION)
        person.types("\n")
        assert person.leaves().ret == 1


def test_a_shell_dies_with_the_session(project: Project, user: User) -> None:
    project.write("test_inside.py", FAILS)
    with Person(project, "--netns-shell", user=user) as person:
        person.reads(QUESTION)
        person.types("left\n")
        person.reads(prompt("lab/left"))
        person.types("trap '' HUP TERM; setsid -f sleep 1013; echo be''gun\n")
        person.reads("begun\n")

        def inside() -> set[Process]:
            return {each for each in processes_of(person.pid, person.token) if each.command in ("sh", "sleep")}

        assert not await_none(lambda: not {"sleep"} <= {each.command for each in inside()})
        found = inside()
        assert {"sh", "sleep"} <= {each.command for each in found}
        # setpriv and unshare become pytest, so this is it
        os.kill(person.pid, signal.SIGKILL)
        person.wait()
        assert not await_none(lambda: {each for each in found if each.alive})


@pytest.mark.parametrize("option", ["shell", "keep"])
@pytest.mark.parametrize("way", ["option", "environment", "ini"])
def test_without_a_terminal_it_is_refused_at_once(project: Project, option: str, way: str) -> None:
    project.write("test_inside.py", FAILS)
    arguments = [f"--netns-{option}"] if way == "option" else []
    env = {f"PYTEST_NETNS_{option.upper()}": "1"} if way == "environment" else {}
    project.ini(*([f"netns_{option} = true"] if way == "ini" else []))
    result = project.run(*arguments, env=env)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([f"ERROR: --netns-{option} needs a terminal, and standard input is none*"])
    overridden = project.run("--collect-only", *arguments, env=env)
    assert overridden.ret == 0


@pytest.mark.parametrize("option", ["shell", "keep"])
def test_with_workers_it_is_refused(project: Project, option: str) -> None:
    project.write("test_inside.py", FAILS)
    with Person(project, "-p", "xdist", "-n", "2", f"--netns-{option}") as person:
        result = person.leaves()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([f"ERROR: --netns-{option} is incompatible with distributing tests*"])


# ------------------------------------------------------------------ from outside

WAITS = """
import os
from outside import tell_outside, wait_for_outside

def test_one(lab, lab_factory, netns):
    red, blue = lab.host("red"), lab.host("blue", isolate={"mount", "uts", "pid"})
    lab.connect(red, blue, "192.168.15.0/24")
    lab_factory("other").host("blue")
    tell_outside(pid=os.getpid(), inode=blue.inode)
    wait_for_outside()
"""


def outside(user: User, *words: object) -> subprocess.CompletedProcess[str]:
    """``pytest-netns shell WORDS`` in a process that knows nothing of the session."""
    command = [*as_user(user), sys.executable, "-m", "pytest_netns", "shell", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL)


def skip_unless_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("the root of this suite is in user namespaces of its own, apart from each other")


def test_a_command_from_another_terminal(project: Project, user: User) -> None:
    if user == "root":
        skip_unless_root()
    project.write("test_inside.py", WAITS)
    with project.start(user=user) as running:
        told = running.report()
        pid = told["pid"]
        done = outside(user, pid, "red", "--", "cat", "/proc/net/fib_trie")
        assert "-- 192.168.15.1\n" in done.stdout, done
        assert outside(user, pid, "red", "--", "sh", "-c", "exit 7").returncode == 7
        # an isolated host as a whole
        done = outside(
            user, pid, "lab/blue", "--", "sh", "-c", "hostname; readlink /proc/self; ls /tmp; getent ahostsv4 red"
        )
        name, number, *_ = done.stdout.split()
        assert (name, int(number) < 100, "192.168.15.1 " in done.stdout) == ("blue", True, True), done
        assert outside(user, pid, "lab/blue", "--", "sh", "-c", "kill -9 $$").returncode == 137
        assert outside(user, pid, "lab/blue", "--", "sh", "-c", "exit 9").returncode == 9
        # nothing needs root inside of a sandbox either
        done = outside(user, pid, "red", "--", "sh", "-c", "echo 9 >/proc/sys/net/ipv4/ip_default_ttl")
        assert done.returncode == 0, done
        running.go_on()
        running.result().assert_outcomes(passed=1)


def test_the_nodes_are_listed_and_a_name_that_several_have_is_refused(project: Project, user: User) -> None:
    if user == "root":
        skip_unless_root()
    project.write("test_inside.py", WAITS)
    with project.start(user=user) as running:
        told = running.report()
        pid, inode = told["pid"], told["inode"]
        done = outside(user, pid)
        assert [row.split()[::2] for row in done.stdout.splitlines()] == [
            ["PID", "NODE"],
            *([str(pid), name] for name in ("netns", "lab/red", "lab/blue", "other/blue")),
        ] or sorted(row.split()[2] for row in done.stdout.splitlines()) == sorted(
            ["NODE", "netns", "lab/red", "lab/blue", "other/blue"]
        ), done
        assert outside(user, pid, "--list").stdout == done.stdout
        ambiguous = outside(user, pid, "blue", "--", "true")
        assert ambiguous.returncode == 1
        assert "several are called 'blue'" in ambiguous.stderr
        assert "other/blue" in ambiguous.stderr
        assert "lab/red" not in ambiguous.stderr
        unknown = outside(user, pid, "green", "--", "true")
        assert unknown.returncode == 1
        assert "there is no node 'green'" in unknown.stderr
        assert "lab/red" in unknown.stderr
        assert outside(user, pid, inode, "--", "hostname").stdout == "blue\n"
        missing = outside(user, pid, "red", "--", "no-such-program")
        assert missing.returncode == 1
        assert "cannot run 'no-such-program' in lab/red" in missing.stderr
        running.go_on()
        running.result()
    gone = outside(user, pid)
    assert gone.returncode == 1
    assert f"there is no process {pid}" in gone.stderr


@pytest.mark.parametrize("visitor", [0, NOBODY, 1234])
def test_root_may_look_into_an_ordinary_users_session_and_strangers_may_not(project: Project, visitor: int) -> None:
    skip_unless_root()
    skip_unless_nobody_can_run()
    project.write("test_inside.py", WAITS)
    with project.start(user="ordinary") as running:
        pid = running.report()["pid"]
        command = ["setpriv", f"--reuid={visitor}", f"--regid={visitor}", "--clear-groups"] if visitor else []
        command += [sys.executable, "-m", "pytest_netns", "shell", str(pid), "red", "--", "cat", "/proc/net/dev"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if visitor == 1234:
            assert done.returncode == 1
            assert "it is another user's; run as that user, or as root" in done.stderr
        else:
            assert "eth0" in done.stdout, done
            assert outside("root", pid, "lab/blue", "--", "hostname").stdout == "blue\n"
        running.go_on()
        running.result()


def test_root_is_no_more_than_the_user_in_whose_session_they_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_root()
    skip_unless_nobody_can_run()
    monkeypatch.setenv("PASSWORD", "hunter2")
    project.write("test_inside.py", WAITS)
    look = "id -u; id -g; cat /proc/self/uid_map; echo ${PASSWORD-none} $LANG; cat /etc/shadow; ls /proc/self/fd"
    with project.start(user="ordinary") as running:
        pid = running.report()["pid"]
        for node in ("red", "lab/blue"):
            done = outside("root", pid, node, "--", "env", "LANG=C", "sh", "-c", look)
            uid, gid, mapped, words, *open_ones = done.stdout.splitlines()
            assert (uid, gid) == (str(NOBODY), str(NOBODY))
            assert mapped.split() == [str(NOBODY), str(NOBODY), "1"]
            assert words == "none C"
            assert "Permission denied" in done.stderr
            assert len(open_ones) == 5  # the standard streams, a lock for iptables, and that of ls
        running.go_on()
        running.result()


def test_root_does_not_lend_another_user_their_terminal(project: Project) -> None:
    skip_unless_root()
    skip_unless_nobody_can_run()
    project.write("test_inside.py", WAITS)
    with project.start(user="ordinary") as running:
        pid = running.report()["pid"]
        master, ours = os.openpty()
        words = [sys.executable, "-m", "pytest_netns", "shell", str(pid), "red", "--", "sh", "-c", "tty; exit 7"]
        done = subprocess.run(words, stdin=ours, stdout=subprocess.PIPE, text=True, check=False, cwd="/")
        assert re.fullmatch(r"/dev/pts/\d+\s*", done.stdout)
        assert done.stdout.strip() != os.ttyname(ours)
        assert done.returncode == 7
        os.close(master)
        os.close(ours)
        running.go_on()
        running.result()


KINDS = [{"mount"}, {"uts"}, {"pid"}, {"mount", "uts"}, {"mount", "pid"}, {"uts", "pid"}]


def test_the_owner_enters_hosts_whatever_they_isolate(project: Project, user: User) -> None:
    if user == "root":
        skip_unless_root()
    project.write(
        "test_inside.py",
        f"""
import os
from outside import tell_outside, wait_for_outside

def test_one(lab):
    for number, kinds in enumerate({KINDS!r}):
        lab.host(f"host-{{number}}", isolate=kinds)
    tell_outside(pid=os.getpid())
    wait_for_outside()
""",
    )
    with project.start(user=user) as running:
        pid = running.report()["pid"]
        here = os.uname().nodename
        for number, kinds in enumerate(KINDS):
            name = f"host-{number}"
            look = "hostname; cat /proc/1/comm; ls /run/pytest-netns/hosts; cat /proc/net/dev"
            done = outside(user, pid, name, "--", "sh", "-c", look)
            hostname, first, *rest = done.stdout.splitlines()
            assert hostname == (name if "uts" in kinds else here), done
            assert (first == "sh") == ("pid" in kinds)
            assert ("/run/pytest-netns/hosts" in rest) == ("mount" in kinds)
            assert " lo: " in rest[-1]  # of this network there is nothing else
        running.go_on()
        running.result()


# A process without any node of ours, which says that it has one, whose process 1 is in namespaces of its own making.
CLAIMS = """
import os, subprocess, sys
child = subprocess.Popen(["unshare", "--user", "--map-root-user", "--mount", "--net", "--uts", "sh", "-c",
                          "hostname mine; echo; exec sleep 1000"], stdout=subprocess.PIPE)
child.stdout.readline()
network = os.open(f"/proc/{child.pid}/ns/net" if sys.argv[1] == "theirs" else "/proc/self/ns/net", os.O_RDONLY)
file = os.memfd_create("pytest-netns:nodes")
os.write(file, f"{network}\\t{os.fstat(network).st_ino}\\t{child.pid}\\tlab\\tred\\n".encode())
print(os.getpid(), flush=True)
sys.stdin.read()
child.kill()
"""


@pytest.mark.parametrize("network", ["theirs", "ours"])
@pytest.mark.parametrize("sandboxed", [False, True])
def test_a_process_that_claims_a_node_lures_nobody_into_its_files(sandboxed: bool, network: str) -> None:
    skip_unless_root()
    skip_unless_nobody_can_run()
    sandbox = ["unshare", "--user", "--map-root-user", "--net"] if sandboxed else []
    words = [*as_user("ordinary"), *sandbox, sys.executable, "-c", CLAIMS, network]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as stranger:
        assert stranger.stdout is not None
        pid = int(stranger.stdout.readline())
        done = outside("root", pid, "red", "--", "hostname")
        assert (done.returncode, done.stdout) == (1, "")
        reason = "belongs to another user namespace" if sandboxed else "it is another user's; run as that user"
        assert f"cannot enter lab/red of process {pid}: " in done.stderr
        assert reason in done.stderr


def test_the_workers_of_a_controller_are_found(project: Project, user: User) -> None:
    if user == "root":
        skip_unless_root()
    project.write("test_inside.py", WAITS)
    with project.start("-p", "netns", "-p", "xdist", "-n", "1", user=user) as running:
        worker = running.report()["pid"]
        assert worker != running.popen.pid
        assert outside(user, running.popen.pid).stdout == outside(user, worker).stdout
        assert "eth0" in outside(user, running.popen.pid, "red", "--", "cat", "/proc/net/dev").stdout
        running.go_on()
        running.result().assert_outcomes(passed=1)


def test_a_process_without_nodes_says_so() -> None:
    # Not this one: it keeps the labs of lab_factory that other tests have made.
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        done = outside("root", process.pid)
        command = outside("root", process.pid, "--", "true")
        process.communicate()
    assert done.returncode == 1
    assert "holds no node now" in done.stderr
    assert command.returncode == 2
