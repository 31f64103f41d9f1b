"""Environment of a process, kept out of tracebacks."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pytest_netns.kernel.search_path import search_path


class Environment(dict[str, str]):
    """Variables that are not shown.

    pytest prints the arguments of functions in a traceback, and their local variables with --showlocals; in continuous
    integration the environment holds passwords.
    """

    def __repr__(self) -> str:
        return f"<environment of {len(self)} variables>"


def environment_of(given: object) -> Environment:
    """What ``env=`` accepts. Raises TypeError, which does not show values."""
    if not isinstance(given, Mapping):
        raise TypeError(f"env is of type {type(given).__name__}; expected a mapping of names to values, both text")
    found = Environment()
    for name, value in given.items():
        for what in (name, value):
            if not isinstance(what, str | bytes | os.PathLike):
                raise TypeError(
                    f"env: {name!r} is of type {type(value).__name__}; expected names and values that are text"
                )
        found[os.fsdecode(name)] = os.fsdecode(value)
    return found


def ours() -> Environment:
    """That of this process, with the directories of root's programs at the end of its PATH."""
    found = Environment(os.environ)
    found["PATH"] = search_path(found)
    return found
