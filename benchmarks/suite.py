"""Whole pytest sessions: many tests with a network each, and what the plugin costs those who do not use it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

from benchmarks.stopwatch import Contender, Laps

TESTS = 500

_SUITES = {
    "ours": """
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_pair(veth_pair, number):
    left, right = veth_pair
    assert left.ping(right)
""",
    "floor": """
import pytest
from benchmarks import floor

SYSCTLS = {sysctls!r}

@pytest.fixture
def nodes():
    left, right = floor.make_pair(SYSCTLS)
    yield left, right
    left.close()
    right.close()

@pytest.mark.parametrize("number", range({tests}))
def test_pair(nodes, number):
    floor.ping(nodes[0], "10.0.0.2")
""",
    "empty": """
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_nothing(number):
    pass
""",
}
_SUITES["unused"] = "def test_nothing():\n    pass\n"

_IMPORTED = """
import sys
import pytest
pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]])
heavy = [name for name in ("pyroute2", "scapy", "pytest_netns.stack.namespace") if name in sys.modules]
print("imported:", " ".join(heavy) or "none of them")
"""


def installed() -> bool:
    """Whether pytest loads the plugin by itself."""
    return any(point.name == "netns" for point in entry_points(group="pytest11"))


class Sessions:
    """Inner sessions of pytest, in a directory of their own."""

    def __init__(self, folder: Path, sysctls: dict[str, str]) -> None:
        self._folder = folder
        (folder / "pytest.ini").write_text("[pytest]\n")
        for name, text in _SUITES.items():
            filled = text.replace("{tests}", str(TESTS)).replace("{sysctls!r}", repr(sysctls))
            (folder / f"test_{name}.py").write_text(filled)

    def _run(self, argv: list[str], autoload: bool, bytecode: bool = True) -> str:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": ""}
        if not bytecode:  # as in an image of a container: none is found, and none is written
            environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(self._folder / "no-bytecode")}
        environment.pop("PYTEST_ADDOPTS", None)
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "" if autoload else "1"
        done = subprocess.run(
            [sys.executable, *argv], cwd=self._folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the inner session failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        return done.stdout

    def per_test(self, name: str) -> Contender:
        """All that a session takes, start-up included, shared out to its tests. No other plugin is loaded."""
        argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{name}.py"]
        if name == "ours":
            argv += ["-p", "pytest_netns.plugin.hooks"]

        def session() -> Laps:
            start = time.perf_counter()
            self._run(argv, autoload=False)
            return {"test": (time.perf_counter() - start) / TESTS}

        return session

    def start_up(self, *options: str, bytecode: bool) -> Contender:
        """A session of one empty test, with us as the only installed plugin: wall clock, and processor time.

        Args:
            options: of pytest.
            bytecode: whether the interpreter may keep it.
        """
        others = [f"no:{point.name}" for point in entry_points(group="pytest11") if point.name != "netns"]
        options = (*options, *(word for other in others for word in ("-p", other)))
        argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_unused.py"]

        def session() -> Laps:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            self._run(argv, autoload=True, bytecode=bytecode)
            wall = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return {"wall": wall, "processor": spent}

        return session

    def imported(self) -> str:
        """Which of the heavy modules a session that does not use the plugin has imported."""
        return self._run(["-c", _IMPORTED, "test_unused.py"], autoload=True).splitlines()[-1]
