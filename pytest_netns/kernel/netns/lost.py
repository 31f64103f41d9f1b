"""Descriptors of ours that somebody else has closed, and the way back to a namespace without one.

Tests close numbers twice, or all above some number. What is under a number of ours is then nothing, or another file, so
it is looked at before it is trusted.
"""

from __future__ import annotations

import os

from pytest_netns.kernel.syscalls import open_namespace, setns

#: What to say of one.
ADVICE = (
    "look for a descriptor that is closed twice (os.close() of a number, or of what a socket or a file still has), "
    "and for os.closerange()"
)


def shows(fd: int, inode: int) -> bool:
    """Whether a descriptor is still of the file that it was opened for."""
    try:
        return os.fstat(fd).st_ino == inode
    except OSError:
        return False


def lost(fd: int, what: str) -> str:
    """In words: a descriptor has gone."""
    return f"descriptor {fd}, {what}, was closed by somebody else; {ADVICE}"


def return_without(inode: int) -> bool:
    """Move the calling thread to a network namespace of which some process may be known; whether one was found.

    That is another descriptor of this process, or a thread of it, its parent or process 1.
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
