"""Stopping a process: one that was sent SIGSTOP runs on until a processor takes notice."""

from __future__ import annotations

import os
import signal

from pytest_netns import eventually
from pytest_netns.kernel import procfs


def stop(pid: int) -> None:
    """Stop a process of one thread; it does nothing any more when this returns."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: (seen := procfs.stat(pid)) is not None and seen.state == "T", within=60)
