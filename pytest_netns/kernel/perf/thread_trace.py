"""Thread trace: records of kernel tracepoints for the calling thread, from one perf ring buffer."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_netns.errors import UnsupportedError
from pytest_netns.kernel import reaper
from pytest_netns.kernel.perf.tracefs import Tracepoint
from pytest_netns.kernel.syscalls import system_call

#: The system call number of perf_event_open(2) by machine; elsewhere, that of <asm-generic/unistd.h>.
_OPEN, _OPEN_GENERIC = {"x86_64": 298, "s390x": 331, "ppc64le": 319, "ppc64": 319}, 241

# From <linux/perf_event.h>.
_TYPE_TRACEPOINT, _CLOEXEC, _SIZE = 2, 8, 112
_SAMPLE_TIME, _SAMPLE_RAW = 1 << 2, 1 << 10
_DISABLED, _USE_CLOCKID = 1, 1 << 25
_ATTRIBUTES = struct.Struct("=IIQQQQQIIQQQQIiQIHH")
_ENABLE, _DISABLE, _SET_OUTPUT = 0x2400, 0x2401, 0x2405
_RECORD_LOST, _RECORD_SAMPLE = 2, 9
_HEADER = struct.Struct("=IHH")
_SAMPLE = struct.Struct("=QI")
_HEAD, _TAIL = 1024, 1032
_CLOCK_MONOTONIC = 1
#: Pages of the ring, a power of two: some 3,500 events of 72 bytes. Maximum size of an event in bytes.
_PAGES, _LARGEST = 64, 256


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One hit of a tracepoint.

    Attributes:
        time: nanoseconds of the monotonic clock.
        number: ID of the tracepoint.
        data: the raw record, laid out as the tracepoint's format says.
    """

    time: int
    number: int
    data: bytes


class ThreadTrace:
    """Records the tracepoints that the calling thread hits between ``start`` and ``stop``, and no other thread's.

    Work that the kernel does on behalf of the thread is recorded too: a packet that it sends passes bridges and routers
    in other namespaces before its system call returns.

    Args:
        points: the tracepoints to record.

    Raises:
        UnsupportedError: no permission, or the kernel lacks perf events.
    """

    def __init__(self, points: Sequence[Tracepoint]) -> None:
        if sys.maxsize < 1 << 32:
            raise UnsupportedError("perf events are read by 64-bit programs only")
        self.lost: bool = False
        self._fds: list[int] = []
        try:
            for point in points:
                self._fds.append(_opened(point.number))
            page = mmap.PAGESIZE
            self._ring = mmap.mmap(self._fds[0], page * (1 + _PAGES))
            for fd in self._fds[1:]:
                fcntl.ioctl(fd, _SET_OUTPUT, self._fds[0])
        except OSError as error:
            self._let_go()
            raise UnsupportedError(f"perf_event_open(2) is refused: {error.strerror}; needs root") from error
        except BaseException:
            self._let_go()
            raise

    def start(self) -> None:
        """Start recording."""
        for fd in self._fds:
            fcntl.ioctl(fd, _ENABLE, 0)

    def stop(self) -> None:
        """Stop recording."""
        for fd in self._fds:
            fcntl.ioctl(fd, _DISABLE, 0)

    def read(self) -> Iterator[TraceRecord]:
        """The records since the last read, in order. Call ``stop`` first.

        After the last record, ``lost`` says whether the ring overflowed.
        """
        head, tail = (struct.unpack_from("=Q", self._ring, at)[0] for at in (_HEAD, _TAIL))
        size = _PAGES * mmap.PAGESIZE
        start, end = tail % size, head % size
        data = self._ring[mmap.PAGESIZE :]
        noted = b"" if head == tail else data[start:end] if start < end else data[start:] + data[:end]
        struct.pack_into("=Q", self._ring, _TAIL, head)
        self.lost = len(noted) > size - _LARGEST  # the kernel reports a loss only once there is room again
        at = 0
        while at + _HEADER.size <= len(noted):
            kind, _, length = _HEADER.unpack_from(noted, at)
            if kind == _RECORD_SAMPLE:
                time, count = _SAMPLE.unpack_from(noted, at + _HEADER.size)
                begin = at + _HEADER.size + _SAMPLE.size
                raw = noted[begin : begin + count]
                yield TraceRecord(time, int.from_bytes(raw[:2], sys.byteorder), raw)
            elif kind == _RECORD_LOST and at:  # a first record of this type is about the previous reading
                self.lost = True
            at += length or _HEADER.size

    def close(self) -> None:
        """Close the perf events, in a background thread: the kernel takes some 20 ms for each."""
        self._let_go()

    def _let_go(self) -> None:
        fds, self._fds = self._fds, []
        ring = getattr(self, "_ring", None)
        if ring is not None and not ring.closed:
            ring.close()
        if fds:
            reaper.later(lambda: _close(fds))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _opened(number: int) -> int:
    attributes = _ATTRIBUTES.pack(
        *(_TYPE_TRACEPOINT, _SIZE, number, 1, _SAMPLE_TIME | _SAMPLE_RAW, 0, _DISABLED | _USE_CLOCKID),
        *(1, 0, 0, 0, 0, 0, 0, _CLOCK_MONOTONIC, 0, 0, 0, 0),
    )
    buffer = ctypes.create_string_buffer(attributes, _SIZE)
    this_thread, any_processor, no_group = 0, -1, -1
    call = _OPEN.get(platform.machine(), _OPEN_GENERIC)
    return system_call(call, buffer, this_thread, any_processor, no_group, _CLOEXEC)
