"""The relay: a process that delays, loses and otherwise impairs frames. Started as ``python -I -S relay.py``.

Standard library only, and nothing of this package, so that it starts in some 15 ms. Frames come from the descriptor of
a tap device, to which the kernel has redirected what an interface was about to send, and go on through a packet socket
that is bound to that interface. See redirect.py for the wiring, and tc-netem(8) for what is imitated: the order of
steps in ``Relay.take`` is that of netem_enqueue() in the kernel's net/sched/sch_netem.c.

It is told what to do over a SOCK_SEQPACKET socket on descriptor 0: one JSON object a message, and every one is answered
by one, with the same serial number. It ends when the other side does.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import heapq
import json
import os
import random
import resource
import select
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

#: Bytes of the header before each frame (struct virtio_net_hdr): what of checksum and segmentation is still to do.
HEADER = 10
#: Bytes of the two MAC addresses that a frame begins with.
_MAC_ADDRESSES = 12
_LARGEST = (1 << 16) + 64
_BATCH = 64
#: Bytes of frames under way, of all directions together, above which further ones are dropped.
_MEMORY = 1 << 29
_TUNSETOFFLOAD = 0x400454D0
#: TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN: what a frame may leave to whoever sends it at last.
_SUPER_FRAMES = 0x0F
_COUNTERS = ("passed", "lost", "duplicated", "corrupted", "reordered", "overflowed", "refused")


def is_chatter(frame: bytes) -> bool:
    """Whether hosts send such a frame unasked, at times of their own: multicast, ARP, neighbour discovery, MLD.

    They draw from random numbers of their own, so that with a seed the fate of all others is the same at each run.
    """
    kind = frame[HEADER + 12 : HEADER + 14]
    if frame[HEADER] & 1 or kind == b"\x08\x06":
        return True
    if kind != b"\x86\xdd" or frame[HEADER + 20 : HEADER + 21] != b"\x3a":
        return False
    return 130 <= frame[HEADER + 54] <= 137 if len(frame) > HEADER + 54 else False


class Direction:
    """The frames that one interface sends."""

    def __init__(self, number: int, tap: int, out: socket.socket) -> None:
        self.number = number
        self.tap = tap
        self.out = out
        self.send: Callable[[bytes], int] = out.send
        self.counts: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        self.queued = 0
        self.busy_until: float = 0.0
        self.closing = False
        self.closed = False
        self.delay: float = 0.0
        self.jitter: float = 0.0
        self.loss: float = 0.0
        self.reorder: float = 0.0
        self.duplicate: float = 0.0
        self.corrupt: float = 0.0
        self.bytes_per_second: float = 0.0
        self.limit: int = 0
        self.super_frames: bool = False
        self.seeded: bool = False
        self.random: random.Random = random.Random()
        self.chatter: random.Random = self.random

    def set(self, wanted: dict[str, Any], seed: str | None) -> None:
        """Take new values; frames under way keep theirs."""
        for name in ("delay", "jitter", "loss", "reorder", "duplicate", "corrupt"):
            setattr(self, name, float(wanted[name]))
        self.bytes_per_second = (wanted["rate"] or 0) / 8
        self.limit = int(wanted["limit"])
        self.seeded = seed is not None
        self.random = random.Random(seed)
        self.chatter = random.Random(f"chatter/{seed}")
        # What is counted or damaged one by one must be what is on the wire: the kernel cuts what TCP has left whole,
        # and completes checksums. A delay alone can be had for whole ones.
        whole = not any((self.jitter, self.loss, self.reorder, self.duplicate, self.corrupt, self.bytes_per_second))
        if whole != self.super_frames:
            fcntl.ioctl(self.tap, _TUNSETOFFLOAD, _SUPER_FRAMES if whole else 0)
            self.super_frames = whole

    def state(self) -> dict[str, Any]:
        """What is in force, and what has happened."""
        names = ("delay", "jitter", "loss", "reorder", "duplicate", "corrupt", "limit")
        rate = round(self.bytes_per_second * 8) or None
        in_force = {**{name: getattr(self, name) for name in names}, "rate": rate}
        return {"in_force": in_force, "counters": self.counts, "queued": self.queued}


class Relay:
    """All directions of one lab, and what is under way."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.directions: dict[int, Direction] = {}
        self.by_tap: dict[int, Direction] = {}
        self.under_way: list[tuple[float, int, Direction, bytes]] = []
        self.sequence: int = 0
        self.memory: int = 0
        self.epoll: select.epoll = select.epoll()
        self.epoll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Until the other side of the control socket is closed."""
        gc.disable()  # nothing here makes cycles
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -15)  # who is late here makes links slow
        except PermissionError:
            pass  # rootless: as others
        epoll, control, heap = self.epoll, self.control.fileno(), self.under_way
        while True:
            wait = heap[0][0] - monotonic() if heap else None
            if wait is None or wait > 0:
                # epoll counts milliseconds, select microseconds; and its descriptor limit concerns this one only
                select.select([epoll], [], [], wait)
            for fd, _ in epoll.poll(0):
                if fd != control:
                    if (direction := self.by_tap.get(fd)) is not None:  # or a command has just closed it
                        self.read(direction)
                elif not self.obey():
                    return
            if heap:
                self.deliver()

    # ------------------------------------------------------------------ frames

    def read(self, direction: Direction) -> None:
        """Take what an interface has sent."""
        tap = direction.tap
        for _ in range(_BATCH):
            try:
                frame = os.read(tap, _LARGEST)
            except BlockingIOError:
                if direction.closing and not direction.queued:
                    self.close(direction)
                return
            except OSError:  # the device was removed, with its namespace
                self.close(direction)
                return
            self.take(direction, frame)

    def take(self, direction: Direction, frame: bytes, copy: bool = False) -> None:
        """Decide the fate of one frame."""
        now = monotonic()
        if direction.super_frames:
            due = now + direction.delay
        else:
            chance = (direction.chatter if direction.seeded and is_chatter(frame) else direction.random).random
            twice = not copy and direction.duplicate > 0 and chance() < direction.duplicate
            lost = direction.loss > 0 and chance() < direction.loss
            if twice:
                direction.counts["duplicated"] += 1
                if not lost:
                    self.take(direction, frame, copy=True)
            if lost:  # of a frame that is doubled as well, one remains
                direction.counts["lost"] += 1
                if not twice:
                    return
            if direction.corrupt and chance() < direction.corrupt:
                direction.counts["corrupted"] += 1
                frame = _with_one_bit_flipped(frame, chance())
            if direction.reorder and chance() < direction.reorder:
                direction.counts["reordered"] += 1
                due = now
            else:
                due = now + direction.delay
                if direction.jitter:
                    due += (2 * chance() - 1) * direction.jitter
                if direction.bytes_per_second:
                    begin = max(due, direction.busy_until)
                    due = begin + (len(frame) - HEADER) / direction.bytes_per_second
        if direction.queued >= direction.limit or self.memory > _MEMORY:
            direction.counts["overflowed"] += 1
            return
        if direction.bytes_per_second:
            direction.busy_until = max(due, direction.busy_until)
        direction.queued += 1
        self.memory += len(frame)
        self.sequence += 1
        heapq.heappush(self.under_way, (due, self.sequence, direction, frame))

    def deliver(self) -> None:
        """Send on what is due."""
        heap, now = self.under_way, monotonic()
        while heap and heap[0][0] <= now:
            _, _, direction, frame = heapq.heappop(heap)
            direction.queued -= 1
            self.memory -= len(frame)
            if direction.closed:
                continue
            try:
                direction.send(frame)
                direction.counts["passed"] += 1
            except OSError:  # the interface is down, gone, too busy, or its mtu was made smaller
                direction.counts["refused"] += 1
            if direction.closing and not direction.queued:
                self.read(direction)

    # ---------------------------------------------------------------- commands

    def obey(self) -> bool:
        """Carry out one command; False if there are no more."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 2)
        except ConnectionResetError:
            return False
        if not message:
            return False
        command = json.loads(message)
        try:
            answer = self.do(command, descriptors)
        except Exception as error:  # told to who asked; the other directions go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        try:
            self.control.send(json.dumps({**answer, "serial": command["serial"]}).encode())
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def do(self, command: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """One command: ``open``, ``set``, ``state``, ``drain`` or ``drop``."""
        what, number = command["do"], command["number"]
        if what == "open":
            if len(descriptors) != 2:  # the kernel passes as many as there is room for
                for descriptor in descriptors:
                    os.close(descriptor)
                most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                raise OSError(errno.EMFILE, f"it may have no more than {most} files open (ulimit -Hn), 2 for each way")
            tap, out = descriptors
            direction = Direction(number, tap, socket.socket(fileno=out))
            direction.set(command["wanted"], command["seed"])
            self.directions[number] = self.by_tap[tap] = direction
            self.epoll.register(tap, select.EPOLLIN)
            return direction.state()
        found = self.directions.get(number)
        if found is None:
            return {"gone": True}
        if what == "set":
            found.set(command["wanted"], command["seed"])
        elif what == "drain":
            found.closing = True
            self.read(found)
        elif what == "drop":
            self.close(found)
        elif what == "state":
            self.read(found)  # what has come is queued, even if its turn is later
        return found.state()

    def close(self, direction: Direction) -> None:
        """Let go of a direction; what is under way in it is thrown away."""
        if direction.closed:
            return
        direction.closed = True
        del self.directions[direction.number], self.by_tap[direction.tap]
        self.epoll.unregister(direction.tap)

        def let_go() -> None:
            os.close(direction.tap)
            direction.out.close()

        # The kernel waits some 10 ms for each (RCU), and the others shall not.
        threading.Thread(target=let_go).start()


def _with_one_bit_flipped(frame: bytes, chance: float) -> bytes:
    # Not in the MAC addresses: no checksum that we have covers them, so a receiver would take the frame for sound.
    first = HEADER + _MAC_ADDRESSES
    bit = int(chance * (len(frame) - first) * 8)
    damaged = bytearray(frame)
    damaged[first + bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def _raise_limit() -> None:
    """Every direction takes two descriptors, and select(2) is not asked about them: see ``run``."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    _raise_limit()
    with socket.socket(fileno=0) as _control:
        Relay(_control).run()
