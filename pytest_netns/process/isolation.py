"""The rest of a host: a mount namespace with files of its own, a host name, and a /proc of its own processes.

All of it hangs on the one thread that starts the host's processes: unshare(CLONE_NEWNS) concerns the calling thread
only (unshare(2): it implies CLONE_FS). Threads of ``Node.call`` enter by descriptor. When both are gone the kernel
takes everything away, tmpfs and all.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Literal

from pytest_netns.errors import KernelError
from pytest_netns.kernel.syscalls import (
    CLONE_FS,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    mount,
    open_namespace,
    setns,
    unshare,
)

Kind = Literal["mount", "uts", "pid", "ipc"]
KINDS: tuple[Kind, ...] = ("mount", "uts", "pid", "ipc")

#: Directories that are empty and private for a host with its own mount namespace, with their modes.
_PRIVATE = {"/run": "0755", "/tmp": "1777"}
_FILES = ("/etc/hosts", "/etc/resolv.conf")
_KEPT = "/run/pytest-netns"


class Isolation:
    """What a host has of its own beside its network.

    Args:
        kinds: ``mount``: /run, /tmp, /sys, /etc/hosts and /etc/resolv.conf; ``uts``: the host name; ``pid``: a /proc
            that shows its own processes; ``ipc``: message queues, semaphores and shared memory of System V, and message
            queues of POSIX.
        hostname: for ``uts``.
        netns: descriptor of its network namespace, whose interfaces /sys shows.
        visible: gives directories under /run and /tmp that stay visible, beside the interpreter's and the working
            directory.
    """

    def __init__(
        self,
        kinds: Iterable[Kind],
        hostname: str,
        netns: int,
        visible: Callable[[], Iterable[str | os.PathLike[str]]],
    ) -> None:
        self.kinds: frozenset[Kind] = frozenset(kinds)
        self._hostname = hostname
        self._netns = netns
        self._visible = visible
        self._namespaces: list[tuple[int, int]] = []
        self._files: dict[str, int] = {}
        self._written: dict[str, bytes] = {}
        #: The lock of iptables: the machine's is for root alone, and a /proc of its own does not show ours.
        self.held_by_init: tuple[int, ...] = ()
        if "pid" in self.kinds:
            self.held_by_init = (os.memfd_create("xtables.lock", os.MFD_CLOEXEC),)

    def prepare(self) -> None:
        """Called in the thread that will start the host's processes. Raises KernelError.

        A second time, in another thread, when process 1 of the PID namespace was killed: all that is on files is as
        before.
        """
        try:
            if self._namespaces:
                self._prepare_again()
            else:
                self._prepare()
        except OSError as error:
            step = str(error.filename or "isolate")
            raise KernelError.of(error, step, self._hostname, "while isolating the host") from error

    def _prepare(self) -> None:
        setns(self._netns)
        unshare(CLONE_NEWNS)
        mount("none", "/", None, MS_REC | MS_SLAVE)
        if "uts" in self.kinds:
            unshare(CLONE_NEWUTS)
            socket.sethostname(self._hostname)
            self._namespaces.append((open_namespace("/proc/thread-self/ns/uts"), CLONE_NEWUTS))
        if "ipc" in self.kinds:
            unshare(CLONE_NEWIPC)
            self._namespaces.append((open_namespace("/proc/thread-self/ns/ipc"), CLONE_NEWIPC))
        if "mount" in self.kinds:
            self._mount_sys()
            self._mount_private()
            self._namespaces.append((open_namespace("/proc/thread-self/ns/mnt"), CLONE_NEWNS))
        if "pid" in self.kinds and "mount" in self.kinds:
            # The processes' /proc comes into a copy: a thread of the test that enters by call() needs the one that
            # it is in itself, or /proc/self would be nobody there.
            unshare(CLONE_NEWNS)

    def _prepare_again(self) -> None:
        setns(self._netns)
        self.enter()
        if "pid" in self.kinds or "mount" not in self.kinds:
            unshare(CLONE_NEWNS)
            mount("none", "/", None, MS_REC | MS_SLAVE)

    def _mount_sys(self) -> None:
        groups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC) if os.path.isdir("/sys/fs/cgroup") else -1
        try:
            mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
            if groups >= 0:
                mount(f"/proc/self/fd/{groups}", "/sys/fs/cgroup", None, MS_BIND | MS_REC)
        finally:
            if groups >= 0:
                os.close(groups)

    def _mount_private(self) -> None:
        kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in self._kept()]
        # Where resolv.conf is a link into /run, the file is made there.
        targets = {name: os.path.realpath(name) for name in _FILES if os.path.lexists(name)}
        try:
            for path, mode in _PRIVATE.items():
                mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
            for path, fd in kept:
                _make_way(path)
                mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        finally:
            for _, fd in kept:
                os.close(fd)
        _make_way(_KEPT)
        for name, target in targets.items():
            own = os.path.join(_KEPT, os.path.basename(name))
            self._files[name] = os.open(own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.fchmod(self._files[name], 0o644)
            if not os.path.exists(target):
                _make_way(os.path.dirname(target))
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            mount(own, target, None, MS_BIND)

    def _kept(self) -> list[str]:
        """Directories in hidden ones that stay visible: the given ones, the interpreter's, and where the test runs.

        Without the last two, a checkout or a virtual environment under /tmp would not exist for the host.
        """
        wanted = [*self._visible(), sys.prefix, sys.base_prefix, os.getcwd()]
        found: list[str] = []
        for path in sorted({os.path.abspath(path) for path in wanted}, key=len):
            hidden = any(path.startswith(private + "/") for private in _PRIVATE)
            if hidden and not any(path == other or path.startswith(other + "/") for other in found):
                found.append(path)
        return found

    def write(self, name: str, text: str) -> None:
        """Change one of its files, for its running processes too."""
        data = text.encode()
        fd = self._files.get(name)
        if fd is not None and self._written.get(name) != data:
            os.pwrite(fd, data, 0)
            os.truncate(fd, len(data))
            self._written[name] = data

    def working_directory(self) -> str:
        """Where its processes start: the test's own working directory, or / where that is hidden."""
        current = os.getcwd()
        visible = self._kept() if "mount" in self.kinds else ["/"]
        hidden = any(current == private or current.startswith(private + "/") for private in _PRIVATE)
        return current if not hidden or any((current + "/").startswith(path) for path in visible) else "/"

    def enter(self) -> None:
        """Move the calling thread inside, for good. Not for the main thread."""
        if self._namespaces:
            unshare(CLONE_FS)  # a thread that shares its working directory cannot change its mount namespace
        for fd, kind in self._namespaces:
            setns(fd, kind)

    def close(self) -> None:
        """Let go of everything."""
        for fd in [*self._files.values(), *(fd for fd, _ in self._namespaces)]:
            os.close(fd)
        for fd in self.held_by_init:
            os.close(fd)
        self._files.clear()
        self._namespaces.clear()
        self.held_by_init = ()


def _make_way(path: str) -> None:
    """``mkdir -p``, open to everybody whatever our umask is: daemons that drop root must get through."""
    if os.path.isdir(path):
        return
    _make_way(os.path.dirname(path))
    os.mkdir(path)
    os.chmod(path, 0o755)
