"""How slow the processor is on which the tests run, and what that means for their margins.

``.ci/kernel`` boots a kernel on an emulated processor and says so by the variable ``NETNS_TEST_SLOWNESS``. It stretches
how long an answer that must come may take, so nothing waits longer where it comes. What must not come is waited for as
long as elsewhere.
"""

from __future__ import annotations

import math
import os

#: 1 on a real processor.
SLOWNESS = float(os.environ.get("NETNS_TEST_SLOWNESS") or 1)


def patient(seconds: float, *, at_most: float = math.inf) -> float:
    """So long may that take here which takes at most ``seconds`` on a real processor.

    Args:
        seconds: the margin there.
        at_most: what the margin must not exceed to mean anything: the kernel repeats a lost ARP request after 1 s.
    """
    return min(seconds * SLOWNESS, at_most)
