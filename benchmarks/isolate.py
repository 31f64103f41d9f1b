"""What a namespace of its own costs a test: sessions of trivial tests, with ``--netns-isolate`` and without."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

TESTS = 1000

_TRIVIAL = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_nothing(number):
    pass
"""


def pytest_seconds(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds that an inner session takes from start to end: by the clock, and of processors.

    No plugin is loaded but ours and those that are named.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "netns", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"the inner session failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cost(folder: Path, rounds: int) -> str:
    """A line of text: milliseconds a test, the median of the differences between sessions that take turns."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_trivial.py").write_text(_TRIVIAL)
    pytest_seconds(folder, "test_trivial.py")  # for warming up
    clock, processor = [], []
    for _ in range(rounds):
        without = pytest_seconds(folder, "test_trivial.py")
        isolated = pytest_seconds(folder, "--netns-isolate", "test_trivial.py")
        clock.append((isolated[0] - without[0]) / TESTS * 1000)
        processor.append((isolated[1] - without[1]) / TESTS * 1000)
    return (
        f"--netns-isolate: {median(clock):.2f} ms a test of {TESTS} trivial ones by the clock "
        f"(median of {rounds}; {min(clock):.2f} to {max(clock):.2f}), {median(processor):.2f} ms of a processor"
    )
