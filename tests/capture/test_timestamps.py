"""Frames are stamped when they pass, from the first capture of a process on.

Whether the kernel stamps at all is a matter of the whole machine, so what it answers is played here.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import cast

import pytest

from pytest_netns import Lab, WaitTimeout
from pytest_netns.capture import timestamps


class Keeper:
    """A socket whose datagrams are stamped when they are read, but for those from the given turn on."""

    def __init__(self, stamped_from: int) -> None:
        self.turns = 0
        self._stamped_from = stamped_from
        self._sent = 0

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def sendto(self, _data: bytes, _to: object) -> None:
        self._sent = time.time_ns()

    def recvmsg(self, _size: int, _room: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        self.turns += 1
        stamp = self._sent if self.turns >= self._stamped_from else time.time_ns() + 1_000_000
        value = struct.pack("qq", stamp // 1_000_000_000, stamp % 1_000_000_000)
        return b"?", [(socket.SOL_SOCKET, timestamps.SO_TIMESTAMPNS, value)], 0, None


@pytest.mark.parametrize("turn", [1, 2, 40])
def test_it_is_awaited_that_frames_are_stamped_before_they_are_read(turn: int) -> None:
    keeper = Keeper(turn)
    timestamps._await_stamps(cast(socket.socket, keeper))
    assert keeper.turns == turn


def test_a_kernel_that_never_stamps_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timestamps, "_DEADLINE", 0.01)
    with pytest.raises(WaitTimeout, match="did not begin to stamp frames"):
        timestamps._await_stamps(cast(socket.socket, Keeper(10**9)))


def test_every_capture_asks_for_the_clock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(timestamps, "start", lambda: asked.append(True))
    with lab.host("red").capture():
        pass
    assert asked


def test_the_clock_is_started_once() -> None:
    timestamps.start()
    keeper = timestamps._keeper
    timestamps.start()
    assert keeper is not None
    assert timestamps._keeper is keeper
