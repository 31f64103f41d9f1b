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
def home_of() -> Iterator[Callable[[User], str]]:
    """A folder for each kind of user, which keeps the bytecode of what its inner sessions import."""
    with ExitStack() as stack:

        @cache
        def make(user: User) -> str:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="netns-test-home-", dir="/tmp"))
            Path(home).chmod(0o777)
            return home

        yield make


@pytest.fixture(scope="session")
def server_for(home_of: Callable[[User], str]) -> Iterator[Callable[[User], PytestServer]]:
    """What inner sessions are forked from, for each kind of user; it is started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(user: User) -> PytestServer:
            return stack.enter_context(PytestServer([*HEARS_CTRL_C, *as_user(user)], home_of(user)))

        yield start


@pytest.fixture
def project(home_of: Callable[[User], str], server_for: Callable[[User], PytestServer]) -> Iterator[Project]:
    """An empty project, in a folder of its own: pytest's temporary ones are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="netns-test-", dir="/tmp"))
    try:
        yield Project(folder, home_of, server_for)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["root", "ordinary"])
def user(request: pytest.FixtureRequest) -> User:
    """Each kind of user in turn."""
    chosen: User = request.param
    return chosen
