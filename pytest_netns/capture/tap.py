"""Tap: one packet socket that listens to the interfaces of a namespace, and the pump that drains all taps.

The kernel queues; one thread of ours empties the queues into lists, a batch at a time, so that a long capture does not
overflow them. A ring (packet_mmap) would drain faster still, but takes 8 ms to set up and 24 to tear down.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_netns.capture import bpf, timestamps
from pytest_netns.capture.frame import ETH_CANARY, Frame
from pytest_netns.capture.offload import HEADER, decode
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel import reaper
from pytest_netns.kernel.hidden_thread import HiddenThread
from pytest_netns.kernel.interface_names import is_redirect
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.packet_socket import (
    ETH_P_ALL,
    PACKET_AUXDATA,
    PACKET_STATISTICS,
    PACKET_VNET_HDR,
    SOL_PACKET,
    open_packet_socket,
    set_buffer,
)
from pytest_netns.kernel.syscalls import bind_packet_socket

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.stack.namespace import Namespace

#: How the header of most frames begins: no flag, and no segments.
_NOTHING_LEFT = bytes(2)
_PACKET_OUTGOING = 4
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6

#: Bytes of queue asked for: some 80,000 small frames. Without privilege over the machine the kernel grants less
#: (net.core.rmem_max), and the pump turns more often.
BUFFER = 64 << 20
#: Seconds that frames may wait in the queue; the smaller, the more turns the pump makes.
_PAUSE = 0.01
#: Bytes of queue that 200,000 small frames a second fill: a queue is drained before it can be full.
_FILL_RATE = 200_000 * 768
#: Milliseconds after which the pump looks whether there are new taps, though nothing has come in.
_NEWCOMERS = 20
_BATCH = 4096


class Tap:
    """Frames of one namespace: of one interface, or of all, later ones included.

    Args:
        node: the namespace.
        interface: name of an interface; None for all.
        filter_code: a BPF program; None for every frame.
        deliver: called with each batch of frames, in the pump's thread or in that of who calls ``drain``.

    Raises:
        KernelError: no such interface, or it is down.
    """

    def __init__(
        self,
        node: Namespace,
        interface: str | None,
        filter_code: bytes | None,
        deliver: Callable[[list[Frame]], None],
    ) -> None:
        self.node = node
        self.interface = interface
        self._name = node.name
        self._deliver = deliver
        self._lock = Lock("reading captured frames")
        self._drops = 0
        self._closed = False
        self._owner = os.getpid()
        self.pause: float = _PAUSE
        timestamps.start()
        index = 0 if interface is None else node.interface(interface).index  # raises a clear error

        def configure(sock: socket.socket) -> None:
            set_buffer(sock, socket.SO_RCVBUF, BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, timestamps.SO_TIMESTAMPNS, 1)
            sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            sock.setblocking(False)
            granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.pause = min(_PAUSE, granted / _FILL_RATE)
            if filter_code is not None:
                bpf.attach(sock, filter_code)
            bind_packet_socket(sock.fileno(), ETH_P_ALL, index)

        try:
            self._socket = open_packet_socket(node, configure)
        except OSError as error:
            raise KernelError.of(error, f"capture on {interface or 'all interfaces'}", node.name) from error

    def fileno(self) -> int:
        """Its descriptor, for poll(2); -1 once closed."""
        return -1 if self._closed else self._socket.fileno()

    @property
    def drops(self) -> int:
        """Frames that the kernel had to throw away because the queue was full."""
        with self._lock:
            if not self._closed and self._owner == os.getpid():
                self._count_drops()
            return self._drops

    def _count_drops(self) -> None:
        # reading resets the kernel's count
        self._drops += struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]

    def drain(self) -> int:
        """Deliver what is queued now; returns how many frames that were."""
        total = 0
        if self._owner != os.getpid():
            return 0
        with self._lock:
            if self._closed:
                return 0
            while True:
                batch = self._batch()
                if batch:
                    self._deliver(batch)
                total += len(batch)
                if len(batch) < _BATCH:
                    return total

    def _batch(self) -> list[Frame]:
        frames: list[Frame] = []
        receive, name = self._socket.recvmsg, self._name
        gone = False
        while len(frames) < _BATCH:
            try:
                data, control, _, (interface, _, kind, hardware, _) = receive(1 << 18, 128)
            except BlockingIOError:
                break  # the queue is empty
            except OSError as error:
                if error.errno == errno.EINVAL:  # several segments in one piece, and not of TCP or UDP
                    self._drops += 1
                    continue
                if error.errno not in (errno.ENETDOWN, errno.ENODEV):
                    raise
                if gone:
                    break
                gone = True  # the interface went away, which is told once and before what is still queued
                continue
            if kind == _PACKET_OUTGOING and hardware == _ARPHRD_LOOPBACK:
                continue  # it arrives at once
            if is_redirect(interface):
                continue  # on its way to our relay; it is seen when it leaves its interface
            stamp = 0
            offload = None if data.startswith(_NOTHING_LEFT) else decode(data[: HEADER.size])
            data = data[HEADER.size :]
            for level, what, value in control:
                if level == socket.SOL_SOCKET:
                    stamp = timestamps.stamp_of(value)
                elif what == PACKET_AUXDATA:
                    untagged, data = data, _with_tag(data, value)
                    if offload is not None and data is not untagged:
                        offload = offload.behind_tag()
            ethernet = hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK)
            place = interface or self.interface or "(removed)"  # the name is asked for by number, now
            frames.append(Frame(stamp, name, place, kind == _PACKET_OUTGOING, data, ethernet, "", offload))
        return frames

    def send_canary(self, token: bytes) -> str | None:
        """Send a frame of ours out of each interface that is listened to; returns why that failed, if it did."""
        if self.interface is not None:
            return self._send(self.interface, token)
        # Where all are, nothing can be missed on those that carry no frames: not now, or because they were set down or
        # removed a moment ago, as the kernel does with a cable whose other end has gone. Without any, the loopback.
        sent = False
        for name, interface in self.node.interfaces.items():
            if name == "lo" or not _is_up(interface):
                continue
            try:
                failed = self._send(name, token)
            except TopologyError:
                failed = "it was removed"
            if failed and _is_up(interface):
                return failed
            sent = sent or not failed
        return None if sent else self._send("lo", token)

    def _send(self, name: str, token: bytes) -> str | None:
        if not self.node.interface(name).is_up:
            return f"{self._name}:{name}: the link is down"
        try:
            sender = open_packet_socket(self.node)
            try:
                mac = bytes.fromhex(self.node.interface(name).mac.replace(":", "") or "00" * 6)
                # to itself: no host takes it, and a bridge does not learn from it what it does not know
                sender.sendto(mac + mac + token, (name, int.from_bytes(ETH_CANARY, "big")))
            finally:
                sender.close()
        except OSError as error:
            return f"{self._name}:{name}: {os.strerror(error.errno or 0)}"
        return None

    def close(self) -> None:
        """Stop listening; allowed more than once."""
        if self._owner != os.getpid():  # its frames, and their count, are the parent's
            self._closed = True
            self._socket.close()
            return
        with self._lock:
            if not self._closed:
                self._count_drops()
                self._closed = True
                reaper.later(self._socket.close)


def _is_up(interface: Interface) -> bool:
    try:
        return interface.is_up
    except TopologyError:  # it was removed
        return False


def _with_tag(data: bytes, auxiliary: bytes) -> bytes:
    """Put a VLAN tag back that the kernel has taken off (packet(7), PACKET_AUXDATA)."""
    status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", auxiliary[:20])
    if not status & _TP_STATUS_VLAN_VALID:
        return data
    return data[:12] + struct.pack("!HH", tpid if status & _TP_STATUS_VLAN_TPID_VALID else 0x8100, tci) + data[12:]


class _Pump:
    """Drains all taps of this process, so that none overflows while nobody looks."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Also in a forked child: threads do not survive, the parent's taps are not ours, and locks may be held."""
        self._lock = Lock("beginning or ending a capture")
        self._taps: set[Tap] = set()
        self._never = threading.Event()
        self._thread: HiddenThread | None = None

    def add(self, taps: list[Tap]) -> None:
        """Begin to read these."""
        with self._lock:
            self._taps.update(taps)
            if self._thread is None:
                self._thread = HiddenThread(self._run)

    def remove(self, taps: list[Tap]) -> None:
        """Read these no more."""
        with self._lock:
            self._taps.difference_update(taps)

    def _run(self) -> None:
        while True:
            with self._lock:
                taps = list(self._taps)
                if not taps:
                    self._thread = None
                    return
            poll = select.poll()
            for tap in taps:
                if (fd := tap.fileno()) >= 0:
                    poll.register(fd, select.POLLIN)
            if poll.poll(_NEWCOMERS):
                self._never.wait(min(tap.pause for tap in taps))  # to take many frames in one turn
                for tap in taps:
                    tap.drain()


pump: _Pump = _Pump()
