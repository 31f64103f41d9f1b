"""Joining a node of another process: what its session has made is entered from another terminal."""

from __future__ import annotations

import os
from contextlib import ExitStack

from pytest_netns.errors import PrivilegeError, TopologyError
from pytest_netns.kernel.netns.registry import Entry
from pytest_netns.kernel.procfs import stat
from pytest_netns.kernel.sandbox import keep_capabilities, privileged
from pytest_netns.kernel.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    open_namespace,
    setns,
)


def join(entry: Entry) -> bool:
    """Move this process, which has a single thread, into a node; True if only its children will see the node's PIDs.

    With privilege over the machine that is the network, and for an isolated host its files, host name and processes
    too. Without, this process first enters the session's sandbox: the user namespace, which whoever made it may enter
    (user_namespaces(7)), and its mount namespace.

    Raises:
        PrivilegeError: the node is another user's.
        TopologyError: it has gone.
    """
    wanted: list[tuple[str, int]] = []
    sandboxed = not privileged() and not _same(f"/proc/{entry.pid}/ns/user", "/proc/self/ns/user")
    if sandboxed:
        wanted += [(f"/proc/{entry.pid}/ns/user", CLONE_NEWUSER)]
    if _is_child(entry.init, entry.pid):
        kinds = (("mnt", CLONE_NEWNS), ("uts", CLONE_NEWUTS), ("pid", CLONE_NEWPID))
        wanted += [(f"/proc/{entry.init}/ns/{name}", kind) for name, kind in kinds]
    elif sandboxed:
        wanted += [(f"/proc/{entry.pid}/ns/mnt", CLONE_NEWNS)]
    wanted += [(entry.path, CLONE_NEWNET)]
    folder = os.getcwd()
    with ExitStack() as stack:
        try:
            opened = [(open_namespace(path), kind) for path, kind in wanted]  # before /proc is another one
            for fd, _ in opened:
                stack.callback(os.close, fd)
            for fd, kind in opened:
                setns(fd, kind)
                if kind == CLONE_NEWUSER:
                    keep_capabilities()
        except PermissionError as error:
            raise PrivilegeError(
                f"cannot enter {entry} of process {entry.pid}: {error.strerror}; run as the user whose session it is, "
                "or as root"
            ) from None
        except FileNotFoundError:
            raise TopologyError(f"{entry} of process {entry.pid} has just gone") from None
    try:
        os.chdir(folder)  # a mount namespace is entered at its root
    except OSError:  # hidden from an isolated host
        os.chdir("/")
    return any(kind == CLONE_NEWPID for _, kind in wanted)


def _same(path: str, other: str) -> bool:
    try:
        return os.stat(path).st_ino == os.stat(other).st_ino
    except OSError:
        return False


def _is_child(pid: int, parent: int) -> bool:
    """Whether a process is there and was started by the other: a number alone may be somebody else's by now."""
    found = stat(pid) if pid else None
    return found is not None and found.parent == parent
