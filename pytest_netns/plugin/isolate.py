"""Tests that run in a fresh namespace of their own: ``@pytest.mark.netns`` and ``--netns-isolate``.

The namespace is entered before the test's own fixtures are set up and left after they are torn down. Fixtures of wider
scope are set up and torn down at home: they serve other tests too. Threads and processes are where their creator is;
for work that goes to threads of a pool, which may be older than the test, see ``thread_pools``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from pytest_netns.plugin import lab_monitor as _labs
from pytest_netns.plugin import session as _session
from pytest_netns.plugin.names import ISOLATE

if TYPE_CHECKING:
    from pytest_netns.stack.namespace import Namespace

_WRAPPED = pytest.StashKey[bool]()
_KEY: pytest.StashKey[Namespace] = pytest.StashKey()


def wanted(item: pytest.Item) -> bool:
    """Whether a test runs in a namespace of its own."""
    return item.get_closest_marker(ISOLATE) is not None or _session.of(item.config).settings.isolate


def enter(item: pytest.Item) -> None:
    """Put the test's thread into a fresh namespace."""
    from pytest_netns.kernel.interrupts import uninterrupted
    from pytest_netns.plugin.thread_pools import arrive, patch_executors
    from pytest_netns.stack import current
    from pytest_netns.stack.namespace import Namespace

    patch_executors()
    arrive()
    for each in item.listchain()[:-1]:
        if isinstance(each, pytest.Package) and _WRAPPED not in each.stash:
            each.stash[_WRAPPED] = True
            each.setup = functools.partial(_at_home, each.setup)  # type: ignore[method-assign]
    with uninterrupted:  # from the entry on somebody must know that the test has to be taken out
        namespace = Namespace(item.name[:60], apart=True)
        current.enter(namespace, apart=True)
        item.stash[_KEY] = namespace
        arrive()
        _leave_before_wider_teardown(item)
    _labs.met(item.config, namespace)


def _leave_before_wider_teardown(item: pytest.Item) -> None:
    """Leave in the item's own teardown: after the finalizers of the test's fixtures, and before those of wider ones."""
    teardown = item.teardown

    def and_leave() -> None:
        try:
            teardown()
        finally:
            leave(item)

    item.teardown = and_leave  # type: ignore[method-assign]


def leave(item: pytest.Item) -> None:
    """Bring the thread home and let go of the namespace. Raises what closing it raises."""
    namespace = item.stash.get(_KEY, None)
    if namespace is None:
        return
    from pytest_netns.kernel.interrupts import uninterrupted
    from pytest_netns.plugin.thread_pools import depart
    from pytest_netns.stack.current import leave_down_to

    with uninterrupted:
        del item.stash[_KEY]
        item.__dict__.pop("teardown", None)
        try:
            left = leave_down_to(namespace)
        finally:
            depart(namespace.inode)
            namespace.close()
    if left:
        _session.did_not_leave(left)


def _at_home(setup: Callable[[], None]) -> None:
    """A package's ``setup_module`` is no fixture: pytest calls it when the first test of the package is set up."""
    from pytest_netns.stack.current import in_original_namespace

    with in_original_namespace():
        setup()


def around_fixture(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Set up and tear down a fixture of wider scope than one test where all tests share it: at home."""
    item = getattr(request, "_pyfuncitem", None)
    namespace = item.stash.get(_KEY, None) if isinstance(item, pytest.Item) else None
    if fixturedef.scope == "function" or namespace is None:
        return (yield)
    from pytest_netns.stack.current import in_original_namespace

    # Finalizers run last in, first out: the one that is added first brings the thread back after the fixture's own.
    stack: list[AbstractContextManager[None]] = []
    fixturedef.addfinalizer(lambda: away_again(stack))
    with in_original_namespace():
        result = yield
    fixturedef.addfinalizer(lambda: go_home(stack))
    return result


def go_home(stack: list[AbstractContextManager[None]]) -> None:
    """Before the finalizers of a fixture of wider scope."""
    from pytest_netns.stack.current import in_original_namespace

    context = in_original_namespace()
    context.__enter__()
    stack.append(context)


def away_again(stack: list[AbstractContextManager[None]]) -> None:
    """After them."""
    if stack:
        stack.pop().__exit__(None, None, None)
