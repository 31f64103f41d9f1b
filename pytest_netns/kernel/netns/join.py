"""Joining a node of another process: what its session has made is entered from another terminal.

Nobody gains rights by it. What a process says of its nodes is its user's word, and no better than that: who may look
into another user's session, as root may, becomes that user first, in their user namespace, and enters nothing of files
and processes that does not belong to it.
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
    """Whether a node belongs to somebody who is not the user of this process. Raises TopologyError if it has gone."""
    try:
        return set(_status(entry.pid, "Uid")) != set(os.getresuid())
    except (FileNotFoundError, ProcessLookupError):
        raise TopologyError(f"{entry} of process {entry.pid} has just gone") from None


def join(entry: Entry) -> bool:
    """Move this process, which has a single thread, into a node; True if only its children will see the node's PIDs.

    That is the network, and for an isolated host its files, host name and processes too. Where the session is in a
    sandbox this process first enters that: the user namespace, which whoever made it may enter (user_namespaces(7)),
    and its mount namespace. Root becomes the user whose session it is.

    Raises:
        PrivilegeError: the node is another user's, and this process cannot become them.
        TopologyError: it has gone.
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
            # All are opened before /proc is another one.
            user = opened(f"/proc/{entry.pid}/ns/user" if sandboxed else "/proc/self/ns/user")
            found = [(opened(path), kind) for path, kind in wanted]
            found = [(fd, kind) for fd, kind in found if not _is_current(fd, kind)]  # a host may isolate some things
            network = opened(entry.path)
            if sandboxed:
                if another:
                    os.setgroups([])  # inside nobody may change them
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
        os.chdir(folder)  # a mount namespace is entered at its root
    except OSError:  # hidden from an isolated host
        os.chdir("/")
    return any(kind == CLONE_NEWPID for _, kind in found)


def _status(pid: int, name: str) -> list[int]:
    """A line of numbers of proc_pid_status(5), as this user namespace counts them."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        line = next(line for line in file if line.startswith(f"{name}:"))
    return [int(number) for number in line.split()[1:]]


def _become(pid: int) -> None:
    """Become the user of a process, of whose user namespace this process is already. Raises PermissionError."""
    (group, *_), (user, *_) = _status(pid, "Gid"), _status(pid, "Uid")
    try:
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    except OSError as error:  # EINVAL: it has made itself somebody who is unknown inside
        raise PermissionError(error.errno, f"cannot become its user ({error.strerror})") from None


_LINKS = {CLONE_NEWNS: "mnt", CLONE_NEWUTS: "uts", CLONE_NEWIPC: "ipc", CLONE_NEWPID: "pid"}


def _is_current(fd: int, kind: int) -> bool:
    """Whether it is the one that this process is in."""
    return os.fstat(fd).st_ino == os.stat(f"/proc/self/ns/{_LINKS[kind]}").st_ino


def _belongs_to(fd: int, user: int) -> bool:
    """Whether a namespace belongs to the user namespace ``user``, in which this process is."""
    import fcntl  # not on Windows, where this module must still import

    try:
        owner = fcntl.ioctl(fd, _NS_GET_USERNS)
    except PermissionError:  # it belongs to one above ours
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
    """Whether a process is there and was started by the other: a number alone may be somebody else's by now."""
    found = stat(pid) if pid else None
    return found is not None and found.parent == parent
