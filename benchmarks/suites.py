"""``python -m benchmarks.suites [NAME ...]``: other people's suites, with ``--netns-isolate`` and without.

Brings source distributions that have tests in them, by pip, each with an environment of its own, runs each suite as
it is and isolated, and prints a table of the tests whose outcomes differ. Needs the network; passes or fails nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import venv
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_DEADLINE = 1800.0
#: The same as whoever runs this, in two workers, and without root.
_WAYS = {"alone": (), "-n 2": ("-n", "2"), "rootless": ("--netns-sandbox=always",)}


@dataclass(frozen=True)
class Suite:
    """A project whose source distribution has tests.

    Attributes:
        name: on PyPI.
        tests: where they are in the distribution.
        needs: distributions that they need.
        isolate: what suits it, of --netns-isolate and its like.
    """

    name: str
    tests: str
    needs: tuple[str, ...] = ()
    isolate: tuple[str, ...] = ("--netns-isolate",)


SUITES = {
    each.name: each
    for each in (
        Suite("waitress", "tests"),
        Suite("pyftpdlib", "tests", ("psutil", "pyopenssl", "pytest-instafail")),
        Suite(
            "zeroconf",
            "tests",
            ("pytest-asyncio", "pytest-timeout"),
            ("--netns-isolate", "--netns-isolate-interface=eth0"),
        ),
        Suite(
            "uvicorn", "tests", ("httpx", "websockets", "wsproto", "httptools", "a2wsgi", "trustme", "anyio", "trio")
        ),
        Suite("httpx", "tests", ("uvicorn", "trustme", "trio", "anyio", "chardet"), ("--netns-isolate=session",)),
        Suite("urllib3", "test", ("trustme", "quart", "hypercorn", "trio"), ("--netns-isolate=module",)),
        Suite("aiosmtpd", "aiosmtpd/tests", ("pytest-mock",), ("--netns-isolate=module",)),
        Suite("trio", "src/trio/_tests", ("trustme", "pyopenssl", "astor", "async_generator")),
    )
}


def _outcomes(report: Path) -> dict[str, str]:
    """Passed, failed, error or skipped, by test."""
    if not report.exists():
        return {}
    found = {}
    for case in ET.parse(report).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
    return found


def _brought(suite: Suite, folder: Path) -> tuple[Path, Path]:
    """The unpacked distribution and an interpreter that has what its tests need. Raises CalledProcessError."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run(
        [*pip, "download", "--no-binary", suite.name, "--no-deps", suite.name, "-d", str(folder)],
        check=True,
        timeout=_DEADLINE,
    )
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path.parent for path in folder.glob("*/PKG-INFO"))
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "--quiet", "install", str(source), str(_ROOT), "pytest-xdist", *suite.needs],
        check=True,
        timeout=_DEADLINE,
    )
    return source, python


def _run(suite: Suite, source: Path, python: Path, arguments: tuple[str, ...]) -> dict[str, str]:
    """Raises ValueError if no test ran: nothing that differs would else be read as all being the same."""
    report = source.parent / "report.xml"
    report.unlink(missing_ok=True)
    words = [str(python), "-m", "pytest", "-q", "-p", "netns", "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = subprocess.run(
        [*words, *arguments, suite.tests], cwd=source, check=False, timeout=_DEADLINE, capture_output=True, text=True
    )
    outcomes = _outcomes(report)
    if not outcomes or done.returncode not in (0, 1):
        last = (done.stdout.strip() or done.stderr.strip() or "it printed nothing").splitlines()[-1]
        raise ValueError(f"pytest {' '.join((*arguments, suite.tests))} ended with status {done.returncode}: {last}")
    return outcomes


def compared(suite: Suite) -> list[str]:
    """Lines of a table: how it was run, how many tests, how many differ, and which."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        source, python = _brought(suite, Path(name))
        for way, arguments in _WAYS.items():
            plain = _run(suite, source, python, () if way == "rootless" else arguments)
            isolated = _run(suite, source, python, (*arguments, *suite.isolate))
            differing = [t for t in plain | isolated if plain.get(t, "missing") != isolated.get(t, "missing")]
            shown = "; ".join(f"{t}: {plain.get(t, 'missing')}, {isolated.get(t, 'missing')}" for t in differing[:5])
            options = " ".join(suite.isolate)
            lines.append(f"| {suite.name} | `{options}` | {way} | {len(plain)} | {len(differing)} | {shown} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suites", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(SUITES)}")
    names = parser.parse_args().names or list(SUITES)
    if unknown := [name for name in names if name not in SUITES]:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(SUITES)}")
    print("| suite | options | run | tests | differing | which |\n|---|---|---|---|---|---|", flush=True)
    for name in names:
        try:
            print(*compared(SUITES[name]), sep="\n", flush=True)
        except (subprocess.SubprocessError, StopIteration, ValueError, OSError) as error:
            print(f"| {name} | | | not run: {type(error).__name__}: {error} | | |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
