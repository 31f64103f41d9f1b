"""The benchmarks: what is lacking is said before anything is measured, and costs no other row. No figure is judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from slowness import patient

ROOT = Path(__file__).parents[2]

# As if pytest-xdist was not installed; and a row that fails.
RUN = """
import runpy, sys
sys.modules["xdist"] = None
import benchmarks.probes
def fails(number): raise RuntimeError("planted")
benchmarks.probes.first_ping = lambda: fails(1)
sys.argv = ["benchmarks", "--rounds", "1", "--only", "first-ping", "--only", "netns", "--only", "scaling"]
runpy.run_module("benchmarks", run_name="__main__")
"""


def test_what_is_lacking_comes_first_and_costs_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, check=False, timeout=patient(120)
    )
    lines = done.stdout.splitlines()
    lacking = lines.index("not measured: scaling: needs pytest-xdist (pip install pytest-xdist)")
    failed = lines.index("first-ping: not measured: RuntimeError: planted")
    row = next(number for number, line in enumerate(lines) if line.startswith("| empty namespace "))
    assert lacking < failed < row, done.stdout + done.stderr
    assert done.returncode == 1
