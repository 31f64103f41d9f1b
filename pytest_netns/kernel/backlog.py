"""Backlog: packets that the kernel has taken from one interface and not yet delivered to the next.

A veth puts sent packets into the CPU's backlog queue, which is normally processed at once. On a busy machine, ksoftirqd
processes it some milliseconds later, when it is scheduled (net/core/dev.c).
"""

from __future__ import annotations

import threading

from pytest_netns.clock import monotonic

_STATISTICS = "/proc/net/softnet_stat"
#: Columns of /proc/net/softnet_stat: packets processed, and packets queued (since Linux 5.10).
_PROCESSED, _QUEUED = 0, 11
#: Polling interval and timeout in seconds.
_PAUSE, _AT_MOST = 0.0005, 0.25
_WRAP = 1 << 32

_never = threading.Event()


def _queues() -> list[tuple[int, int]]:
    """For each CPU: how many packets it has processed, and how many are queued."""
    try:
        with open(_STATISTICS, encoding="ascii") as file:
            rows = [row.split() for row in file]
    except FileNotFoundError:  # no /proc: unknown
        return []
    return [(int(row[_PROCESSED], 16), int(row[_QUEUED], 16)) for row in rows if len(row) > _QUEUED]


def settle(hops: int = 16) -> None:
    """Wait until the packets queued now, and any packets they cause, are delivered; a quarter of a second at most.

    Args:
        hops: how often a packet may be queued again on its path, there and back.
    """
    deadline = monotonic() + _AT_MOST
    for _ in range(hops):
        before = _queues()
        if not any(queued for _, queued in before):
            return
        while monotonic() < deadline:
            now = _queues()
            done = [(new - old) % _WRAP for (old, _), (new, _) in zip(before, now, strict=False)]
            # Other traffic may keep the queues from ever being empty: only the packets queued at the start count.
            if all(handed >= queued for handed, (_, queued) in zip(done, before, strict=False)):
                break
            _never.wait(_PAUSE)
