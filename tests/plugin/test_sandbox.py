"""Privileges: who gets networks, by what means, and what the others are told."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_netns import PrivilegeError
from pytest_netns.kernel import sandbox
from pytest_netns.kernel.sandbox import Access
from pytest_netns.plugin import session

from .inner import Project, User, skip_unless_nobody_can_run

ROOTLESS = "netns: rootless (this session is in a user namespace; the host's network is out of reach)"

#: Tells which user namespace the session is in, at the very end, and whether this changed.
WATCH_NAMESPACE = """
import os
from outside import tell_outside

AT_START = os.readlink("/proc/self/ns/user")

def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        tell_outside(moved=os.readlink("/proc/self/ns/user") != AT_START)
"""

USES_A_NETWORK = """
def test_one(netns):
    assert [name for name in netns.interfaces] == ["lo"]
"""

USES_NONE = """
def test_two():
    pass
"""


def sys_admin() -> bool:
    """Whether this very process may do everything, as root does."""
    return os.geteuid() == 0 and not sandbox.in_user_namespace()


# ------------------------------------------------------------------ entering


def test_an_ordinary_user_gets_networks_and_stays_the_same_user(project: Project) -> None:
    skip_unless_nobody_can_run()
    project.write(
        "test_inside.py",
        f"""
        import os, socket
        import pytest

        def test_user(netns):
            assert os.getuid() == os.geteuid() == {os.getuid() or 65534}
            assert netns.run(["id", "-u"]).stdout == "{os.getuid() or 65534}\\n"

        def test_capabilities_survive_exec(netns):
            netns.run(["dd", "of=/proc/sys/net/ipv4/ip_default_ttl"], input="9")
            assert netns.sysctl["net.ipv4.ip_default_ttl"] == "9"

        def test_capabilities_survive_two_execs(netns):
            netns.run(["sh", "-c", "env dd of=/proc/sys/net/ipv4/ip_default_ttl"], input="9")
            assert netns.sysctl["net.ipv4.ip_default_ttl"] == "9"

        def test_a_file_that_may_not_be_read_cannot_be(tmp_path):
            secret = tmp_path / "secret"
            secret.touch(mode=0)
            with pytest.raises(PermissionError):
                secret.read_text()

        def test_packets_pass(veth_pair):
            left, right = veth_pair
            assert left.ping(right)

        def test_loopback_works_outside_of_all_labs():
            with socket.create_server(("127.0.0.1", 0)) as server:
                with socket.create_connection(server.getsockname(), timeout=5):
                    pass
        """,
    )
    result = project.run(user="ordinary")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines([ROOTLESS])


def test_root_stays_where_it_is(project: Project) -> None:
    project.write("conftest.py", WATCH_NAMESPACE)
    project.write("test_inside.py", USES_A_NETWORK)
    with project.start() as running:
        assert running.report() == {"moved": False}
        result = running.result()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["netns: root"])


def test_root_enters_when_told_to(project: Project) -> None:
    if not sys_admin():
        pytest.skip("this process is in a user namespace, or not root: there is nothing more to enter")
    project.write("conftest.py", WATCH_NAMESPACE.replace("AT_START =", f"AT_START = {own_user_namespace()!r} #"))
    project.write("test_inside.py", USES_A_NETWORK)
    with project.start("--netns-sandbox=always") as running:
        assert running.report() == {"moved": True}
        result = running.result()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["netns: root*"])


def own_user_namespace() -> str:
    return os.readlink("/proc/self/ns/user")


def test_the_sandbox_is_entered_for_a_test_that_needs_it(project: Project) -> None:
    project.write("conftest.py", WATCH_NAMESPACE)
    project.write("test_inside.py", USES_A_NETWORK + USES_NONE)
    with project.start(user="ordinary") as running:
        assert running.report() == {"moved": True}
        running.result().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["test_other.py"], id="no test of ours"),
        pytest.param(["--collect-only"], id="collect-only"),
        pytest.param(["-k", "two"], id="deselected"),
        pytest.param(["-p", "netns", "test_other.py"], id="named but not used"),
        pytest.param(["--netns-sandbox=never"], id="never"),
    ],
)
def test_a_session_that_does_not_need_the_sandbox_is_not_touched(project: Project, arguments: list[str]) -> None:
    project.write("conftest.py", WATCH_NAMESPACE)
    project.write("test_inside.py", USES_A_NETWORK + USES_NONE)
    project.write("test_other.py", USES_NONE)
    with project.start(*arguments, user="ordinary") as running:
        assert running.report() == {"moved": False}
        result = running.result()
    assert result.ret == 0
    assert "failed" not in result.stdout.str()
    assert "rootless" not in result.stdout.str()


def test_a_fixture_of_the_users_own_counts(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import pytest

        @pytest.fixture(scope="module")
        def backbone(lab_factory):
            return lab_factory("backbone")

        def test_one(backbone):
            backbone.host("red")
        """,
    )
    result = project.run(user="ordinary")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([ROOTLESS])


def test_a_fixture_asked_for_by_name_at_run_time_enters_too(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        def test_one(request):
            assert request.getfixturevalue("netns").run(["true"]).returncode == 0
        """,
    )
    project.run(user="ordinary").assert_outcomes(passed=1)


# ------------------------------------------------------------------- workers


@pytest.mark.parametrize(
    ("arguments", "ini", "env"),
    [
        pytest.param(["-p", "netns"], (), {}, id="plugin named"),
        pytest.param([], ("netns_sandbox = auto",), {}, id="ini key"),
        pytest.param(["--netns-sandbox=auto"], (), {}, id="option"),
        pytest.param([], (), {"PYTEST_NETNS_SANDBOX": "auto"}, id="variable"),
    ],
)
def test_the_controller_enters_before_the_workers_start(
    project: Project, arguments: list[str], ini: tuple[str, ...], env: dict[str, str]
) -> None:
    project.ini(*ini)
    project.write(
        "test_inside.py",
        f"""
        import os
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_one(veth_pair, number):
            left, right = veth_pair
            assert left.ping(right)
            assert os.readlink("/proc/self/ns/user") != {own_user_namespace()!r}
        """,
    )
    result = project.run("-p", "xdist", "-n", "2", *arguments, user="ordinary", env=env)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([ROOTLESS])


def test_workers_of_a_run_that_did_not_ask_are_told_the_cure(project: Project) -> None:
    project.write("conftest.py", WATCH_NAMESPACE)
    project.write("test_inside.py", USES_A_NETWORK)
    with project.start("-p", "xdist", "-n", "2", "-rs", user="ordinary") as running:
        assert running.report() == {"moved": False}
        result = running.result()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*netns unavailable: *a worker of pytest-xdist cannot enter*cure: *-p netns*netns_sandbox*"]
    )


# ------------------------------------------------------------------ refusals

TWO_THREADS = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""

#: Answers EPERM to unshare(2), as Docker's default filter does. See seccomp(2), classic BPF.
REFUSE_UNSHARE = """
import ctypes, os, struct, sys

number = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),  # load the number of the system call
        (0x15, 0, 1, number),  # if it is unshare:
        (0x06, 0, 0, 0x00050000 | 1),  # SECCOMP_RET_ERRNO, EPERM
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
)
code = ctypes.create_string_buffer(program, len(program))
description = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.c_char_p(description), 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, filter
os.execv(sys.argv[1], sys.argv[1:])
"""


def no_namespaces(kind: str) -> tuple[str, ...]:
    """Words in front of a command: no namespace of this kind may be made, and it has no capabilities."""
    script = f"echo 0 >/proc/sys/user/max_{kind}_namespaces && "
    script += 'exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"'
    return ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")


def refused(project: Project, cause: str, *arguments: str) -> pytest.RunResult:
    """Run a session in which one test needs a network, and nobody gives it one."""
    project.write("test_inside.py", USES_A_NETWORK + USES_NONE)
    if cause == "threads":
        project.write("conftest.py", TWO_THREADS)
    if cause == "seccomp":
        if platform.machine() not in ("x86_64", "aarch64"):
            pytest.skip(f"the filter is not written for {platform.machine()}")
        wrapper = project.write("refuse_unshare.py", REFUSE_UNSHARE)
        return project.run(*arguments, user="ordinary", python=[sys.executable, str(wrapper), sys.executable])
    if cause == "never":
        arguments += ("--netns-sandbox=never",)
    through = no_namespaces(cause) if cause in ("user", "net") else ()
    return project.run(*arguments, user="ordinary", through=through)


#: What cures it depends on who forbids it.
IN_DOCKER = os.path.exists("/.dockerenv")
EXPLANATIONS = {
    "threads": "*this process has 2 threads already*cure: *--netns-sandbox=always*",
    "never": "*--netns-sandbox=never forbids*cure: run as root, or allow it*",
    "user": "*user.max_user_namespaces is 0; cure: sudo sysctl -w user.max_user_namespaces=*",
    "net": "*user.max_net_namespaces is 0; cure: sudo sysctl -w user.max_net_namespaces=*",
    "seccomp": f"*seccomp filter refuses it*cure: {'docker run --privileged' if IN_DOCKER else 'have whoever set it'}*",
}


@pytest.mark.parametrize("cause", EXPLANATIONS)
def test_a_refusal_skips_with_its_cause_and_its_cure(project: Project, cause: str) -> None:
    result = refused(project, cause, "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"netns: unavailable ({EXPLANATIONS[cause]})", f"SKIPPED*{EXPLANATIONS[cause]}"])


@pytest.mark.parametrize("cause", EXPLANATIONS)
def test_a_refusal_fails_when_networks_are_required(project: Project, cause: str) -> None:
    result = refused(project, cause, "--netns-require")
    assert result.ret == 1
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 1
    assert "skipped" not in outcomes
    assert outcomes.get("errors", 0) + outcomes.get("failed", 0) == 1
    result.stdout.fnmatch_lines([f"*netns is required (--netns-require) and unavailable: {EXPLANATIONS[cause]}"])


def test_threads_of_a_conftest_do_no_harm_when_the_sandbox_is_entered_at_start(project: Project) -> None:
    project.write("conftest.py", TWO_THREADS)
    project.write("test_inside.py", USES_A_NETWORK)
    result = project.run("--netns-sandbox=always", user="ordinary")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([ROOTLESS])


def test_a_refusal_of_always_skips_and_says_why(project: Project) -> None:
    project.write("test_inside.py", USES_A_NETWORK)
    result = project.run("-rs", "--netns-sandbox=always", user="ordinary", through=no_namespaces("user"))
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"SKIPPED*{EXPLANATIONS['user']}"])


def test_sysctls_that_cannot_be_written_skip_and_say_why(project: Project) -> None:
    project.write("test_inside.py", USES_A_NETWORK)
    read_only = ("unshare", "--mount", "sh", "-c", 'mount -n --bind -o ro /proc/sys /proc/sys && exec "$@"', "sh")
    result = project.run("-rs", user="root", through=read_only)
    result.assert_outcomes(skipped=1)
    cure = "docker run --security-opt systempaths=unconfined" if IN_DOCKER else "mount it for writing"
    result.stdout.fnmatch_lines([f"SKIPPED*/proc/sys is read-only*cure: {cure}*"])


#: As toolbox and "podman run --network=host" make it: root in a user namespace, on a network that belongs to another.
ON_ANOTHERS_NETWORK = ("unshare", "--user", "--map-root-user")


def test_a_user_namespace_on_the_network_of_another_is_left_for_one_with_its_own(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        USES_A_NETWORK + "\ndef test_packets(veth_pair):\n    a, b = veth_pair\n    assert a.ping(b)\n",
    )
    result = project.run(user=user, through=ON_ANOTHERS_NETWORK)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([ROOTLESS])


@pytest.mark.parametrize("cause", ["threads", "user"])
def test_where_that_is_impossible_tests_skip_and_the_cause_is_said(project: Project, cause: str) -> None:
    project.write("test_inside.py", USES_A_NETWORK)
    through = ON_ANOTHERS_NETWORK
    said = "*cure: give it a network of its own too*"
    if cause == "threads":
        project.write("conftest.py", TWO_THREADS)
        said = (
            "*belongs to another user namespace, so it could not return to it, and this process has 2 threads already*"
        )
    else:
        through += ("sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh")
    result = project.run("-rs", through=through)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"SKIPPED{said}"])


def test_the_library_says_so_and_leaves_the_thread_where_it_is() -> None:
    code = """
import os
from pytest_netns import Namespace, PrivilegeError, enter_sandbox
before = os.readlink("/proc/thread-self/ns/net")
for _ in range(2):
    try:
        Namespace("red")
    except PrivilegeError as error:
        assert "'red'" in str(error) and "enter_sandbox()" in str(error), error
    else:
        raise AssertionError("made")
    assert os.readlink("/proc/thread-self/ns/net") == before
assert enter_sandbox().mode == "rootless"
Namespace("red").close()
"""
    subprocess.run([*ON_ANOTHERS_NETWORK, sys.executable, "-c", code], check=True)


# ---------------------------------------------------------- diagnosis, probe


def diagnosis(step: str, number: int, **files: str) -> str:
    """What is said if these files, named by their last part, are all there is."""
    return sandbox.diagnose(
        step, number, lambda path: files.get(Path(path).name, ""), lambda path: Path(path).name in files
    )


@pytest.mark.parametrize(
    ("step", "number", "files", "words"),
    [
        ("unshare", errno.ENOSPC, {"max_user_namespaces": "0"}, ["sysctl -w user.max_user_namespaces="]),
        ("unshare", errno.ENOSPC, {"max_net_namespaces": "0"}, ["sysctl -w user.max_net_namespaces="]),
        ("unshare", errno.ENOSPC, {"max_mnt_namespaces": "0"}, ["sysctl -w user.max_mnt_namespaces="]),
        ("unshare", errno.ENOSPC, {"max_user_namespaces": "99"}, ["too many namespaces", "lsns"]),
        (
            "write uid_map",
            errno.EACCES,
            {"apparmor_restrict_unprivileged_userns": "1", "status": "Seccomp:\t2"},
            ["write uid_map", "EACCES", "AppArmor", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"],
        ),
        (
            "unshare",
            errno.EPERM,
            {"unprivileged_userns_clone": "0"},
            ["Debian", "sysctl -w kernel.unprivileged_userns_clone=1"],
        ),
        ("unshare", errno.EPERM, {"status": "Name:\tpython\nSeccomp:\t2\n"}, ["seccomp", "cure: have whoever set it"]),
        ("unshare", errno.EPERM, {"status": "Seccomp:\t2\n", ".dockerenv": ""}, ["seccomp", "docker run --privileged"]),
        ("/proc/sys/x", errno.EROFS, {"status": "Seccomp:\t2"}, ["read-only", "cure: mount it for writing"]),
        ("/proc/sys/x", errno.EROFS, {".dockerenv": ""}, ["read-only", "systempaths=unconfined"]),
        (
            "unshare",
            errno.EPERM,
            {"apparmor_restrict_unprivileged_userns": "0", "unprivileged_userns_clone": "1", "status": "Seccomp:\t0"},
            ["Operation not permitted (EPERM)", "run as root", "chroot"],
        ),
        ("", 0, {}, ["user namespace: failed", "run as root"]),
    ],
)
def test_diagnosis_names_step_cause_and_cure(step: str, number: int, files: dict[str, str], words: list[str]) -> None:
    said = diagnosis(step, number, **files)
    assert said.startswith(step or "user namespace")
    for word in words:
        assert word in said


def test_the_causes_are_not_mistaken_for_one_another() -> None:
    said = diagnosis("unshare", errno.EPERM, max_user_namespaces="0", status="Seccomp:\t0")
    assert "max_user_namespaces" not in said
    assert "seccomp" not in said


@pytest.mark.parametrize(
    ("step", "number", "cause"),
    [
        ("unshare", errno.EPERM, "seccomp"),  # Docker on Ubuntu: the filter comes first
        ("unshare", errno.EACCES, "AppArmor"),
        ("write uid_map", errno.EPERM, "AppArmor"),  # a filter that has let unshare(2) pass
    ],
)
def test_in_a_container_the_switch_of_its_host_is_no_proof(step: str, number: int, cause: str) -> None:
    said = diagnosis(step, number, apparmor_restrict_unprivileged_userns="1", status="Seccomp:\t2")
    assert cause in said
    assert ({"seccomp", "AppArmor"} - {cause}).pop() not in said.replace("apparmor=unconfined", "")


def test_probing_leaves_the_process_as_it_was(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
        import os, signal
        from pytest_netns.kernel import sandbox

        def state():
            kinds = sorted(os.listdir("/proc/self/ns"))
            return {
                "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds},
                "descriptors": sorted(os.listdir("/proc/self/fd")),
                "threads": sandbox.thread_count(),
                "capabilities": sandbox.capabilities(),
                "user": os.getresuid() + os.getresgid(),
                "interfaces": os.listdir("/sys/class/net"),
            }

        def test_one():
            before = state()
            assert sandbox.probe().available
            assert state() == before
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            raise AssertionError("the probing child is still there")
        """,
    )
    project.run(user=user).assert_outcomes(passed=1)


def test_the_kernel_is_asked_once(project: Project, user: User) -> None:
    project.write(
        "conftest.py",
        """
        from pytest_netns.kernel import sandbox
        from outside import tell_outside

        asked, probe = [], sandbox.probe

        def counting():
            asked.append(1)
            return probe()

        sandbox.probe = counting

        def pytest_sessionfinish():
            tell_outside(asked=len(asked))
        """,
    )
    project.write("test_inside.py", USES_A_NETWORK + USES_A_NETWORK.replace("test_one", "test_three"))
    with project.start(user=user) as running:
        assert running.report() == {"asked": 1}
        running.result().assert_outcomes(passed=2)


def test_a_library_user_can_enter_without_pytest(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import subprocess, sys

        SCRIPT = '''
        import pytest_netns
        assert pytest_netns.enter_sandbox().mode == "rootless"
        assert pytest_netns.enter_sandbox().entered
        with pytest_netns.Lab() as lab:
            red, blue = lab.host("red"), lab.host("blue")
            lab.connect(red, blue)
            assert red.ping(blue)
        '''

        def test_one():
            subprocess.run([sys.executable, "-c", SCRIPT.replace("        ", "")], check=True)
        """,
    )
    project.run("-p", "no:netns", user="ordinary", python=[sys.executable]).assert_outcomes(passed=1)


def test_a_move_that_is_refused_after_all_makes_networks_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> Access:
        raise PrivilegeError("the cause; the cure")

    monkeypatch.setattr(sandbox, "enter_now", refused)
    found = session._entered(Access("root"))
    assert (found.mode, found.reason) == ("unavailable", "the cause; the cure")
    inside = Access("rootless", entered=True)
    assert session._entered(inside) is inside


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")])
def test_the_sandbox_is_a_node_and_the_machines_own_network_is_none(project: Project, workers: tuple[str, ...]) -> None:
    project.write(
        "test_inside.py",
        """
        import socket

        def test_here(lab):
            here, red = lab.here(), lab.host("red")
            lab.connect(here, red, "192.0.2.0/24")
            with socket.create_server(("192.0.2.1", 8080)):
                assert red.tcp(here, 8080)
            assert red.ping(here.ip6)
        """,
    )
    project.run("-p", "netns", *workers, user="ordinary").assert_outcomes(passed=1)
    if os.geteuid() == 0:
        project.run("--netns-sandbox=always", "test_inside.py", *workers).assert_outcomes(passed=1)
        refused = project.run("-p", "netns", "test_inside.py", *workers)
        refused.assert_outcomes(failed=1)
        refused.stdout.fnmatch_lines(["*machine's own network*--netns-sandbox=always*"])


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")])
@pytest.mark.parametrize("how", [("--netns-root",), ("-o", "netns_root=true")], ids=["option", "ini"])
def test_a_suite_that_asks_for_root_has_it_when_it_is_imported(
    project: Project, how: tuple[str, ...], workers: tuple[str, ...]
) -> None:
    project.write(
        "test_inside.py",
        """
        import os
        import pytest

        pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

        def test_who(lab, tmp_path):
            assert os.getuid() == os.getegid() == 0
            red, blue = lab.host("red", isolate={"mount", "pid"}), lab.host("blue")
            lab.connect(red, blue)
            assert red.ping(blue)
            assert red.run(["id", "-u"]).stdout == "0\\n"
            (tmp_path / "mine").write_text("")
            assert (tmp_path / "mine").stat().st_uid == 0
            assert os.access("/proc/self/uid_map", os.R_OK)
            red.run(["mount", "-t", "tmpfs", "none", "/mnt"])
        """,
    )
    project.run(*how, *workers, user="ordinary").assert_outcomes(passed=1)
    if os.geteuid() == 0 and not workers:
        without = project.run("--netns-require", "test_inside.py", user="ordinary")
        without.assert_outcomes(skipped=1)


def test_who_becomes_root_keeps_the_folder_for_temporary_files(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import getpass
        import os
        import pwd

        def test_who(tmp_path):
            assert os.getuid() == 0
            with open("/proc/self/uid_map", encoding="ascii") as file:
                outside = int(file.read().split()[1])
            assert getpass.getuser() == pwd.getpwuid(outside).pw_name
            assert f"pytest-of-{getpass.getuser()}" in str(tmp_path)
        """,
    )
    unset = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")
    result = project.run("--netns-root", user="ordinary", env=unset)
    result.assert_outcomes(passed=1)
