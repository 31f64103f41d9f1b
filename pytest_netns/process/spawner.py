"""Starting processes so that none survives: every one lives in a PID namespace that dies with us.

A PID namespace is the only thing that kills a daemon which forked twice into a session of its own; a parent-death
signal reaches the direct child only. Ours has as its process 1 a shell that reads a pipe whose other end is held by
this process alone. When we end, by whatever means, it reads end-of-file and exits, and the kernel kills the rest
(pid_namespaces(7)).

unshare(CLONE_NEWPID) concerns the children of the calling thread only, and there is no way back without privilege over
the outer namespace, so one thread is given to it for good. Such a thread may fork but not start threads.
"""

from __future__ import annotations

import errno
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from pytest_netns.errors import NetnsError, UnsupportedError, WaitTimeout
from pytest_netns.kernel import procfs
from pytest_netns.kernel.hidden_thread import HiddenThread
from pytest_netns.kernel.interrupts import readable, uninterrupted
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.syscalls import CLONE_NEWPID, Holder, enter, setns, unshare
from pytest_netns.process.child import DEATH, Child

# A shell that waits for a subshell reaps the orphans that are handed to process 1 too, so no zombies gather. (It must
# not read the pipe itself under "trap '' CHLD": dash's read fails when an orphan ends.) The loop is for kill(-1, ...),
# which spares process 1 alone. Signals of the terminal do not reach it: it has a session of its own, and a process 1
# without handlers ignores them anyhow.
_INIT = "while (read -r _); test $? -gt 128; do :; done"
# Only a process of the PID namespace can mount its /proc.
_MOUNT_PROC = "mount -n -t proc -o nosuid,nodev,noexec proc /proc 2>&1 || exit 1; echo mounted; "
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

#: Seconds for what takes milliseconds: to start a process, to mount /proc.
DEADLINE = 30.0


class InitDied(NetnsError):
    """Process 1 of the PID namespace has ended, and with it everything in there."""


@dataclass(slots=True)
class _Job:
    argv: Sequence[str]
    netns: Holder | int
    options: Mapping[str, object]
    done: threading.Event = field(default_factory=threading.Event)
    process: Child | None = None
    error: BaseException | None = None
    given_up: bool = False


class Spawner:
    """One PID namespace and the thread that starts processes in it.

    Every child is the spawner's as soon as it is there, whatever becomes of who asked for it: ``kill`` reaps it.

    Args:
        prepare: called once in the spawning thread before anything is started, to enter further namespaces.
        own_proc: mount a /proc that shows the processes of the PID namespace, in the mount namespace that ``prepare``
            has entered.
        keep: descriptors that process 1 holds too, under the same numbers: processes find them in /proc/1/fd.
    """

    def __init__(
        self, prepare: Callable[[], None] | None = None, own_proc: bool = False, keep: Sequence[int] = ()
    ) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._prepare = prepare
        self._own_proc = own_proc
        self._keep = keep
        self._lifeline = -1
        self._init: Child | None = None
        self._children: list[Child] = []
        self._owner = os.getpid()
        self._lock = Lock("starting a process")
        self._given_up = False
        with uninterrupted:
            self._thread = HiddenThread(self._serve)
            try:
                failure = self._ready.get(timeout=DEADLINE)
            except queue.Empty:
                with self._lock:
                    self._given_up = True
                failure = WaitTimeout(f"a PID namespace for processes was not ready within {DEADLINE:g} s")
            if failure is not None:
                raise failure
            _alive.add(self)

    @property
    def usable(self) -> bool:
        """False once killed, and in a forked child of the process that made it."""
        return self._lifeline >= 0 and self._owner == os.getpid()

    @property
    def init(self) -> Child:
        """Process 1 of the PID namespace, as seen from outside."""
        assert self._init is not None
        return self._init

    @property
    def init_pid(self) -> int:
        """Its number, as seen from outside."""
        return self.init.pid

    @property
    def lost(self) -> bool:
        """Whether process 1 has ended without ``kill()``: nothing can be started any more, and nothing lives there."""
        return self.usable and self._init_ended

    @property
    def _init_ended(self) -> bool:
        if self.init.returncode is not None:
            return True
        found = procfs.stat(self.init.pid)
        return found is None or found.ending

    def popen(self, argv: Sequence[str], netns: Holder | int, **options: object) -> Child:
        """``subprocess.Popen`` inside a network namespace; raises what it raises.

        Args:
            argv: the program and its arguments.
            netns: who keeps the namespace alive; or its descriptor, if nobody can close that meanwhile.
            options: of ``Popen``. Descriptors among them are used before this returns, and not afterwards.

        Raises:
            NetnsError: this was killed, or ``netns`` is closed.
            InitDied: process 1 has ended.
        """
        job = _Job(argv, netns, options)
        with uninterrupted:
            with self._lock:  # or kill() could let the thread end between the question and the job
                if not self.usable:
                    raise NetnsError(f"cannot start {argv[0]!r}: the lab that would own it is closed")
                self._jobs.put(job)
            if not job.done.wait(DEADLINE):
                with self._lock:
                    job.given_up = True
                if not job.done.is_set():
                    raise WaitTimeout(f"{argv[0]!r} was not started within {DEADLINE:g} s; is its file system there?")
            if job.error is not None:
                raise job.error.with_traceback(None)  # the frames of Popen have the environment in them
            assert job.process is not None
            return job.process

    def kill(self) -> None:
        """Kill every process and wait until they are gone; allowed more than once.

        Raises:
            WaitTimeout: one does not die. It may be called again.
        """
        if self._init is None or self._owner != os.getpid() or self not in _alive:
            return
        with self._lock:  # no job comes after this
            lifeline, self._lifeline = self._lifeline, -1
            if lifeline >= 0:
                self._init.kill()
                os.close(lifeline)
                self._jobs.put(None)
        # Jobs that were waiting fail now, for nothing can be started where process 1 is dead. After them there are no
        # further children.
        if not self._thread.await_gone(DEADLINE):
            raise WaitTimeout(f"the thread that starts processes did not end within {DEADLINE:g} s")
        # Process 1 is reaped only after all others are, and our own children are ours to reap: they come first.
        for child in [*self._children, self._init]:
            if not child.await_end(DEATH):
                raise WaitTimeout(
                    f"process {child.pid} ({child.args!r}) has not ended {DEATH:g} s after SIGKILL: "
                    f"it waits in the kernel for something (cat /proc/{child.pid}/stack)"
                )
        for child in [*self._children, self._init]:
            child.release()
        _alive.discard(self)

    def _start_init(self, lifeline: int) -> Child:
        script = _MOUNT_PROC + _INIT if self._own_proc else _INIT
        init = Child(
            ("/bin/sh", "-c", script),
            stdin=lifeline,
            stdout=subprocess.PIPE if self._own_proc else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=self._keep,
            start_new_session=True,
            cwd="/",
            env={"PATH": _PATH},
        )
        if init.stdout is not None:
            with init.stdout as answers:
                heard = readable(answers.fileno(), DEADLINE)
                said = answers.readline().decode("utf-8", "replace").strip() if heard else "mount(8) does not end"
            if said != "mounted":
                init.kill()
                init.await_end(DEATH)
                init.release()
                raise UnsupportedError(
                    f"cannot mount a /proc of its own for an isolated host: {said or 'no mount program'}; in a "
                    "container, start it with --security-opt systempaths=unconfined"
                )
        return init

    def _serve(self) -> None:
        try:
            with ExitStack() as undo:
                if self._prepare is not None:
                    self._prepare()
                unshare(CLONE_NEWPID)
                end, lifeline = os.pipe2(os.O_CLOEXEC)
                undo.callback(os.close, end)
                with ExitStack() as on_error:
                    on_error.callback(os.close, lifeline)
                    self._init = self._start_init(end)
                    with self._lock:
                        if self._given_up:  # process 1 ends when it sees the end of the pipe
                            return
                        self._lifeline = lifeline
                        on_error.pop_all()
        except BaseException as error:  # handed to the constructor, which raises it
            self._ready.put(error)
            return
        self._ready.put(None)
        while (job := self._jobs.get()) is not None:
            self._do(job)

    def _do(self, job: _Job) -> None:
        try:
            # It stays there until the next one: nothing else happens in this thread.
            if isinstance(job.netns, int):
                setns(job.netns)
            else:
                enter(job.netns)
            child = Child(job.argv, **job.options)
        except BaseException as error:  # handed to the caller, who raises it
            dead = isinstance(error, OSError) and error.errno == errno.ENOMEM and self._init_ended
            job.error = InitDied(f"cannot start {job.argv[0]!r}: process 1 has ended") if dead else error
        else:
            child.init = self.init_pid
            with self._lock:
                self._children = [child for child in self._children if not child.released]
                self._children.append(child)
                if job.given_up:
                    child.kill()
            job.process = child
        job.done.set()


_alive: set[Spawner] = set()


def living() -> list[Spawner]:
    """Those that have not been killed."""
    return [spawner for spawner in list(_alive) if spawner.usable]


def _release_in_child() -> None:
    # A fork without exec (multiprocessing, pytest-forked) would hold the lifeline open and keep the processes of a
    # killed parent alive.
    for spawner in list(_alive):
        if spawner._lifeline >= 0:
            os.close(spawner._lifeline)
            spawner._lifeline = -1
        for child in [*spawner._children, spawner.init]:  # not our children
            child.returncode = 0 if child.returncode is None else child.returncode
            child.release()
    _alive.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
