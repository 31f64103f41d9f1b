"""Backlog: packets that the kernel has taken from one interface and not yet handed on to the next.

A veth puts what it sends into a queue of the processor, which is emptied at once, as a rule. On a busy machine a thread
of the kernel does so when its turn comes, some milliseconds later (net/core/dev.c, ksoftirqd).
"""

from __future__ import annotations

import threading

from pytest_netns.clock import monotonic

_STATISTICS = "/proc/net/softnet_stat"
#: Columns: how many packets were processed, and how many are queued (since Linux 5.10).
_PROCESSED, _QUEUED = 0, 11
#: Seconds between two looks, and at most.
_PAUSE, _AT_MOST = 0.0005, 0.25
_WRAP = 1 << 32

_never = threading.Event()


def _queues() -> list[tuple[int, int]]:
    """Of each processor: how many packets it has processed, and how many are queued."""
    try:
        with open(_STATISTICS, encoding="ascii") as file:
            rows = [row.split() for row in file]
    except FileNotFoundError:  # no /proc here: nothing can be said
        return []
    return [(int(row[_PROCESSED], 16), int(row[_QUEUED], 16)) for row in rows if len(row) > _QUEUED]


def settle(hops: int = 16) -> None:
    """Wait until the kernel has handed on what is queued now, and what comes of that; a quarter of a second at most.

    Args:
        hops: how often a packet may be queued again on its way, there and back.
    """
    deadline = monotonic() + _AT_MOST
    for _ in range(hops):
        before = _queues()
        if not any(queued for _, queued in before):
            return
        while monotonic() < deadline:
            now = _queues()
            done = [(new - old) % _WRAP for (old, _), (new, _) in zip(before, now, strict=False)]
            # Others may send all the time, so that the queues are never empty: what was in them then is what counts.
            if all(handed >= queued for handed, (_, queued) in zip(done, before, strict=False)):
                break
            _never.wait(_PAUSE)
