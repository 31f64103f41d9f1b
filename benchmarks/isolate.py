"""What a namespace of its own costs a test: sessions of trivial tests, with ``--netns-isolate`` and without."""

from __future__ import annotations

import os
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


def pytest_seconds(folder: Path, *arguments: str) -> float:
    """Seconds that an inner session takes from start to end. No plugin is loaded but ours and those that are named."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "netns", *arguments]
    start = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"the inner session failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return taken


def cost(folder: Path, rounds: int) -> str:
    """A line of text: milliseconds a test, the median of the differences between sessions that take turns."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_trivial.py").write_text(_TRIVIAL)
    pytest_seconds(folder, "test_trivial.py")  # for warming up
    costs = []
    for _ in range(rounds):
        without = pytest_seconds(folder, "test_trivial.py")
        costs.append((pytest_seconds(folder, "--netns-isolate", "test_trivial.py") - without) / TESTS * 1000)
    return (
        f"--netns-isolate: {median(costs):.2f} ms a test of {TESTS} trivial ones "
        f"(median of {rounds}; {min(costs):.2f} to {max(costs):.2f})"
    )
