"""The package's descriptors that other code has closed, and returning to a namespace without one.

Tests close descriptors twice, or all above some number. The number then is closed or refers to another file, so it is
checked before use.
"""

from __future__ import annotations

import os

from pytest_netns.kernel.syscalls import open_namespace, setns

#: The advice in messages about one.
ADVICE = (
    "look for a descriptor that is closed twice (os.close() of a number, or of what a socket or a file still has), "
    "and for os.closerange()"
)


def shows(fd: int, inode: int) -> bool:
    """Whether a descriptor still refers to the file that it was opened for, by inode."""
    try:
        return os.fstat(fd).st_ino == inode
    except OSError:
        return False


def lost(fd: int, what: str) -> str:
    """A message: a descriptor was closed by other code."""
    return f"descriptor {fd}, {what}, was closed by somebody else; {ADVICE}"


def return_without(inode: int) -> bool:
    """Move the calling thread to the network namespace with an inode, found without its descriptor.

    It is looked for among the other descriptors and the threads of this process, and in its parent and process 1.
    Returns whether it was found.
    """
    places = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    places += [f"/proc/self/task/{name}/ns/net" for name in os.listdir("/proc/self/task")]
    places += [f"/proc/{os.getppid()}/ns/net", "/proc/1/ns/net"]
    for place in places:
        try:
            if os.readlink(place) != f"net:[{inode}]":
                continue
            fd = open_namespace(place)
        except OSError:
            continue
        try:
            setns(fd)
        except OSError:
            continue
        else:
            return True
        finally:
            os.close(fd)
    return False
