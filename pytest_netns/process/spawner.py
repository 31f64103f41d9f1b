"""Starting processes so that none survives: every one lives in a PID namespace that dies with us.

A PID namespace is the only thing that kills a daemon which forked twice into a session of its own; a parent-death
signal reaches the direct child only. Ours has as its process 1 a shell that reads a pipe whose other end is held by
this process alone. When we end, by whatever means, it reads end-of-file and exits, and the kernel kills the rest
(pid_namespaces(7)).

unshare(CLONE_NEWPID) concerns the children of the calling thread only, and there is no way back without privilege over
the outer namespace, so one thread is given to it for good. Such a thread may fork but not start threads.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from pytest_netns.errors import NetnsError, UnsupportedError
from pytest_netns.kernel.syscalls import CLONE_NEWPID, setns, unshare

# A shell that waits for a subshell reaps the orphans that are handed to process 1 too, so no zombies gather. (It must
# not read the pipe itself under "trap '' CHLD": dash's read fails when an orphan ends.) The loop is for kill(-1, ...),
# which spares process 1 alone. Signals of the terminal do not reach it: it has a session of its own, and a process 1
# without handlers ignores them anyhow.
_INIT = "while (read -r _); test $? -gt 128; do :; done"
# Only a process of the PID namespace can mount its /proc.
_MOUNT_PROC = "mount -n -t proc -o nosuid,nodev,noexec proc /proc 2>&1 || exit 1; echo mounted; "
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class _Job:
    argv: Sequence[str]
    netns: int
    options: Mapping[str, object]
    done: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen[bytes] | None = None
    error: BaseException | None = None


class Spawner:
    """One PID namespace and the thread that starts processes in it.

    Args:
        prepare: called once in the spawning thread before anything is started, to enter further namespaces.
        own_proc: mount a /proc that shows the processes of the PID namespace, in the mount namespace that ``prepare``
            has entered.
    """

    def __init__(self, prepare: Callable[[], None] | None = None, own_proc: bool = False) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._prepare = prepare
        self._own_proc = own_proc
        self._lifeline = -1
        self._init: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="netns-spawner")
        self._thread.start()
        failure = self._ready.get()
        if failure is not None:
            self._thread.join()
            raise failure
        _alive.add(self)

    @property
    def usable(self) -> bool:
        """False once killed, and in a forked child of the process that made it."""
        return self._lifeline >= 0 and self._owner == os.getpid()

    @property
    def init_pid(self) -> int:
        """Process 1 of the PID namespace, as seen from outside."""
        assert self._init is not None
        return self._init.pid

    def popen(self, argv: Sequence[str], netns: int, **options: object) -> subprocess.Popen[bytes]:
        """``subprocess.Popen`` inside network namespace ``netns``; raises what it raises."""
        job = _Job(argv, netns, options)
        with self._lock:  # or kill() could let the thread end between the question and the job
            if not self.usable:
                raise NetnsError(f"cannot start {argv[0]!r}: the lab that would own it is closed")
            self._jobs.put(job)
        job.done.wait()
        if job.error is not None:
            raise job.error.with_traceback(None)  # the frames of Popen have the environment in them
        assert job.process is not None
        with self._lock:
            self._children = [child for child in self._children if child.returncode is None]
            self._children.append(job.process)
        return job.process

    def kill(self) -> None:
        """Kill every process and wait until they are gone; allowed more than once."""
        with self._lock:
            lifeline, self._lifeline = self._lifeline, -1
        if lifeline < 0 or self._owner != os.getpid() or self._init is None:
            return
        _alive.discard(self)
        self._init.kill()
        os.close(lifeline)
        # Process 1 is reaped only after all others are, and our own children are ours to reap: they come first.
        for child in self._children:
            child.wait()
        self._init.wait()
        self._jobs.put(None)
        self._thread.join()

    def _start_init(self, lifeline: int) -> subprocess.Popen[bytes]:
        script = _MOUNT_PROC + _INIT if self._own_proc else _INIT
        init = subprocess.Popen(
            ("/bin/sh", "-c", script),
            stdin=lifeline,
            stdout=subprocess.PIPE if self._own_proc else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": _PATH},
        )
        if init.stdout is not None:
            with init.stdout as answers:
                said = answers.readline().decode("utf-8", "replace").strip()
            if said != "mounted":
                init.kill()
                init.wait()
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
                try:
                    self._init = self._start_init(end)
                except BaseException:
                    os.close(lifeline)
                    raise
                self._lifeline = lifeline
        except BaseException as error:  # handed to the constructor, which raises it
            self._ready.put(error)
            return
        self._ready.put(None)
        while (job := self._jobs.get()) is not None:
            try:
                setns(job.netns)  # and stays there until the next one: nothing else happens in this thread
                job.process = subprocess.Popen(job.argv, **job.options)  # type: ignore[call-overload]
            except BaseException as error:  # handed to the caller, who raises it
                job.error = error
            job.done.set()


_alive: weakref.WeakSet[Spawner] = weakref.WeakSet()


def living() -> list[Spawner]:
    """Those that have not been killed."""
    return [spawner for spawner in _alive if spawner.usable]


def _release_in_child() -> None:
    # A fork without exec (multiprocessing, pytest-forked) would hold the lifeline open and keep the processes of a
    # killed parent alive.
    for spawner in list(_alive):
        if spawner._lifeline >= 0:
            os.close(spawner._lifeline)
            spawner._lifeline = -1
        if spawner._init is not None:
            spawner._init.returncode = 0  # not our child: Popen must not complain that it was never awaited
        for child in spawner._children:
            child.returncode = 0 if child.returncode is None else child.returncode
    _alive.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
