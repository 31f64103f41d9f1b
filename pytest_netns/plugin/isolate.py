"""Tests that run in a fresh namespace of their own: ``@pytest.mark.netns`` and ``--netns-isolate``.

A namespace belongs to a unit: one test, a class, a module or the session. The test's thread enters it before the test's
fixtures are set up and leaves it after they are torn down; it is closed at the end of its unit. Fixtures of the unit's
scope or a narrower one are set up and torn down inside; those of wider scope at home (in the original namespace), as
they serve other units too. A new thread or process starts in the namespace of its creator. For work submitted to a
thread pool, whose threads may be older than the test, see ``thread_pools``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_netns.plugin import lab_monitor as _labs
from pytest_netns.plugin import refused as _refused
from pytest_netns.plugin import session as _session
from pytest_netns.plugin.names import ISOLATE
from pytest_netns.plugin.settings import Unit

if TYPE_CHECKING:
    from _pytest.nodes import Node

    from pytest_netns.plugin.quiet_peer import QuietPeer
    from pytest_netns.stack.namespace import Namespace

_WIDTHS = {"function": 0, "class": 1, "module": 2, "package": 3, "session": 4}
_NODES: dict[Unit, type[Node]] = {Unit.CLASS: pytest.Class, Unit.MODULE: pytest.Module, Unit.SESSION: pytest.Session}


@dataclass(slots=True)
class _Isolated:
    """The namespace of a unit.

    Attributes:
        node: the unit: a test, a class, a module or the session.
        width: rank of the fixture scope that corresponds to the unit.
        namespace: the namespace of the unit.
        peer: the far end of its interface, if it has one.
    """

    node: Node
    width: int
    namespace: Namespace
    peer: QuietPeer | None


_WRAPPED = pytest.StashKey[bool]()
#: In the stash of a running test.
_KEY: pytest.StashKey[_Isolated] = pytest.StashKey()
#: In the stash of a unit's node, by the name of the interface.
_UNITS: pytest.StashKey[dict[str, _Isolated]] = pytest.StashKey()


def wanted(item: pytest.Item) -> tuple[Unit, str] | None:
    """The unit whose namespace a test uses, and its interface besides loopback; None: the test is not isolated.

    The closest marker takes precedence. A marker without a scope means a namespace for each test.
    """
    settings = _session.of(item.config).settings
    marks = list(item.iter_markers(ISOLATE))
    if not marks:
        return None if settings.isolate is None else (settings.isolate, settings.isolate_interface)
    given: dict[str, object] = {}
    for mark in reversed(marks):
        given |= mark.kwargs
    return Unit(given.get("scope", "test")), str(given.get("interface", settings.isolate_interface) or "")


def enter(item: pytest.Item) -> None:
    """Move the test's thread into the namespace of its unit, which is created for the unit's first test."""
    asked = wanted(item)
    if asked is None:
        return
    from pytest_netns.kernel.interrupts import uninterrupted
    from pytest_netns.plugin.thread_pools import arrive, patch_executors
    from pytest_netns.stack import current

    unit, interface = asked
    patch_executors()
    arrive()
    if unit is not Unit.SESSION:
        _keep_packages_at_home(item)
    with uninterrupted:  # no exception between entering and recording that the test must leave
        isolated, is_new = _of_unit(item, unit, interface)
        current.enter(isolated.namespace, apart=True)
        item.stash[_KEY] = isolated
        arrive()
    if is_new:
        _labs.met(item.config, isolated.namespace)
    else:
        _labs.met_again(item.config, isolated.namespace)


def _of_unit(item: pytest.Item, unit: Unit, interface: str) -> tuple[_Isolated, bool]:
    """The namespace of a test's unit, and whether this call created it."""
    # A test function outside of a class is a unit of its own, as with a fixture of class scope in pytest.
    node = (item.getparent(_NODES[unit]) if unit in _NODES else None) or item
    known = _units(node)
    if interface in known:
        return known[interface], False
    from pytest_netns import open_resources
    from pytest_netns.stack.namespace import Namespace

    namespace = Namespace((node.name or "session")[:60], apart=True)
    peer: QuietPeer | None = None
    if interface:
        from pytest_netns.plugin.quiet_peer import QuietPeer

        try:
            peer = QuietPeer(namespace, interface)
        except BaseException:
            namespace.close()
            raise
    if node is not item:  # otherwise it is a resource of the test and closed with it
        open_resources.disown(namespace)
        if peer is not None:
            open_resources.disown(peer.namespace)
    width = _WIDTHS["function" if unit is Unit.TEST else unit.value]
    known[interface] = isolated = _Isolated(node, width, namespace, peer)
    _end_with(node, interface, item)
    return isolated, True


def _units(node: Node) -> dict[str, _Isolated]:
    return node.stash.setdefault(_UNITS, {})


def _end_with(node: Node, interface: str, item: pytest.Item) -> None:
    """Have the unit end after the finalizers of its own fixtures and before those of wider scope."""
    if node in item.session._setupstate.stack:
        # The node is set up already, by an earlier test that was not isolated. Its fixtures are torn down at home.
        node.addfinalizer(lambda: _end(node, interface))
        return
    teardown = node.teardown

    def and_end() -> None:
        node.__dict__.pop("teardown", None)
        try:
            teardown()
        finally:
            for each in list(_units(node)):
                _end(node, each)

    if "teardown" not in node.__dict__:  # otherwise it is replaced already, and ends the namespaces of all interfaces
        node.teardown = and_end  # type: ignore[method-assign]


def _end(node: Node, interface: str) -> None:
    """Close the namespace of a unit that is over. Raises what closing it raises."""
    isolated = _units(node).pop(interface, None)
    if isolated is None:
        return
    from pytest_netns.kernel.interrupts import uninterrupted
    from pytest_netns.plugin.thread_pools import depart
    from pytest_netns.stack.current import leave_down_to

    with uninterrupted:
        try:
            left = leave_down_to(isolated.namespace)
        finally:
            depart(isolated.namespace.inode)
            try:
                if isolated.peer is not None:
                    isolated.peer.close()
            finally:
                isolated.namespace.close()
    if left:
        _session.did_not_leave(left)


def leave(item: pytest.Item) -> None:
    """Move the thread back home when a test is torn down, and end the namespaces that belong to this test alone."""
    isolated = item.stash.get(_KEY, None)
    if isolated is None:
        return
    del item.stash[_KEY]
    if isolated.node is item:
        for interface in list(_units(item)):
            _end(item, interface)
        return
    from pytest_netns.stack.current import leave_down_to

    if left := leave_down_to(isolated.namespace):
        _session.did_not_leave(left)


def is_inside(item: pytest.Item) -> bool:
    """Whether a test is in the namespace of its unit now."""
    return _KEY in item.stash


def _keep_packages_at_home(item: pytest.Item) -> None:
    for each in item.listchain()[:-1]:
        if isinstance(each, pytest.Package) and _WRAPPED not in each.stash:
            each.stash[_WRAPPED] = True
            each.setup = functools.partial(_at_home, each.setup)  # type: ignore[method-assign]


def _at_home(setup: Callable[[], None]) -> None:
    """Run a package's ``setup_module`` at home: no fixture, pytest calls it before the first test."""
    from pytest_netns.stack.current import in_original_namespace

    with in_original_namespace():
        setup()


def around_fixture(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Set up and tear down a fixture of wider than function scope in the namespace that its tests share.

    That is the namespace of the unit, or the original one if the fixture serves several units.
    """
    item = getattr(request, "_pyfuncitem", None)
    isolated = item.stash.get(_KEY, None) if isinstance(item, pytest.Item) else None
    if fixturedef.scope == "function" or item is None or isolated is None:
        return (yield)
    from pytest_netns.stack.current import in_original_namespace

    inside = isolated.namespace if _WIDTHS[fixturedef.scope] <= isolated.width else None
    # Finalizers run last in, first out: this one, added first, moves the thread back after the fixture's own.
    stack: list[AbstractContextManager[None]] = []
    fixturedef.addfinalizer(lambda: _away_again(stack))
    if inside is not None:
        result = yield
    else:
        with in_original_namespace(), _refused.noting_listeners(item.config, fixturedef):
            result = yield
    fixturedef.addfinalizer(lambda: _go_where_it_was_made(inside, stack))
    return result


def _go_where_it_was_made(inside: Namespace | None, stack: list[AbstractContextManager[None]]) -> None:
    """Move to the namespace of a fixture's setup, before its finalizers run."""
    from pytest_netns.kernel.syscalls import visiting
    from pytest_netns.stack.current import in_original_namespace

    context: AbstractContextManager[None] = nullcontext()
    if inside is None:
        context = in_original_namespace()
    elif not inside.closed:
        context = visiting(inside.fd)
    context.__enter__()
    stack.append(context)


def _away_again(stack: list[AbstractContextManager[None]]) -> None:
    """Move back after the finalizers."""
    if stack:
        stack.pop().__exit__(None, None, None)
