"""The kernel's stamps on frames: switched on before the first capture, and left on.

The kernel stamps frames only while some socket asks for it, and switches that on from a work queue
(net_enable_timestamp()). What arrives before is stamped when it is read: late, and in the order of reading. So one
socket, in a namespace of its own, asks for as long as the process lives, and the first capture waits until that is
heeded.
"""

from __future__ import annotations

import atexit
import socket
import struct
import threading

from pytest_netns.clock import monotonic, wall_ns
from pytest_netns.errors import WaitTimeout
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import CLONE_NEWNET, unshare

SO_TIMESTAMPNS = 35
_DEADLINE = 5.0

_lock = Lock("switching on the stamps of frames")
_keeper: socket.socket | None = None


def stamp_of(value: bytes) -> int:
    """Nanoseconds since 1970 from an SO_TIMESTAMPNS control message."""
    seconds, nanoseconds = struct.unpack("qq", value[:16])
    return int(seconds * 1_000_000_000 + nanoseconds)


def start() -> None:
    """Return when the kernel stamps frames; costs something the first time only.

    Raises:
        WaitTimeout: it does not within some seconds.
    """
    global _keeper
    with _lock:
        if _keeper is not None:
            return
        made: list[socket.socket | BaseException] = []
        # A thread, because it stays in the namespace that it makes; the socket keeps that alive.
        thread = threading.Thread(target=lambda: made.append(_made()), name="netns-clock", daemon=True)
        thread.start()
        thread.join(2 * _DEADLINE)
        if not made:
            raise WaitTimeout(f"a namespace for the clock of captures was not ready within {2 * _DEADLINE:g} s")
        if isinstance(made[0], BaseException):
            raise made[0]
        _keeper = made[0]
        atexit.register(_keeper.close)


def descriptor() -> int:
    """Of the socket that asks; -1 before there is one."""
    return -1 if _keeper is None else _keeper.fileno()


def _made() -> socket.socket | BaseException:
    try:
        unshare(CLONE_NEWNET)
        link = NetlinkSocket("clock")
        try:
            link.batch([rtnetlink.link_up(rtnetlink.LOOPBACK_INDEX, "lo")])
        finally:
            link.close()
        keeper = Socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            keeper.settimeout(_DEADLINE)
            keeper.bind(("127.0.0.1", 0))
            keeper.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            _await_stamps(keeper)
        except BaseException:
            keeper.close()
            raise
    except BaseException as error:  # raised by the thread that asked
        return error
    return keeper


def _await_stamps(keeper: socket.socket) -> None:
    deadline = monotonic() + _DEADLINE
    while True:
        keeper.sendto(b"?", keeper.getsockname())
        sent = wall_ns()
        _, control, _, _ = keeper.recvmsg(16, 64)
        if control and stamp_of(control[0][2]) <= sent:  # on its way, not when it was read
            return
        if monotonic() > deadline:
            raise WaitTimeout(f"the kernel did not begin to stamp frames within {_DEADLINE:g} s")
