from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from pytest_netns import Lab, Namespace, NetnsError, ProcessDied, ready
from pytest_netns.process.child import Child
from pytest_netns.process.isolation import Kind
from pytest_netns.process.spawner import Spawner

# An orphan that ends, while its command goes on; its parent tells which one it was.
ORPHAN = """
import os, signal, time
up, tell = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.read(up, 1)
        os._exit(0)
    os._exit(0)
os.wait()
os.write(tell, b"!")
"""


@pytest.fixture
def spawner(netns: Namespace) -> Iterator[Spawner]:
    made = Spawner()
    yield made
    made.kill()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


def ends(pidfd: int) -> bool:
    """Whether a process ends, be it in the next seconds."""
    return bool(select.select([pidfd], [], [], 10)[0])


def lab_in_another_process(code: str) -> subprocess.Popen[str]:
    """A python process that has made a lab and started ``sleeper`` in it, and then runs ``code``."""
    head = """
        import os, signal, sys
        from pytest_netns import Lab
        lab = Lab()
        red = lab.host("red")
        sleeper = red.spawn(["sleep", "1000"])
    """
    program = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_are_in_a_pid_namespace_of_their_own(spawner: Spawner, netns: Namespace) -> None:
    process = spawner.popen(["sleep", "1000"], netns.fd)
    theirs = os.stat(f"/proc/{process.pid}/ns/pid").st_ino
    assert theirs == os.stat(f"/proc/{spawner.init_pid}/ns/pid").st_ino
    assert theirs != os.stat("/proc/self/ns/pid").st_ino


def test_processes_are_in_the_network_namespace_asked_for(spawner: Spawner, netns: Namespace) -> None:
    other = Namespace("other")
    for ns in (netns, other, netns):
        process = spawner.popen(["sleep", "1000"], ns.fd)
        assert os.stat(f"/proc/{process.pid}/ns/net").st_ino == ns.inode
    other.close()


def test_killing_ends_all_and_is_allowed_twice(spawner: Spawner, netns: Namespace) -> None:
    processes = [spawner.popen(["sleep", "1000"], netns.fd) for _ in range(3)]
    spawner.kill()
    spawner.kill()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 3
    assert not spawner.usable
    with pytest.raises(NetnsError, match="cannot start 'true'"):
        spawner.popen(["true"], netns.fd)


def test_several_threads_may_kill_at_once() -> None:
    errors: list[BaseException] = []
    for _ in range(10):
        spawner, together = Spawner(), threading.Barrier(8)

        def kill(spawner: Spawner = spawner, together: threading.Barrier = together) -> None:
            together.wait(60)
            try:
                spawner.kill()
            except BaseException as error:  # asserted below, in the thread of the test
                errors.append(error)

        threads = [threading.Thread(target=kill) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not errors


def test_an_error_of_preparation_is_raised_by_the_constructor(netns: Namespace) -> None:
    def fail() -> None:
        raise LookupError("not prepared")

    with pytest.raises(LookupError, match="not prepared"):
        Spawner(fail)


def test_a_program_that_cannot_start_leaves_the_spawner_usable(spawner: Spawner, netns: Namespace) -> None:
    with pytest.raises(FileNotFoundError):
        spawner.popen(["/no/such/program"], netns.fd)
    assert spawner.popen(["true"], netns.fd).wait() == 0


def test_the_end_of_an_orphan_ends_nothing_else(netns: Namespace) -> None:
    process = netns.spawn(["sleep", "1000"])
    for _ in range(3):
        netns.run([sys.executable, "-c", ORPHAN])
    assert netns.run(["echo", "still here"]).stdout == "still here\n"
    assert process.returncode is None


def test_orphans_do_not_stay_as_zombies(netns: Namespace) -> None:
    starter = netns.spawn(["sh", "-c", "(sh -c 'echo $$; readlink /proc/self; exec sleep 0.05' &)"])
    starter.wait(10)
    watcher = netns.spawn(["sleep", "1000"], ready=ready.output("")).pid
    init = netns._supervisor._spawner.init_pid  # type: ignore[union-attr]

    def zombies() -> list[str]:
        with open(f"/proc/{init}/task/{init}/children", encoding="ascii") as file:
            children = file.read().split()
        found = []
        for child in children:
            try:
                with open(f"/proc/{child}/stat", encoding="ascii") as file:
                    found.append(file.read().rpartition(")")[2].split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    assert watcher
    netns.spawn(["sleep", "1000"], ready=lambda: len(zombies()) == 1)  # only the one that belongs to process 1
    assert zombies() != ["Z"]


def test_a_command_that_kills_all_it_may_does_not_end_the_lab(netns: Namespace) -> None:
    # Should it ever run outside of a PID namespace, it must not get that far.
    script = 'test "$(readlink /proc/self/ns/pid)" != "$1" || exit 9; kill -KILL -1'
    done = netns.run(["sh", "-c", script, "sh", os.readlink("/proc/self/ns/pid")], check=False)
    assert done.returncode != 9
    assert netns.run(["echo", "still here"]).stdout == "still here\n"


def test_nothing_survives_when_the_owner_is_killed(netns: Namespace) -> None:
    with lab_in_another_process("print(sleeper.pid, flush=True)\nsignal.pause()") as owner:
        assert owner.stdout is not None
        sleeper = os.pidfd_open(int(owner.stdout.readline()))
        owner.kill()
        assert ends(sleeper)
    os.close(sleeper)


def test_a_fork_without_exec_does_not_keep_the_processes_of_a_killed_owner(netns: Namespace) -> None:
    code = """
        child = os.fork()
        if child == 0:
            os.close(1)
            sys.stdin.read()
            os._exit(0)
        print(sleeper.pid, child, flush=True)
        signal.pause()
    """
    with lab_in_another_process(code) as owner:
        assert owner.stdout is not None
        sleeper, child = (os.pidfd_open(int(word)) for word in owner.stdout.readline().split())
        owner.kill()
        assert ends(sleeper)
        assert not select.select([child], [], [], 0)[0]
        assert owner.stdin is not None
        owner.stdin.close()
        assert ends(child)
    os.close(sleeper)
    os.close(child)


def test_a_forked_child_that_closes_its_copy_of_the_lab_ends_nothing(netns: Namespace) -> None:
    code = """
        child = os.fork()
        if child == 0:
            lab.close()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        print(status, sleeper.returncode, red.run(["echo", "fine"]).stdout.strip(), flush=True)
        lab.close()
    """
    with lab_in_another_process(code) as owner:
        assert owner.communicate(timeout=60)[0] == "0 None fine\n"
        assert owner.returncode == 0


def test_a_lab_that_starts_no_process_has_no_spawner(lab: Lab) -> None:
    lab.connect(lab.host("red"), lab.host("blue"))
    assert lab.supervisor._spawner is None


def test_all_nodes_of_a_lab_share_one_pid_namespace(lab: Lab) -> None:
    processes = [lab.host(name).spawn(["sleep", "1000"]) for name in ("red", "blue")]
    first, second = (os.stat(f"/proc/{process.pid}/ns/pid").st_ino for process in processes)
    assert first == second


def test_closing_while_other_threads_start_processes_ends_and_reaps_them_all() -> None:
    for _ in range(5):
        lab = Lab()
        red = lab.host("red")
        begun = threading.Barrier(5, timeout=60)

        def start(host: Namespace = red, begun: threading.Barrier = begun) -> None:
            host.spawn(["sleep", "1000"])
            begun.wait()
            with suppress(NetnsError):  # it is closed
                while True:
                    host.spawn(["sleep", "1000"])

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        spawner = lab.supervisor._spawner
        assert spawner is not None
        lab.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert all(child.returncode is not None and child.released for child in [*spawner._children, spawner.init])
        assert all(process.returncode == -signal.SIGKILL for process in lab.supervisor.processes)


def test_whoever_asked_may_be_gone_the_child_is_the_spawners(spawner: Spawner, netns: Namespace) -> None:
    class Gone(BaseException):
        pass

    started: list[Child] = []
    begin = spawner._do

    def interrupted(job: object) -> None:
        begin(job)  # type: ignore[arg-type]
        started.append(job.process)  # type: ignore[attr-defined]
        job.error = Gone()  # type: ignore[attr-defined]

    spawner._do = interrupted  # type: ignore[assignment, method-assign]
    with pytest.raises(Gone):
        spawner.popen(["sleep", "1000"], netns)
    (child,) = started
    assert child.poll() is None
    spawner.kill()
    assert child.returncode == -signal.SIGKILL


def test_a_command_that_is_interrupted_ends_with_what_it_has_started(netns: Namespace) -> None:
    class Stop(BaseException):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stop(number)

    up, tell = os.pipe()
    os.set_inheritable(tell, True)
    command = ["sh", "-c", f"sleep 1000 & echo $! >/proc/{os.getpid()}/fd/{tell}; wait"]

    def interrupt() -> None:
        told.append(os.read(up, 100))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    told: list[bytes] = []
    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(Stop):
            netns.run(command)
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()
        os.close(up)
        os.close(tell)
    supervisor = netns._supervisor
    eventually(lambda: supervisor.pids(netns.inode) == [])
    assert netns.run(["echo", "on"]).stdout == "on\n"


def test_a_node_that_is_closed_meanwhile_has_its_command_run_nowhere(lab: Lab) -> None:
    # Else it would run wherever the descriptor with its number leads to by then: in the host's own namespace.
    red = lab.host("red")
    red.run(["true"])
    spawner = lab.supervisor._spawner
    assert spawner is not None
    begin = spawner._do

    def late(job: object) -> None:
        red.close()
        begin(job)  # type: ignore[arg-type]

    spawner._do = late  # type: ignore[assignment, method-assign]
    with pytest.raises(NetnsError, match="namespace 'red' is closed"):
        red.run(["true"])


@pytest.mark.parametrize("kinds", [(), ("mount", "uts", "pid")], ids=["shared", "isolated"])
def test_the_death_of_process_1_is_told_once_and_the_next_command_works(lab: Lab, kinds: tuple[Kind, ...]) -> None:
    red = lab.host("red", isolate=kinds)
    red.spawn(["sleep", "1000"])
    file = f"/tmp/netns-test-of-process-1-{os.getpid()}"
    red.run(["sh", "-c", 'echo kept >"$1"', "sh", file])
    os.kill(red._supervisor.start(), signal.SIGKILL)
    with pytest.raises(ProcessDied, match=r"process 1 .* has ended \(killed by SIGKILL\).*'sleep 1000' in 'red'"):
        eventually(lambda: red.run(["true"]) and False)
    assert red.run(["cat", file]).stdout == "kept\n"  # its files are the same
    red.run(["rm", file])
    red.spawn(["sleep", "1000"])


def test_the_death_of_process_1_is_told_when_the_lab_is_closed() -> None:
    lab = Lab("doomed")
    sleeper = lab.host("red").spawn(["sleep", "1000"])
    os.kill(lab.supervisor.start(), signal.SIGKILL)
    sleeper._popen.await_end(30)
    with pytest.raises(ExceptionGroup) as caught:
        lab.close()
    (error,) = caught.value.exceptions
    assert "process 1" in str(error)
    assert "of lab 'doomed' has ended (killed by SIGKILL)" in str(error)
