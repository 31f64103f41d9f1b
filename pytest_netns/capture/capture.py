"""Capture: the frames that pass while a ``with`` block runs, and what is expected of them."""

from __future__ import annotations

import itertools
import os
import select
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pytest_netns.addresses import Address
from pytest_netns.capture import bpf, filter_names, pcapng
from pytest_netns.capture.frame import CANARY, Frame, is_canary, is_chatter
from pytest_netns.capture.pattern import Matcher, Pattern, describe, matcher, wants_chatter
from pytest_netns.capture.sequence_diagram import ladder
from pytest_netns.capture.tap import Tap, pump
from pytest_netns.checks import A_DAY, check_path, check_range
from pytest_netns.clock import monotonic
from pytest_netns.errors import NetnsError, NetnsWarning, ProbeFailure, TopologyError
from pytest_netns.events import ResourceOpened, everywhere
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.locks import Lock

if TYPE_CHECKING:
    from scapy.packet import Packet

    from pytest_netns.stack.namespace import Namespace

_canaries = itertools.count(1)
#: Seconds in which a canary must be seen.
_CANARY_DEADLINE = 1.0
#: Seconds between two looks, should the pump have been faster.
_LOOK = 0.005
#: Frames that a message shows at most.
_SHOWN = 12

Location = tuple["Namespace", "str | None"]


class Capture:
    """Frames captured on one or more interfaces during a ``with`` block.

    Created by ``Node.capture``, ``Link.capture`` and ``Lab.capture``. Frames stay readable afterwards. Neighbour
    discovery, MLD and IGMP (background traffic) are left out unless ``chatter=True``.

    Attributes:
        label: where it captures, for messages.
        internal: made by this package to find out why something failed; reports do not take it for the test's.

    Example:
        >>> with red.capture() as capture:
        ...     red.ping(blue)
        >>> capture.expect(ICMP(type="echo-request"))
    """

    internal: bool = False

    def __init__(
        self,
        label: str,
        places: Callable[[], Sequence[Location]],
        filter: str | Pattern | None = None,
        chatter: bool = False,
        whole: bool = False,
        switches: Callable[[], Sequence[str]] = tuple,
        owners: Callable[[], Mapping[bytes, str]] = dict,
        names: Mapping[str, Sequence[Address]] | None = None,
    ) -> None:
        self._whole = whole
        self._switches = switches
        self._owners = owners
        self.label = label
        self._places = places
        self._chatter = chatter or (filter is not None and not isinstance(filter, str) and wants_chatter(filter))
        self._matches: Matcher | None = None
        self._code: bytes | None = None
        if isinstance(filter, str):
            filter = filter_names.resolve(filter, names or {})
            code = bpf.compile_filter(filter)  # complains of what was written, not of what is made of it
            if bpf.looks_at_tags(filter):
                self._matches = lambda frame: bpf.accepts(code, frame.data)
            elif filter.strip():
                # the canary must get through any filter
                self._code = bpf.compile_filter(f"({filter}) or ether proto 0x88b5")
        elif filter is not None:
            self._matches = matcher(filter)
        self._taps: list[Tap] = []
        self._frames: list[Frame] = []
        self._seen_canaries: set[tuple[str, bytes]] = set()
        self._lock = Lock("adding captured frames")
        self._running = False

    # ------------------------------------------------------------------- life

    def start(self) -> Self:
        """Begin; what is sent from now on is captured. Raises KernelError, TopologyError.

        Example:
            >>> capture = red.capture()
            >>> capture.start()
            >>> capture.stop()
        """
        if self._running or self._taps:
            raise NetnsError(f"{self!r} was started already")
        try:
            with uninterrupted:
                for node, interface in self._places():
                    self._taps.append(Tap(node, interface, self._code, self._deliver))
                self._running = True
                everywhere.publish(ResourceOpened, self)
                pump.add(self._taps)
        except BaseException:  # of the block, or what has waited for its end
            self._end()
            raise
        return self

    def stop(self) -> None:
        """End; everything sent before is captured. Warns if the kernel had to drop frames. Allowed more than once.

        Example:
            >>> capture = red.capture()
            >>> capture.start()
            >>> capture.stop()
        """
        if not self._running:
            return
        self._end()
        if self.drops:
            warnings.warn(f"{self!r}: the kernel dropped {self.drops} frames", NetnsWarning, stacklevel=2)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._running

    def _end(self) -> None:
        with uninterrupted:
            self._running = False
            pump.remove(self._taps)
            for tap in self._taps:
                tap.drain()
                tap.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self._running else "stopped" if self._taps else "not started"
        dropped = f", {self.drops} DROPPED" if self.drops else ""
        return f"<Capture of {self.label}, {state}: {len(self._frames)} frames{dropped}>"

    # ----------------------------------------------------------------- frames

    def _deliver(self, batch: list[Frame]) -> None:
        kept = []
        for frame in batch:
            if is_canary(frame.raw):
                self._seen_canaries.add((frame.node, frame.raw[12:]))
            elif self._chatter or not is_chatter(frame.raw, frame.ethernet):
                kept.append(frame)
        with self._lock:
            self._frames += kept

    def _drain(self) -> None:
        if self._running:
            for tap in self._taps:
                tap.drain()

    @property
    def frames(self) -> list[Frame]:
        """All frames so far, in the order of time, each with its node and interface."""
        self._drain()
        with self._lock:
            captured = sorted(self._frames, key=lambda frame: frame.time)
        found = [part for frame in captured for part in frame.parts]
        return [frame for frame in found if self._matches is None or self._matches(frame)]

    @property
    def is_whole(self) -> bool:
        """Whether it captures every interface of a lab."""
        return self._whole

    @property
    def packets(self) -> list[Packet]:
        """All frames so far as scapy packets, in the order of time. ``sniffed_on`` of each says where."""
        return [frame.packet for frame in self.frames]

    @property
    def drops(self) -> int:
        """Frames that the kernel dropped because the queue was full."""
        return sum(tap.drops for tap in self._taps)

    def __len__(self) -> int:
        return len(self.frames)

    def __bool__(self) -> bool:
        return True  # a capture without frames is a capture

    # ----------------------------------------------------------- expectations

    def _find(self, matches: Matcher, start: int) -> tuple[Frame | None, int]:
        with self._lock:
            fresh = self._frames[start:]
        for frame in (part for whole in fresh for part in whole.parts):
            if matches(frame) and (self._matches is None or self._matches(frame)):
                return frame, start
        return None, start + len(fresh)

    def _wait_for(self, matches: Matcher, timeout: float) -> Frame | None:
        deadline = monotonic() + timeout
        position = 0
        while True:
            self._drain()
            frame, position = self._find(matches, position)
            left = deadline - monotonic()
            if frame is not None or left <= 0 or not self._running:
                return frame
            self._wait(min(left, _LOOK))

    def expect(self, pattern: Pattern, timeout: float = 1.0) -> Packet:
        """The first packet that matches, captured already or within ``timeout`` seconds.

        Args:
            pattern: a scapy packet (matches on the fields that were set, layer by layer), a scapy layer class, or a
                function of a packet.
            timeout: seconds to wait.

        Raises:
            ProbeFailure: none was captured; the message lists what was.
            TypeError: it is not a pattern.

        Example:
            >>> with blue.capture() as capture:
            ...     red.ping(blue)
            ...     request = capture.expect(IP(dst=str(blue.ip4)) / ICMP(type="echo-request"), timeout=2)
        """
        __tracebackhide__ = True
        matches = matcher(pattern)
        self._admit(pattern)
        check_range("timeout", timeout, 0, A_DAY)
        frame = self._wait_for(matches, timeout)
        if frame is None:
            raise ProbeFailure(
                f"expected {describe(pattern)} on {self.label} within {timeout:g} s, got none; {self._came()}"
            )
        return frame.packet

    def expect_none(self, pattern: Pattern, within: float) -> None:
        """No packet matches, neither among those captured nor during the next ``within`` seconds.

        Afterwards a marker frame is sent out of each captured interface, and must be captured: otherwise the
        capture does not work, and its silence proves nothing.

        Args:
            pattern: a scapy packet (matches on the fields that were set, layer by layer), a scapy layer class, or a
                function of a packet.
            within: seconds to go on looking.

        Raises:
            ProbeFailure: one was captured; or the marker frame was not captured, or frames were dropped.
            TypeError: it is not a pattern.

        Example:
            >>> with blue.capture() as capture:
            ...     capture.expect_none(TCP(dport=22), within=0.1)
        """
        __tracebackhide__ = True
        matches = matcher(pattern)
        self._admit(pattern)
        if not self._running:
            raise NetnsError(f"{self!r}: expect_none() needs a running capture; call it inside the with block")
        check_range("within", within, 0, A_DAY)
        frame = self._wait_for(matches, within)
        if frame is None:
            self._prove()
            frame, _ = self._find(matches, 0)
        if frame is not None:
            failure = ProbeFailure(f"expected no {describe(pattern)} on {self.label}, but got one: {frame!r}")
            failure._unexpected = frame, self
            raise failure
        if self.drops:
            raise ProbeFailure(
                f"expected no {describe(pattern)} on {self.label}; none was seen, but the kernel dropped {self.drops} "
                "frames, and it may have been among them"
            )

    def _admit(self, pattern: Pattern) -> None:
        if not self._chatter and wants_chatter(pattern):
            raise TopologyError(
                f"{describe(pattern)} is left out of this capture as chatter; capture with chatter=True to see it"
            )

    def _prove(self) -> None:
        __tracebackhide__ = True
        token = CANARY + str(next(_canaries)).encode()
        for tap in self._taps:
            failed = tap.send_canary(token)
            if failed:
                raise ProbeFailure(f"nothing was seen on {self.label}, but nothing could be: {failed}")
        deadline = monotonic() + _CANARY_DEADLINE
        missing = {tap.node.name for tap in self._taps}
        while True:
            self._drain()
            missing -= {node for node, seen in self._seen_canaries if seen.startswith(token)}
            if not missing:
                return
            left = deadline - monotonic()
            if left <= 0:
                raise ProbeFailure(
                    f"nothing was seen on {self.label}, but the marker frame was not captured either at "
                    f"{', '.join(sorted(missing))}: the capture does not work"
                )
            self._wait(min(left, _LOOK))

    def _wait(self, seconds: float) -> None:
        """Until a frame is queued. The pump may take it first, so never for long."""
        poll = select.poll()
        for tap in self._taps:
            if (fd := tap.fileno()) >= 0:
                poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000)

    def _came(self) -> str:
        frames = self.frames
        lost = f"; the kernel dropped {self.drops} frames" if self.drops else ""
        if not frames:
            return f"nothing was captured{lost}"
        rows = "\n".join(f"  {frame!r}" for frame in frames[-_SHOWN:])
        more = f" (the last {_SHOWN})" if len(frames) > _SHOWN else ""
        return f"{len(frames)} other frames were captured{more}{lost}:\n{rows}"

    # ------------------------------------------------------------------ files

    def ladder(self, frames: Sequence[Frame] | None = None, *, most: int = 40, order: Sequence[str] = ()) -> str:
        """The captured frames as a text sequence diagram: a column per node, an arrow per frame, with its time.

        In a capture of a whole lab the arrow of a frame that left one node and arrived at none ends in an ``x``.

        Args:
            frames: some of its frames, in the order of time; all if None.
            most: rows at most; the last ones are drawn.
            order: names of nodes whose columns come first; the others follow as they see the first frames.

        Example:
            >>> with lab.capture() as capture:
            ...     red.ping(green)
            >>> print(capture.ladder(order=["red", "router", "green"]))
        """
        drawn = self.frames if frames is None else frames
        return ladder(
            drawn, whole=self._whole, switches=self._switches(), owners=self._owners(), most=most, order=order
        )

    def save(self, path: str | os.PathLike[str], comment: str = "") -> int:
        """Write a pcapng file for Wireshark, with the names of nodes and interfaces; returns the number of frames.

        Args:
            path: of the file, replaced if it exists.
            comment: about the whole; by default what was captured.

        Example:
            >>> with red.capture() as capture:
            ...     red.ping(blue)
            >>> capture.save("/tmp/ping.pcapng")
        """
        check_path("path", path)
        dropped = f"; {self.drops} frames were dropped" if self.drops else ""
        with open(path, "wb") as file:
            return pcapng.write(file, self.frames, (comment or f"capture of {self.label}") + dropped)
