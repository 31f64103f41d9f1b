"""Recorder: captures the frames of every interface of every node while a test runs (``--netns-pcap``)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pytest_netns.capture.frame import Frame, is_canary
from pytest_netns.capture.tap import Tap, pump
from pytest_netns.errors import NetnsError
from pytest_netns.kernel.locks import Lock
from pytest_netns.stack.namespace import Namespace

#: Memory limit in bytes for the frames of one namespace in one test; the newest frames are kept.
KEPT = 64 << 20
#: Bytes of memory that a frame takes in addition to its data.
_OVERHEAD = 300


@dataclass(slots=True)
class _Track:
    """The recorded frames of one namespace."""

    node: Namespace
    group: object
    tap: Tap | None = None
    frames: deque[Frame] = field(default_factory=deque)
    size: int = 0
    forgotten: int = 0
    drops_before: int = 0
    lock: Lock = field(default_factory=lambda: Lock("recording frames"))

    def take(self, batch: list[Frame]) -> None:
        with self.lock:
            for frame in batch:
                if is_canary(frame.data):
                    continue
                self.frames.append(frame)
                self.size += len(frame.data) + _OVERHEAD
            while self.size > KEPT:
                self.size -= len(self.frames.popleft().data) + _OVERHEAD
                self.forgotten += 1

    def forget(self) -> None:
        with self.lock:
            self.frames.clear()
            self.size = self.forgotten = 0
            self.drops_before = self.tap.drops if self.tap is not None else 0


class Recorder:
    """Captures on all interfaces of namespaces, including interfaces that are added later.

    A packet socket is closed in the background, after an RCU grace period of 8 to 24 ms, and keeps its namespace alive
    until then. That is why recording is off by default.
    """

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._ended: list[_Track] = []
        self._troubles: list[str] = []

    def listen(self, node: Namespace, group: object = None) -> None:
        """Start recording a namespace, unless it is recorded already.

        Args:
            node: the namespace; if several nodes share one, the first of them gives it its name.
            group: what it belongs to, such as its lab.
        """
        if node.inode in self._tracks:
            return
        track = _Track(node, group)
        try:
            track.tap = Tap(node, None, None, track.take)
        except NetnsError as error:  # not the test's problem; reported together with the recording
            self._troubles.append(str(error))
            return
        self._tracks[node.inode] = track
        pump.add([track.tap])

    def begin(self) -> None:
        """Start a test: discard the frames recorded before it."""
        self.sweep()
        self._ended.clear()
        self._troubles.clear()
        for track in self._tracks.values():
            if track.tap is not None:
                track.tap.drain()
            track.forget()

    def release(self, group: object) -> None:
        """Handle the close of a lab: keep the frames so far, and stop recording its nodes."""
        for inode, track in list(self._tracks.items()):
            if track.group is group:
                self._stop(inode)

    def sweep(self) -> None:
        """Stop recording namespaces that have closed; their frames are kept until the next test."""
        for inode, track in list(self._tracks.items()):
            if track.node.closed:
                self._stop(inode)

    def _stop(self, inode: int) -> None:
        track = self._tracks.pop(inode)
        if track.tap is not None:
            pump.remove([track.tap])
            track.tap.drain()
            track.tap.close()
        self._ended.append(track)

    def frames(self, group: object = None) -> list[Frame]:
        """The frames of a group recorded in this test, oldest first."""
        found: list[Frame] = []
        for track in self._of(group):
            if track.tap is not None:
                track.tap.drain()
            with track.lock:
                found += track.frames
        return sorted(found, key=lambda frame: frame.time)

    def remark(self, group: object = None) -> str:
        """What is missing from a group's frames; empty if they are complete."""
        tracks = self._of(group)
        dropped = sum(track.tap.drops - track.drops_before for track in tracks if track.tap is not None)
        forgotten = sum(track.forgotten for track in tracks)
        words = [f"the kernel dropped {dropped} frames"] if dropped else []
        words += [f"the first {forgotten} frames were not kept, for want of memory"] if forgotten else []
        return "; ".join([*words, *self._troubles])

    def _of(self, group: object) -> list[_Track]:
        return [track for track in (*self._ended, *self._tracks.values()) if track.group is group]

    def close(self) -> None:
        """Stop recording."""
        for inode in list(self._tracks):
            self._stop(inode)
        self._ended.clear()
