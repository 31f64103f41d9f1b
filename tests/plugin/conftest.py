"""Fixtures for tests that watch inner pytest sessions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .inner import Project, User


@pytest.fixture
def project() -> Iterator[Project]:
    """An empty project, in a folder of its own: pytest's temporary ones are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="netns-test-", dir="/tmp"))
    try:
        yield Project(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["root", "ordinary"])
def user(request: pytest.FixtureRequest) -> User:
    """Each kind of user in turn."""
    chosen: User = request.param
    return chosen
