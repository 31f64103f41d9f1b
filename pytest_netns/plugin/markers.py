"""The markers ``netns`` and ``netns_requires``: what they may say, and what a test needs by them.

A mistake in one is a usage error as soon as collection is done, before any test has run.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_netns.plugin.names import ISOLATE, REQUIRES
from pytest_netns.plugin.settings import Unit, check_interface

#: How many mistakes are told at once.
_TOLD = 10


def check(items: Iterable[pytest.Item]) -> None:
    """Raise UsageError, naming the tests, if a marker of theirs was given something it does not take."""
    tests: dict[str, list[str]] = {}
    for item in items:
        for mark in item.iter_markers():
            if mark.name in (ISOLATE, REQUIRES):
                mistake = _mistake(mark)
                if mistake and item.nodeid not in tests.setdefault(mistake, []):
                    tests[mistake].append(item.nodeid)
    if tests:
        lines = [
            f"{where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''}: {mistake}"
            for mistake, where in tests.items()
        ]
        more = [f"and {len(lines) - _TOLD} more mistakes"] if len(lines) > _TOLD else []
        raise pytest.UsageError("\n".join([*lines[:_TOLD], *more]))


def _mistake(mark: pytest.Mark) -> str:
    """What is wrong with a marker; empty if nothing is."""
    given = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
    if mark.name == ISOLATE:
        return _isolation_mistake(mark, given)
    if mark.kwargs or not mark.args or not all(isinstance(name, str) for name in mark.args):
        return f"@pytest.mark.{REQUIRES} takes names such as 'netem' or 'program:dnsmasq', and got {given or 'nothing'}"
    from pytest_netns.kernel.features.features import check_name

    for name in mark.args:
        try:
            check_name(name)
        except ValueError as error:
            return f"@pytest.mark.{REQUIRES}: {error}"
    return ""


def _isolation_mistake(mark: pytest.Mark, given: str) -> str:
    wrong = f"@pytest.mark.{ISOLATE} takes scope= and interface=, and got {given}"
    if mark.args or not mark.kwargs.keys() <= {"scope", "interface"}:
        return wrong
    try:
        Unit(mark.kwargs.get("scope", "test"))
    except ValueError:
        return f"{wrong}; a scope is {', '.join(repr(unit.value) for unit in Unit)}"
    try:
        if mark.kwargs.get("interface") is not None:
            check_interface(mark.kwargs["interface"])
    except ValueError as error:
        return f"{wrong}; an interface is {error}"
    return ""


def skip_unless_there(item: pytest.Item) -> None:
    """Skip a test whose ``netns_requires`` names something that is not there."""
    for mark in item.iter_markers(REQUIRES):
        from pytest_netns.kernel.features.features import feature

        for name in mark.args:
            found = feature(name)
            if not found.present:
                pytest.skip(f"{REQUIRES}({name!r}): {found.reason}")
