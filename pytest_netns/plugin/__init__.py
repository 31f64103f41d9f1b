"""The pytest plugin: hooks, fixtures' settings, markers, isolation, leaks, reports.

pytest looks for assertions to rewrite in each module of a plugin: some 5 ms a module, in each run where it cannot write
bytecode. There are none here, so our modules are found as Python finds all others, past the import hook of pytest. This
one, and the package, come too early for that: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _AsUsual:
    """In front of pytest's import hook."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        return PathFinder.find_spec(name, path, target) if name.startswith("pytest_netns.") else None


sys.meta_path.insert(0, _AsUsual())
