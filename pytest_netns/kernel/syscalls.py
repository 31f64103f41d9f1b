"""System calls that Python lacks or has only since 3.12, and how a thread enters a network namespace.

Importable on any system: on systems other than Linux, only a call raises ``UnsupportedError``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from functools import cache
from typing import Protocol

from pytest_netns.errors import NetnsError, UnsupportedError
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.locks import Lock

# From <linux/sched.h>; see namespaces(7).
CLONE_NEWNS = 0x00020000
CLONE_FS = 0x00000200
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# From <sys/mount.h>; see mount(2).
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

# The calling thread's network namespace. /proc/self is the main thread's, which is wrong in any other thread.
THREAD_NETNS = "/proc/thread-self/ns/net"


@cache
def _libc() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        raise UnsupportedError(f"network namespaces exist on Linux only, and this is {sys.platform}")
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces. See unshare(2); raises OSError."""
    _checked(_libc().unshare(flags), "unshare")


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace that ``fd`` refers to. See setns(2); raises OSError."""
    _checked(_libc().setns(fd, kind), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """Mount a file system. See mount(2); raises OSError that names the target."""

    def text(value: str | None) -> bytes | None:
        return None if value is None else os.fsencode(value)

    result = _libc().mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(data))
    _checked(result, f"mount {target}")


def unmount(target: str, flags: int = 0) -> None:
    """Unmount a file system. See umount2(2); raises OSError that names the target."""
    _checked(_libc().umount2(os.fsencode(target), flags), f"umount {target}")


def system_call(number: int, *arguments: object) -> int:
    """A system call that the C library may lack, by number. See syscall(2); raises OSError."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc().syscall(ctypes.c_long(number), *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, *arguments: int) -> None:
    """Operate on the calling thread or process. See prctl(2); raises OSError."""
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_libc().prctl(option, *padded), f"prctl({option})")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent exits. See PR_SET_PDEATHSIG in prctl(2)."""
    parent = os.getppid()
    prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:  # the parent had exited already
        os.kill(os.getpid(), _SIGKILL)


def capabilities() -> tuple[int, int, int]:
    """Effective, permitted and inheritable capability sets of this thread as bit masks. See capget(2)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc().capget(header, data), "capget")
    return data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's capability sets. See capset(2); raises OSError."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low = [value & 0xFFFFFFFF for value in (effective, permitted, inheritable)]
    high = [value >> 32 for value in (effective, permitted, inheritable)]
    data = (ctypes.c_uint32 * 6)(*low, *high)
    _checked(_libc().capset(header, data), "capset")


def bind_packet_socket(fd: int, ethertype: int, index: int) -> None:
    """Bind a packet socket to an interface by index; 0 means all, which socket.bind() cannot do. See packet(7)."""
    address = struct.pack("=HHiHBB8s", 17, socket.htons(ethertype), index, 0, 0, 0, b"")
    _checked(_libc().bind(fd, address, len(address)), "bind")


def open_namespace(path: str = THREAD_NETNS) -> int:
    """Open a namespace and return the descriptor; by default, the calling thread's network namespace."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class returning:  # noqa: N801 - used like the functions of contextlib
    """After the ``with`` block, the calling thread is back in its network namespace, whichever it entered meanwhile.

    The block is not interruptible (``interrupts.uninterrupted``), so that the thread never stays elsewhere.
    """

    __slots__ = ("_previous",)

    def __enter__(self) -> None:
        uninterrupted.__enter__()
        try:
            self._previous = open_namespace()
        except BaseException:
            uninterrupted.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            return_to(self._previous)
        finally:
            uninterrupted.__exit__()


class Holder(Protocol):
    """An object that keeps a network namespace alive."""

    @property
    def fd(self) -> int:
        """Descriptor of the namespace. Raises NetnsError once closed."""


# A closed descriptor's number is reused at once, and ``returning()`` opens the caller's namespace, usually the host's
# own, under such a number. So a holder's descriptor must not be closed between reading its number and using it.
_gate = Lock("entering a namespace, or closing one")


def enter(holder: Holder) -> None:
    """Move the calling thread into the namespace of ``holder``; raises NetnsError if another thread has closed it."""
    with _gate:
        fd = holder.fd
        try:
            setns(fd)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.EINVAL):  # the number is closed, or now another file
                raise NetnsError(
                    f"descriptor {fd}, which holds a network namespace, was closed by somebody else ({error.strerror})"
                ) from None
            raise


def let_go(fd: int) -> None:
    """Close the descriptor of a holder that no longer returns it."""
    with _gate:
        os.close(fd)


class entered(returning):  # noqa: N801 - likewise
    """The calling thread is in a network namespace for the duration of the ``with`` block.

    The thread returns to where it was before, so blocks nest. The block is not interruptible, so keep it short. Never
    hold one across an ``await``: other tasks of the same thread would run inside too.

    Args:
        place: the object that keeps the namespace alive; or its descriptor, if it cannot be closed meanwhile.
    """

    __slots__ = ("_place",)

    def __init__(self, place: Holder | int) -> None:
        self._place = place

    def __enter__(self) -> None:
        super().__enter__()
        try:
            if isinstance(self._place, int):
                setns(self._place)
            else:
                enter(self._place)
        except BaseException:
            self.__exit__()
            raise


class visiting:  # noqa: N801 - likewise
    """As ``entered``, but interruptible: for blocks of user code, and for long ones.

    Args:
        place: descriptor of the namespace.
    """

    __slots__ = ("_place", "_previous")

    def __init__(self, place: int) -> None:
        self._place = place
        self._previous = -1

    def __enter__(self) -> None:
        try:
            with uninterrupted:
                self._previous = open_namespace()
                setns(self._place)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        came: BaseException | None = None
        while True:
            try:
                uninterrupted.__enter__()
            except BaseException as interruption:  # the thread returns nevertheless
                came = interruption
            else:
                break
        try:
            previous, self._previous = self._previous, -1
            if previous >= 0:
                return_to(previous)
        finally:
            uninterrupted.__exit__()
        if came is not None:
            raise came


def return_to(previous: int) -> None:
    """Move the calling thread back into a namespace, and close its descriptor."""
    try:
        setns(previous)
    finally:
        os.close(previous)
