"""Which descriptors of this process keep a network namespace alive: namespace files, and sockets in a namespace."""

from __future__ import annotations

import os
import socket
from collections.abc import Container

from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import THREAD_NETNS

_SIOCGSKNS = 0x894C  # a socket's network namespace; netdevice(7), <linux/sockios.h>
_FOLDER = "/proc/self/fd"


def count() -> int:
    """How many descriptors are open; one system call on Linux 6.2 or later."""
    return os.stat(_FOLDER).st_size or len(os.listdir(_FOLDER))


def holders(known: Container[int]) -> dict[int, tuple[int, str]]:
    """Descriptors that hold a namespace other than the calling thread's and the known ones, without UNIX sockets.

    Args:
        known: inodes of the namespaces that may be held.

    Returns:
        For each descriptor, the inode of the namespace and the ``readlink`` text.
    """
    home = os.stat(THREAD_NETNS).st_ino
    found = {}
    for name in os.listdir(_FOLDER):
        try:
            shown = os.readlink(f"{_FOLDER}/{name}")
            if shown.startswith("net:["):
                inode = int(shown[5:-1])
            elif shown.startswith("socket:[") and not _is_local(int(name)):
                inode = _namespace_of(int(name))
            else:
                continue
        except OSError:  # closed by another thread; or a socket of a namespace that may not be entered
            continue
        if inode != home and inode not in known:
            found[int(name)] = inode, shown
    return found


def _is_local(fd: int) -> bool:
    """Whether it is a UNIX socket. They do not count, as every event loop has a pair of them to wake itself up."""
    sock = Socket(fileno=fd)
    try:
        return sock.family == socket.AF_UNIX
    finally:
        sock.detach()


def _namespace_of(fd: int) -> int:
    import fcntl  # not on Windows, where this module must still import

    namespace = fcntl.ioctl(fd, _SIOCGSKNS)
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)
