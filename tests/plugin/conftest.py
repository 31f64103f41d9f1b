"""Fixtures for tests that watch inner pytest sessions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from pytest_server import PytestServer

from .inner import HEARS_CTRL_C, Project, User, as_user


@pytest.fixture(scope="session")
def server_for() -> Iterator[Callable[[User], PytestServer]]:
    """What inner sessions are forked from, for each kind of user; it is started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(user: User) -> PytestServer:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="netns-test-home-", dir="/tmp"))
            Path(home).chmod(0o777)
            return stack.enter_context(PytestServer([*HEARS_CTRL_C, *as_user(user)], home))

        yield start


@pytest.fixture
def project(server_for: Callable[[User], PytestServer]) -> Iterator[Project]:
    """An empty project, in a folder of its own: pytest's temporary ones are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="netns-test-", dir="/tmp"))
    try:
        yield Project(folder, server_for)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["root", "ordinary"])
def user(request: pytest.FixtureRequest) -> User:
    """Each kind of user in turn."""
    chosen: User = request.param
    return chosen
