"""Recorder: the frames of every interface of every node, for as long as a test runs (``--netns-pcap``)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pytest_netns.capture.frame import Frame, is_canary
from pytest_netns.capture.tap import Tap, pump
from pytest_netns.errors import NetnsError
from pytest_netns.kernel.locks import Lock
from pytest_netns.stack.namespace import Namespace

#: Bytes of memory for the frames of one namespace in one test; the last ones are kept.
KEPT = 64 << 20
#: What a frame takes beside its data.
_OVERHEAD = 300


@dataclass(slots=True)
class _Track:
    """What is recorded in one namespace."""

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
    """Listens to all interfaces of namespaces, later ones included.

    A packet socket is closed in the background, after an RCU grace period of 8 to 24 ms, and keeps its namespace until
    then. That is why nothing is recorded unless somebody asks for it.
    """

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._ended: list[_Track] = []
        self._troubles: list[str] = []

    def listen(self, node: Namespace, group: object = None) -> None:
        """Begin to record a namespace, unless it is recorded already.

        Args:
            node: it; several nodes may share one, which the first of them gives its name.
            group: what it belongs to, such as its lab.
        """
        if node.inode in self._tracks:
            return
        track = _Track(node, group)
        try:
            track.tap = Tap(node, None, None, track.take)
        except NetnsError as error:  # of no concern to the test; told with what was recorded
            self._troubles.append(str(error))
            return
        self._tracks[node.inode] = track
        pump.add([track.tap])

    def begin(self) -> None:
        """A test begins: forget what came before."""
        self.sweep()
        self._ended.clear()
        self._troubles.clear()
        for track in self._tracks.values():
            if track.tap is not None:
                track.tap.drain()
            track.forget()

    def release(self, group: object) -> None:
        """A lab closes: record what has come so far, and stop listening to its nodes."""
        for inode, track in list(self._tracks.items()):
            if track.group is group:
                self._stop(inode)

    def sweep(self) -> None:
        """Stop listening to namespaces that have closed; what came from them is kept until the next test."""
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
        """What was recorded of a group in this test, in the order of time."""
        found: list[Frame] = []
        for track in self._of(group):
            if track.tap is not None:
                track.tap.drain()
            with track.lock:
                found += track.frames
        return sorted(found, key=lambda frame: frame.time)

    def remark(self, group: object = None) -> str:
        """What is missing in a group's frames; empty if nothing is."""
        tracks = self._of(group)
        dropped = sum(track.tap.drops - track.drops_before for track in tracks if track.tap is not None)
        forgotten = sum(track.forgotten for track in tracks)
        words = [f"the kernel dropped {dropped} frames"] if dropped else []
        words += [f"the first {forgotten} frames were not kept, for want of memory"] if forgotten else []
        return "; ".join([*words, *self._troubles])

    def _of(self, group: object) -> list[_Track]:
        return [track for track in (*self._ended, *self._tracks.values()) if track.group is group]

    def close(self) -> None:
        """Stop listening to all."""
        for inode in list(self._tracks):
            self._stop(inode)
        self._ended.clear()
