"""Which probe a failure is about. Pure: no network is made."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from types import CodeType

import pytest

from pytest_netns.plugin.relevance import newest
from pytest_netns.topology.failure import callers


@dataclass
class Probe:
    result: str | None
    at: int
    called: tuple[tuple[CodeType, int], ...]

    def __bool__(self) -> bool:
        return False


class Result:
    """A falsy one."""

    state = "filtered"

    def __bool__(self) -> bool:
        return False


def run(source: str) -> list[str]:
    """Run a test's source, in which ``ask(name)`` fails; the name of the probe that the failure is about, if any."""
    asked: list[Probe] = []
    names: dict[int, str] = {}

    def ask(name: str) -> Result:
        result = Result()
        asked.append(Probe(result, len(asked), callers()))  # type: ignore[arg-type]
        names[id(asked[-1])] = name
        return result

    file = f"<relevance {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space: dict[str, object] = {"ask": ask}
    exec(compile(source, file, "exec"), space)
    try:
        space["test"]()  # type: ignore[operator]
    except Exception:
        _, _, traceback = sys.exc_info()
        found = newest(asked, traceback, "")
        return [] if found is None else [names[id(found)]]
    raise AssertionError("it was expected to fail")


@pytest.mark.parametrize(
    ("body", "about"),
    [
        ("assert ask('a')", "a"),
        ("assert ask('a').state == 'open'", "a"),
        ("ok = bool(ask('a'))\n    assert ok", "a"),
        ("first = ask('a')\n    second = ask('b')\n    assert first.state == 'open'", "a"),
        ("found = []\n    found.append(ask('a'))\n    assert all(found)", "a"),
        ("found = {}\n    found['x'] = ask('a')\n    assert all(found.values())", "a"),
        ("if not ask('a'):\n        raise RuntimeError('no')", "a"),
        ("ok = ask('a')\n    if not ok:\n        raise RuntimeError('no')", "a"),
        ("assert (\n        1 == 1\n        and ask('a')\n    )", "a"),
        ("assert helper()", "a"),
        ("deep()", "a"),
        ("assert not ask('a')\n    assert 1 == 2", None),
        ("gone = ask('a')\n    assert not gone\n    assert [] == [1]", None),
        ("ask('a')\n    raise ValueError('something else')", None),
        ("assert not ask('a')\n    assert ask('b')", "b"),
    ],
)
def test_the_failure_is_about(body: str, about: str | None) -> None:
    source = f"""
def helper():
    return ask('a')

def deep():
    found = ask('a')
    assert found

def test():
    {body}
"""
    assert run(source) == ([about] if about else [])
