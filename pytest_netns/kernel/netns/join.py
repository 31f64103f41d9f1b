"""Joining a node of another process, e.g. from another terminal.

Joining grants no additional rights. A process's file of nodes is only as trustworthy as its user. So a privileged user,
such as root, first switches to the user who owns the session, in that user's user namespace, and enters no mount or PID
namespace that does not belong to it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from pytest_netns.errors import PrivilegeError, TopologyError
from pytest_netns.kernel.netns.registry import Entry
from pytest_netns.kernel.procfs import stat
from pytest_netns.kernel.sandbox import keep_capabilities
from pytest_netns.kernel.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    open_namespace,
    setns,
)

_NS_GET_USERNS = 0xB701  # ioctl_ns(2)


def is_another_users(entry: Entry) -> bool:
    """Whether a node belongs to a user other than this process's. Raises TopologyError if the node is gone."""
    try:
        return set(_status(entry.pid, "Uid")) != set(os.getresuid())
    except (FileNotFoundError, ProcessLookupError):
        raise TopologyError(f"{entry} of process {entry.pid} has just gone") from None


def join(entry: Entry) -> bool:
    """Move this single-threaded process into a node.

    It enters the node's network namespace and, for an isolated host, its mount, UTS and PID namespaces. If the session
    is in a sandbox, it first enters the sandbox's user namespace, which its creator may enter (user_namespaces(7)), and
    mount namespace. Root switches to the user of the session.

    Returns:
        True if the node has a PID namespace, which only children of this process will be in.

    Raises:
        PrivilegeError: the node belongs to another user, and this process cannot switch to that user.
        TopologyError: the node is gone.
    """
    wanted: list[tuple[str, int]] = []
    sandboxed = not _same(f"/proc/{entry.pid}/ns/user", "/proc/self/ns/user")
    another = is_another_users(entry)
    if another and not sandboxed:
        raise PrivilegeError(f"cannot enter {entry} of process {entry.pid}: it is another user's; run as that user")
    if _is_child(entry.init, entry.pid):
        kinds = (("mnt", CLONE_NEWNS), ("uts", CLONE_NEWUTS), ("ipc", CLONE_NEWIPC), ("pid", CLONE_NEWPID))
        wanted += [(f"/proc/{entry.init}/ns/{name}", kind) for name, kind in kinds]
    elif sandboxed:
        wanted += [(f"/proc/{entry.pid}/ns/mnt", CLONE_NEWNS)]
    folder = os.getcwd()
    with ExitStack() as stack:

        def opened(path: str) -> int:
            fd = open_namespace(path)
            stack.callback(os.close, fd)
            return fd

        try:
            # All are opened before this process sees another /proc.
            user = opened(f"/proc/{entry.pid}/ns/user" if sandboxed else "/proc/self/ns/user")
            found = [(opened(path), kind) for path, kind in wanted]
            found = [(fd, kind) for fd, kind in found if not _is_current(fd, kind)]  # isolation may be partial
            network = opened(entry.path)
            if sandboxed:
                if another:
                    os.setgroups([])  # after entering, groups cannot be changed
                setns(user, CLONE_NEWUSER)
                if another:
                    _become(entry.pid)
                keep_capabilities()
            for fd, kind in found:
                if not _belongs_to(fd, user):
                    raise PrivilegeError(
                        f"cannot enter {entry} of process {entry.pid}: what it calls its files and processes belongs "
                        "to another user namespace"
                    )
                setns(fd, kind)
            setns(network, CLONE_NEWNET)
        except PermissionError as error:
            raise PrivilegeError(
                f"cannot enter {entry} of process {entry.pid}: {error.strerror}; run as the user whose session it is, "
                "or as root"
            ) from None
        except (FileNotFoundError, ProcessLookupError):
            raise TopologyError(f"{entry} of process {entry.pid} has just gone") from None
    try:
        os.chdir(folder)  # entering a mount namespace changes the directory to its root
    except OSError:  # not visible in an isolated host
        os.chdir("/")
    return any(kind == CLONE_NEWPID for _, kind in found)


def _status(pid: int, name: str) -> list[int]:
    """A line of numeric IDs of proc_pid_status(5), as mapped in this user namespace."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        line = next(line for line in file if line.startswith(f"{name}:"))
    return [int(number) for number in line.split()[1:]]


def _become(pid: int) -> None:
    """Switch to the user of a process, whose user namespace this process is in already. Raises PermissionError."""
    (group, *_), (user, *_) = _status(pid, "Gid"), _status(pid, "Uid")
    try:
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    except OSError as error:  # EINVAL: its user ID is not mapped in the user namespace
        raise PermissionError(error.errno, f"cannot become its user ({error.strerror})") from None


_LINKS = {CLONE_NEWNS: "mnt", CLONE_NEWUTS: "uts", CLONE_NEWIPC: "ipc", CLONE_NEWPID: "pid"}


def _is_current(fd: int, kind: int) -> bool:
    """Whether a namespace is the one that this process is in."""
    return os.fstat(fd).st_ino == os.stat(f"/proc/self/ns/{_LINKS[kind]}").st_ino


def _belongs_to(fd: int, user: int) -> bool:
    """Whether a namespace is owned by the user namespace ``user``, in which this process is."""
    import fcntl  # not on Windows, where this module must still import

    try:
        owner = fcntl.ioctl(fd, _NS_GET_USERNS)
    except PermissionError:  # it is owned by an ancestor of this user namespace
        return False
    try:
        return os.path.sameopenfile(owner, user)
    finally:
        os.close(owner)


def _same(path: str, other: str) -> bool:
    try:
        return os.stat(path).st_ino == os.stat(other).st_ino
    except OSError:
        return False


def _is_child(pid: int, parent: int) -> bool:
    """Whether a process exists and is a child of the other: its PID alone may have been reused."""
    found = stat(pid) if pid else None
    return found is not None and found.parent == parent
