from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from slowness import patient

from pytest_netns import (
    CommandError,
    Lab,
    Namespace,
    NetnsError,
    Process,
    ProcessDied,
    WaitTimeout,
    eventually,
    ready,
)
from pytest_netns.kernel import procfs, search_path
from pytest_netns.kernel.search_path import find_program
from pytest_netns.process import process
from pytest_netns.process.isolation import Kind

pytestmark = pytest.mark.usefixtures("netns_factory")

SERVER = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    server.accept()[0].close()
"""

# A daemon as they are written: forked twice, in a session of its own, deaf to polite signals.
DAEMON = """
import os, signal
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
up, tell = os.pipe()
if os.fork():
    os.read(up, 1)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.write(1, os.readlink("/proc/self").encode())
os.write(tell, b"!")
while True:
    signal.pause()
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def start_daemon(ns: Namespace) -> int:
    """A pidfd of a daemon that runs in the namespace."""
    return os.pidfd_open(int(ns.run(python(DAEMON)).stdout))


# ----------------------------------------------------------------------- run


def test_run_returns_both_streams_and_the_status(netns: Namespace) -> None:
    done = netns.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_run_is_inside(netns: Namespace) -> None:
    assert netns.run(["readlink", "/proc/self/ns/net"]).stdout == f"net:[{netns.inode}]\n"


def test_standard_input_is_empty_unless_it_is_given(netns: Namespace) -> None:
    assert netns.run(["cat"]).stdout == ""
    assert netns.run(["cat"], input="grüße\n").stdout == "grüße\n"


def test_large_input_and_output_do_not_block(netns: Namespace) -> None:
    text = "x" * 1_000_000
    assert netns.run(["cat"], input=text, timeout=60).stdout == text


def test_output_of_any_size_is_harmless(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MOST", 5)
    grow = "import os; os.write(1, b'some words'); os.ftruncate(1, 200 << 30)"
    assert netns.run(python(grow)).stdout == f"some \n[{(200 << 30) - 5} more bytes]\n"


def test_output_that_is_no_text_is_no_error(netns: Namespace) -> None:
    assert netns.run(["printf", r"a\377b"]).stdout == "a�b"


def test_the_environment_is_ours_or_the_one_given(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOSE", "ours")
    script = ["/bin/sh", "-c", "echo ${WHOSE-nobody}"]
    assert netns.run(script).stdout == "ours\n"
    assert netns.run(script, env={}).stdout == "nobody\n"
    assert netns.run(script, env={"WHOSE": "given"}).stdout == "given\n"


def test_the_working_directory_can_be_chosen(netns: Namespace, tmp_path: Path) -> None:
    assert netns.run(["pwd"], cwd=tmp_path).stdout.strip() == str(tmp_path.resolve())


def test_paths_are_accepted_as_words(netns: Namespace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    assert netns.run(["cat", tmp_path / "file"]).stdout == "content"


def test_a_bad_exit_shows_the_command_the_status_and_both_streams(netns: Namespace) -> None:
    with pytest.raises(CommandError) as caught:
        netns.run(["sh", "-c", "echo some output; echo some complaint >&2; exit 3"])
    error = caught.value
    assert (error.returncode, error.stdout, error.stderr) == (3, "some output\n", "some complaint\n")
    assert error.argv[0] == "sh"
    for words in ("sh -c", "'netns'", "exit status 3", "some output", "some complaint"):
        assert words in str(error)


def test_only_the_tail_of_long_output_is_shown(netns: Namespace) -> None:
    with pytest.raises(CommandError) as caught:
        netns.run(["sh", "-c", "seq 1000 1999; exit 1"])
    assert "last 20 of 1000 lines" in str(caught.value)
    assert "1999" in str(caught.value)
    assert "1979\n" not in str(caught.value)
    assert caught.value.stdout.startswith("1000\n")


def test_a_signal_is_called_by_its_name(netns: Namespace) -> None:
    with pytest.raises(CommandError, match="killed by SIGSEGV") as caught:
        netns.run(["sh", "-c", "kill -SEGV $$"])
    assert caught.value.returncode == -signal.SIGSEGV


def test_a_missing_program_is_named_together_with_the_namespace(netns: Namespace) -> None:
    with pytest.raises(CommandError, match=r"cannot run 'no-such-program' in namespace 'netns': no such program") as e:
        netns.run(["no-such-program", "--flag"])
    assert e.value.returncode is None
    assert e.value.argv == ["no-such-program", "--flag"]
    assert "PATH" in str(e.value)
    assert netns.run(["echo", "still fine"]).stdout == "still fine\n"


def test_a_missing_program_is_looked_for_in_the_path_of_its_own_environment(netns: Namespace, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=f"no such program in PATH={tmp_path}$"):
        netns.run(["ls"], env={"PATH": str(tmp_path)})


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program where those of root are, which is not in PATH."""
    file = tmp_path / "sbin" / "netns-tool"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\necho $PATH\n")
    file.chmod(0o755)
    monkeypatch.setattr(search_path, "SBIN", (str(file.parent),))
    return file


def test_the_programs_of_root_are_found_by_whoever_lacks_them_in_the_path(netns: Namespace, tool: Path) -> None:
    assert netns.run(["netns-tool"]).stdout.strip() == f"{os.environ['PATH']}:{tool.parent}"
    assert netns.run(["sh", "-c", "netns-tool"]).returncode == 0
    assert netns.spawn(["netns-tool"]).wait(10) == 0
    assert find_program("netns-tool") == str(tool)


def test_they_are_found_by_a_given_environment_too_which_is_passed_on_as_it_is(netns: Namespace, tool: Path) -> None:
    assert netns.run(["netns-tool"], env={"PATH": "/usr/bin:/bin"}).stdout == "/usr/bin:/bin\n"
    tool.chmod(0o644)
    with pytest.raises(CommandError, match=r"no such program in PATH=/usr/bin:/bin$"):
        netns.run(["netns-tool"], env={"PATH": "/usr/bin:/bin"})


def test_what_is_in_the_path_comes_first(netns: Namespace, tool: Path, tmp_path: Path) -> None:
    mine = tmp_path / "netns-tool"
    mine.write_text("#!/bin/sh\necho mine\n")
    mine.chmod(0o755)
    assert netns.run(["netns-tool"], env={"PATH": f"{tmp_path}:/usr/bin"}).stdout == "mine\n"


def test_a_bad_exit_says_how_to_allow_it(netns: Namespace) -> None:
    with pytest.raises(CommandError, match=r"exit status 1\n\(if it may end so: run\(..., check=False\)"):
        netns.run(["false"])


@pytest.mark.parametrize("env", ["PATH=/bin", 5, {"SECRET": 5}, [("A", "B")]])
def test_an_environment_that_is_none_is_refused(netns: Namespace, env: object) -> None:
    for start in (netns.run, netns.spawn):
        with pytest.raises(TypeError, match=r"^env(:| is .*;) .*expected"):
            start(["true"], env=env)  # type: ignore[operator]


def test_a_folder_of_the_path_that_may_not_be_searched_does_not_change_the_message(
    netns: Namespace, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="'no-such-program' in namespace 'netns': no such program"):
        netns.run(["no-such-program"], env={"PATH": f"/root/not-for-all:{tmp_path}/file:/usr/bin"})


def test_a_file_that_cannot_be_executed_is_not_called_missing(netns: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    with pytest.raises(CommandError, match=r"cannot run .*data' in namespace 'netns': Permission denied"):
        netns.run([file])


def test_a_missing_working_directory_is_not_called_a_missing_program(netns: Namespace, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere") as caught:
        netns.run(["true"], cwd=tmp_path / "nowhere")
    assert "no such program" not in str(caught.value)


@pytest.mark.parametrize("argv", ["ip route", b"ip", [], ""])
def test_a_command_that_is_no_list_of_words_is_refused(netns: Namespace, argv: list[str]) -> None:
    with pytest.raises(TypeError, match="expected a list of words"):
        netns.run(argv)


def test_a_timeout_kills_the_command_and_its_children_and_shows_what_it_wrote(netns: Namespace, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    # The grandchild holds the other end of the fifo, so its death is seen as end-of-file.
    with pytest.raises(WaitTimeout, match=r"did not end within 2 s and was killed(?s:.*)wrote this"):
        netns.run(["sh", "-c", f"echo wrote this; sleep 1000 > {fifo} & sleep 1000"], timeout=2)
    assert select.select([reader], [], [], 10)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)


# --------------------------------------------------------------------- spawn


def test_spawn_returns_when_the_port_listens(netns: Namespace) -> None:
    netns.spawn(python(SERVER, 8080), ready=8080)
    client = netns.socket()
    client.settimeout(5)
    client.connect(("127.0.0.1", 8080))


def test_the_server_sees_no_client_while_we_wait_for_it(netns: Namespace, tmp_path: Path) -> None:
    code = "import os, socket, sys\ns = socket.create_server(('', 99))\nwith open(sys.argv[1]): s.setblocking(False)\n"
    code += "try: s.accept(); print('stranger', flush=True)\nexcept BlockingIOError: print('quiet', flush=True)"
    os.mkfifo(tmp_path / "asked")
    process = netns.spawn(python(code, tmp_path / "asked"), ready=99)
    os.close(os.open(tmp_path / "asked", os.O_WRONLY))
    assert process.wait(30) == 0
    assert process.output == "quiet\n"


def test_readiness_of_a_port_is_that_of_this_namespace(netns: Namespace) -> None:
    other = Namespace("other")
    server = other.socket()
    server.bind(("127.0.0.1", 8080))
    server.listen()
    try:
        with pytest.raises(WaitTimeout, match=r"listens on tcp port 8080.*TCP ports listening there: none"):
            netns.spawn(["sleep", "1000"], ready=8080, timeout=0.1)
    finally:
        other.close()


def test_the_port_of_somebody_else_is_not_ours(netns: Namespace) -> None:
    first = netns.spawn(python(SERVER, 8080), ready=8080)
    with pytest.raises(ProcessDied) as caught:
        netns.spawn(python(SERVER, 8080), ready=8080)
    assert "Address already in use" in str(caught.value)
    assert f"tcp port 8080 is taken by process {first.pid} ('{sys.executable} -c" in str(caught.value)


def test_a_socket_of_the_test_makes_no_process_ready(netns: Namespace) -> None:
    receiver = netns.socket(type=socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 53))
    with pytest.raises(WaitTimeout, match="still runs, but udp port 53 is taken by this test itself, TCP"):
        netns.spawn(["sleep", "1000"], ready=ready.listening(53, "udp"), timeout=0.05)


def test_the_same_port_on_another_address_is_its_own(netns: Namespace) -> None:
    other = netns.socket()
    other.bind(("127.0.0.2", 8080))
    other.listen()
    process = netns.spawn(python(SERVER, 8080), ready=8080)  # on 127.0.0.1
    client = netns.socket()
    client.connect(("127.0.0.1", 8080))
    assert process.returncode is None


LISTENS = "import os, socket, signal; s = socket.create_server((str(), 8080)); signal.pause()"
CHILDREN = {
    "a child": f"{sys.executable} -c '{LISTENS}' & wait",
    "a grandchild": f"sh -c \"{sys.executable} -c '{LISTENS}'; true\" & wait",
    "an orphan in a session of its own": f"(setsid {sys.executable} -c '{LISTENS}' &); sleep 1000",
}


@pytest.mark.parametrize("isolate", [(), ("mount", "pid")], ids=["plain", "isolated"])
@pytest.mark.parametrize("who", CHILDREN)
def test_what_a_process_has_started_may_listen_for_it(lab: Lab, who: str, isolate: tuple[Kind, ...]) -> None:
    host = lab.host("host", isolate=isolate)
    host.spawn(["sh", "-c", CHILDREN[who]], ready=8080)
    assert ready.listening_ports(host.fd, "tcp") == {8080}


def test_an_orphan_of_an_earlier_process_is_not_taken_for_a_later_ones(netns: Namespace) -> None:
    netns.spawn(["sh", "-c", CHILDREN["an orphan in a session of its own"]], ready=8080)
    with pytest.raises(WaitTimeout, match=r"tcp port 8080 is taken by process \d+"):
        netns.spawn(["sleep", "1000"], ready=8080, timeout=0.05)


def test_a_process_that_may_not_be_looked_at_is_believed(netns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    netns.spawn(python(SERVER, 8080), ready=8080)
    monkeypatch.setattr(procfs, "sockets_of", lambda _: None)
    netns.spawn(["sleep", "1000"], ready=8080)


def test_a_process_that_ends_is_not_taken_for_one_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    # To an ordinary user the kernel says EACCES of a process that ends, such as one that found its port taken.
    def refused(folder: str) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", refused)
            assert procfs.sockets_of(process.pid) is None
        process.communicate()
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refused)
        assert procfs.sockets_of(dead.pid) == set()
    dead.wait()
    assert procfs.sockets_of(dead.pid) == set()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_datagram_port_can_be_awaited(netns: Namespace, family: socket.AddressFamily) -> None:
    code = f"import socket, signal\ns = socket.socket({int(family)}, socket.SOCK_DGRAM)\ns.bind(('', 5353))\n"
    process = netns.spawn(python(code + "signal.pause()"), ready=ready.listening(5353, "udp"))
    assert process.returncode is None


def test_output_can_be_awaited_line_by_line(netns: Namespace) -> None:
    process = netns.spawn(["sh", "-c", "echo starting; echo up now; exec sleep 1000"], ready=ready.output(r"^up \w+$"))
    assert process.output == "starting\nup now\n"


def test_a_path_can_be_awaited(netns: Namespace, tmp_path: Path) -> None:
    netns.spawn(["sh", "-c", f"mkdir {tmp_path}/made; exec sleep 1000"], ready=ready.path(tmp_path / "made"))
    assert (tmp_path / "made").is_dir()


def test_any_callable_can_be_awaited(netns: Namespace) -> None:
    answers = iter([False, None, 0, "yes"])
    netns.spawn(["sleep", "1000"], ready=lambda: next(answers))
    assert next(answers, "exhausted") == "exhausted"


def test_an_error_of_the_callable_is_raised_and_ends_the_process(netns: Namespace) -> None:
    def fail() -> bool:
        raise LookupError("from the callable")

    with pytest.raises(LookupError, match="from the callable"):
        netns.spawn(["sleep", "1000"], ready=fail)
    assert netns._supervisor.processes[-1].returncode == -signal.SIGKILL


def test_a_further_state_can_be_awaited_later(netns: Namespace) -> None:
    process = netns.spawn(["sh", "-c", "echo one; echo two; exec sleep 1000"])
    process.wait_until(ready.output("two"))
    assert "two" in process.output


def test_a_process_that_dies_before_it_is_ready_is_an_error_with_its_output(netns: Namespace) -> None:
    with pytest.raises(ProcessDied) as caught:
        netns.spawn(["sh", "-c", "echo bad config on line 3 >&2; exit 4"], ready=8080)
    for words in ("'netns'", "exit status 4", "tcp port 8080", "bad config on line 3"):
        assert words in str(caught.value)


def test_a_process_that_died_before_it_was_ready_is_not_reported_again(netns: Namespace) -> None:
    with pytest.raises(ProcessDied):
        netns.spawn(["false"], ready=8080)
    netns.close()


def test_last_words_count_as_readiness(netns: Namespace) -> None:
    process = netns.spawn(["echo", "done"], ready=ready.output("done"))
    assert process.wait(10) == 0


def test_a_process_that_is_never_ready_is_killed(netns: Namespace) -> None:
    soon = patient(2)
    with pytest.raises(WaitTimeout, match=rf"waited {soon:g} s until the output matches 'never'(?s:.*)busy"):
        netns.spawn(["sh", "-c", "echo busy; exec sleep 1000"], ready=ready.output("never"), timeout=soon)
    (process,) = netns._supervisor.processes
    assert process.returncode == -signal.SIGKILL


def test_a_bad_condition_starts_nothing(netns: Namespace) -> None:
    with pytest.raises(TypeError, match="ready='8080'"):
        netns.spawn(["sleep", "1000"], ready="8080")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="port is 70000"):
        netns.spawn(["sleep", "1000"], ready=70000)
    assert netns._supervisor.processes == ()


def test_spawning_a_missing_program_names_it_and_the_namespace(netns: Namespace) -> None:
    with pytest.raises(CommandError, match="cannot run 'no-such-daemon' in namespace 'netns'"):
        netns.spawn(["no-such-daemon"], ready=1)
    assert netns._supervisor.processes == ()


def test_both_streams_come_in_the_order_of_writing(netns: Namespace) -> None:
    process = netns.spawn(["sh", "-c", "echo 1; echo 2 >&2; echo 3"])
    process.wait(10)
    assert process.output == "1\n2\n3\n"


# ----------------------------------------------------------------------- end


def test_terminate_asks_and_returns_the_status(netns: Namespace) -> None:
    process = netns.spawn(["sh", "-c", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done"])
    process.wait_until(ready.output("up"))
    assert process.terminate() == 7
    assert process.output == "up\nbye\n"


def test_terminate_insists_after_its_timeout(netns: Namespace) -> None:
    process = netns.spawn(["sh", "-c", "trap '' TERM; echo deaf; exec sleep 1000"], ready=ready.output("deaf"))
    assert process.terminate(timeout=0.05) == -signal.SIGKILL


def test_kill_does_not_ask(netns: Namespace) -> None:
    process = netns.spawn(["sh", "-c", "trap '' TERM; echo deaf; exec sleep 1000"], ready=ready.output("deaf"))
    assert process.kill() == -signal.SIGKILL
    assert process.kill() == -signal.SIGKILL


def test_wait_returns_the_status_and_makes_the_end_expected(netns: Namespace) -> None:
    process = netns.spawn(["sh", "-c", "exit 5"])
    assert process.wait(10) == 5
    netns.close()


def test_wait_gives_up_after_its_timeout_and_the_process_lives_on(netns: Namespace) -> None:
    process = netns.spawn(["sleep", "1000"])
    with pytest.raises(WaitTimeout, match=r"sleep 1000.* did not end within 0.05 s"):
        process.wait(0.05)
    assert process.returncode is None


def test_with_terminates_at_the_end_of_the_block(netns: Namespace) -> None:
    with netns.spawn(["sleep", "1000"]) as process:
        assert isinstance(process, Process)
        assert process.returncode is None
    assert process.returncode == -signal.SIGTERM


def test_with_raises_if_the_process_died_in_the_block(netns: Namespace) -> None:
    def block() -> None:
        with netns.spawn(["sh", "-c", "echo oops; exit 1"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    with pytest.raises(ProcessDied, match=r"exited unexpectedly \(exit status 1\)(?s:.*)oops"):
        block()


def test_with_does_not_hide_the_error_of_the_block(netns: Namespace) -> None:
    def block() -> None:
        with netns.spawn(["sh", "-c", "echo oops; exit 1"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            raise LookupError("the block's")

    with pytest.raises(LookupError, match="the block's") as caught:
        block()
    assert "oops" in caught.value.__notes__[0]


def test_a_process_that_dies_unasked_is_an_error_at_the_end() -> None:
    ns = Namespace("watched")
    process = ns.spawn(["sh", "-c", "echo I give up; exit 9"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ExceptionGroup) as caught:
        ns.close()
    (error,) = caught.value.exceptions
    assert isinstance(error, ProcessDied)
    for words in ("'watched'", "exited unexpectedly", "exit status 9", "I give up"):
        assert words in str(error)
    assert ns.closed


@pytest.mark.parametrize("how", ["exit 9", "kill -KILL $$"])
def test_what_may_end_is_no_error_however_it_ends(how: str) -> None:
    ns = Namespace("allowed")
    process = ns.spawn(["sh", "-c", how], may_end=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    ns.spawn(["sleep", "1000"], may_end=True)
    ns.close()


@pytest.mark.parametrize(("how", "code"), [("exit 0", 0), ("exit 9", 9), ("kill -KILL $$", -signal.SIGKILL)])
def test_an_end_with_the_expected_status_is_no_error(how: str, code: int) -> None:
    ns = Namespace("as-told")
    process = ns.spawn(["sh", "-c", how], expect_exit=code)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ns.spawn(["sh", "-c", how], expect_exit=code).wait(10) == code
    ns.close()


def test_an_end_with_another_status_than_the_expected_one_is_told_with_both() -> None:
    ns = Namespace("otherwise")
    process = ns.spawn(["sh", "-c", "echo I give up; exit 9"], expect_exit=3)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ExceptionGroup) as caught:
        ns.close()
    (error,) = caught.value.exceptions
    assert isinstance(error, ProcessDied)
    assert "ended (exit status 9), and expected was exit status 3" in str(error)
    assert "I give up" in str(error)


def test_waiting_for_what_ends_with_another_status_than_the_expected_one_raises_and_tells_it_once() -> None:
    ns = Namespace("otherwise")
    process = ns.spawn(["false"], expect_exit=0)
    with pytest.raises(ProcessDied, match=r"ended \(exit status 1\), and expected was exit status 0; it wrote nothing"):
        process.wait(10)
    ns.close()


def test_what_was_to_end_and_still_runs_at_the_close_is_an_error_with_the_cure() -> None:
    ns = Namespace("late")
    ns.spawn(["sleep", "1000"], expect_exit=0)
    with pytest.raises(ExceptionGroup) as caught:
        ns.close()
    (error,) = caught.value.exceptions
    assert "still running" in str(error)
    assert "wait(timeout=...)" in str(error)
    assert ns.closed


def test_what_may_end_with_one_status_only_may_still_run_at_the_close() -> None:
    ns = Namespace("either")
    ns.spawn(["sleep", "1000"], may_end=True, expect_exit=0)
    ns.close()
    ns = Namespace("or")
    process = ns.spawn(["false"], may_end=True, expect_exit=0)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ExceptionGroup):
        ns.close()


def test_what_was_to_end_and_is_ended_by_the_test_is_no_error() -> None:
    ns = Namespace("told")
    ns.spawn(["sleep", "1000"], expect_exit=0).kill()
    ns.spawn(["sleep", "1000"], expect_exit=0).terminate()
    ns.close()


DAEMON_LATER = """
import os, signal, socket, sys, time
if os.fork():
    os._exit({status})
os.setsid()
while os.getppid() != 1:
    os.sched_yield()
server = socket.create_server(("127.0.0.1", 8080))
signal.pause()
"""


def test_a_daemon_that_is_left_by_what_may_end_can_be_awaited(netns: Namespace) -> None:
    process = netns.spawn(python(DAEMON_LATER.format(status=0)), ready=8080, timeout=patient(10), may_end=True)
    assert process.wait(10) == 0
    with netns:
        socket.create_connection(("127.0.0.1", 8080)).close()


def test_a_daemon_whose_starter_fails_is_not_awaited(netns: Namespace) -> None:
    with pytest.raises(ProcessDied, match="exit status 7"):
        netns.spawn(python(DAEMON_LATER.format(status=7)), ready=ready.output("never"), may_end=True)


def test_what_may_end_and_has_left_nothing_is_not_awaited(netns: Namespace) -> None:
    with pytest.raises(ProcessDied, match=r"ended \(exit status 0\) before something listens on tcp port 8080"):
        netns.spawn(["true"], ready=8080, may_end=True)


@pytest.mark.parametrize("bad", [{"may_end": 1}, {"expect_exit": 256}, {"expect_exit": True}, {"expect_exit": "0"}])
def test_an_expectation_of_an_end_that_is_none_starts_nothing(netns: Namespace, bad: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(bad))):
        netns.spawn(["sleep", "1000"], **bad)  # type: ignore[arg-type]
    assert netns._supervisor.processes == ()


def test_every_unasked_death_is_reported() -> None:
    lab = Lab()
    for name in ("red", "blue"):
        process = lab.host(name).spawn(["false"])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ExceptionGroup) as caught:
        lab.close()
    first, second = map(str, caught.value.exceptions)
    assert "'red'" in first
    assert "'blue'" in second
    assert all(node.closed for node in lab)


def test_a_process_that_was_told_to_end_is_no_error() -> None:
    ns = Namespace("obeyed")
    ns.spawn(["sleep", "1000"]).kill()
    ns.spawn(["sleep", "1000"]).terminate()
    ns.spawn(["sleep", "1000"])
    ns.close()


def test_closing_ends_processes_and_their_output_stays_readable() -> None:
    ns = Namespace("brief")
    process = ns.spawn(["sh", "-c", "echo hello; exec sleep 1000"], ready=ready.output("hello"))
    pidfd = os.pidfd_open(process.pid)
    ns.close()
    assert has_ended(pidfd)
    assert process.output == "hello\n"
    assert process.returncode == -signal.SIGKILL
    os.close(pidfd)


def test_daemons_are_gone_when_their_namespace_is_closed() -> None:
    ns = Namespace("daemonic")
    daemon = start_daemon(ns)
    assert not has_ended(daemon)
    ns.close()
    assert has_ended(daemon)
    os.close(daemon)


def test_daemons_of_all_nodes_are_gone_when_their_lab_is_closed() -> None:
    lab = Lab()
    daemons = [start_daemon(lab.host(name)) for name in ("red", "blue")]
    assert not any(map(has_ended, daemons))
    lab.close()
    assert all(map(has_ended, daemons))
    for pidfd in daemons:
        os.close(pidfd)


def test_a_daemon_outlives_the_process_that_spawn_started_and_not_the_namespace() -> None:
    ns = Namespace("daemonic")
    starter = ns.spawn(python(DAEMON))
    assert starter.wait(30) == 0
    daemon = os.pidfd_open(int(starter.output))
    assert not has_ended(daemon)
    ns.close()
    assert has_ended(daemon)
    os.close(daemon)


def test_closing_one_lab_leaves_the_processes_of_another_alone() -> None:
    with Lab("one") as one, Lab("two") as two:
        kept = two.host("a").spawn(["sleep", "1000"])
        ended = one.host("a").spawn(["sleep", "1000"])
        one.close()
        assert ended.returncode is not None
        assert kept.returncode is None


def test_nothing_starts_in_a_closed_lab() -> None:
    lab = Lab()
    lab.supervisor.close()
    with pytest.raises(NetnsError, match="the lab is closed"):
        lab.host("late").run(["true"])
    lab.close()


def test_commands_have_a_process_group_of_their_own(netns: Namespace) -> None:
    process = netns.spawn(["sleep", "1000"])
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


def test_no_descriptor_of_ours_reaches_a_command(netns: Namespace) -> None:
    seen = netns.run(["ls", "/proc/self/fd"]).stdout.split()
    assert set(seen) <= {"0", "1", "2", "3"}  # 3 is the folder that ls reads


def test_closing_a_host_ends_its_processes_and_no_others(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    mine, other = red.spawn(["sleep", "1000"]), blue.spawn(["sleep", "1000"])
    red.close()
    assert mine.returncode == -signal.SIGKILL
    assert other.returncode is None
    assert mine.output == ""


def test_closing_a_host_tells_of_a_process_that_had_ended_unasked(lab: Lab) -> None:
    red = lab.host("red")
    short = red.spawn(["true"], ready=lambda: True)
    eventually(lambda: short.returncode is not None)
    with pytest.raises(ExceptionGroup) as caught:
        red.close()
    assert "'true' in namespace 'red' exited unexpectedly (exit status 0)" in str(caught.value.exceptions[0])
    lab.close()  # and does not tell of it again
