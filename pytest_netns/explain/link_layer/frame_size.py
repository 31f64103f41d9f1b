"""Size: how many bytes of packet a frame carries, and what a link lets pass."""

from __future__ import annotations

from pytest_netns.capture.frame import Frame

_ETHERNET, TAG = 14, 4


def packet_size(frame: Frame | None) -> int:
    """Bytes of the packet that a frame carries; 0 if that is not known."""
    return len(frame.data) - _ETHERNET if frame is not None and frame.ethernet else 0
