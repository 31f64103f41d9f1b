"""What two workers of pytest-xdist gain: tests that make networks, and tests that wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.isolate import pytest_seconds

_SUITES = {
    "500 tests with a pair and a ping": """
import pytest

@pytest.mark.parametrize("number", range(500))
def test_pair(veth_pair, number):
    left, right = veth_pair
    assert left.ping(right)
""",
    "200 tests with a pair, a ping and 50 ms of waiting": """
import time
import pytest

@pytest.mark.parametrize("number", range(200))
def test_wait(veth_pair, number):
    left, right = veth_pair
    assert left.ping(right)
    time.sleep(0.05)
""",
}


def gains(folder: Path, rounds: int) -> Iterator[str]:
    """Lines of text: a suite's seconds without workers and with two, medians of sessions that take turns."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    for number, (title, text) in enumerate(_SUITES.items()):
        name = f"test_scaling_{number}.py"
        (folder / name).write_text(text)
        alone, both = [], []
        for _ in range(rounds):
            alone.append(pytest_seconds(folder, "-p", "xdist", "-n", "0", name)[0])
            both.append(pytest_seconds(folder, "-p", "xdist", "-n", "2", name)[0])
        ratio = median(one / two for one, two in zip(alone, both, strict=True))
        yield (
            f"{title}: {median(alone):.2f} s with -n 0, {median(both):.2f} s with -n 2: {ratio:.2f} times as fast "
            f"(medians of {rounds}; {min(alone):.2f} to {max(alone):.2f}, {min(both):.2f} to {max(both):.2f})"
        )
