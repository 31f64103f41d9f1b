"""Tests that run in a fresh namespace of their own: ``@pytest.mark.netns`` and ``--netns-isolate``.

A namespace belongs to a unit: one test, or a class, a module, the session. It is entered before the fixtures of the
test are set up and left after they are torn down, and it ends with its unit. Fixtures of the unit's scope and of
narrower ones are set up and torn down inside, those of wider scope at home: they serve other units too. Threads and
processes are where their creator is; for work that goes to threads of a pool, which may be older than the
test, see ``thread_pools``.
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
        width: of fixtures that are as wide as the unit.
        namespace: its own.
        peer: what is behind its interface, if it has one.
    """

    node: Node
    width: int
    namespace: Namespace
    peer: QuietPeer | None


_WRAPPED = pytest.StashKey[bool]()
#: Of a test that is under way.
_KEY: pytest.StashKey[_Isolated] = pytest.StashKey()
#: Of the node that is a unit, by the name of the interface.
_UNITS: pytest.StashKey[dict[str, _Isolated]] = pytest.StashKey()


def wanted(item: pytest.Item) -> tuple[Unit, str] | None:
    """What shares a namespace with a test, and the interface it has beside loopback; None: the test is not isolated.

    The marker that stands nearest to the test is believed first. One without a scope is about that test alone.
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
    """Put the test's thread into the namespace of its unit, which is made for the first test of it."""
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
    with uninterrupted:  # from the entry on somebody must know that the test has to be taken out
        isolated, is_new = _of_unit(item, unit, interface)
        current.enter(isolated.namespace, apart=True)
        item.stash[_KEY] = isolated
        arrive()
    if is_new:
        _labs.met(item.config, isolated.namespace)
    else:
        _labs.met_again(item.config, isolated.namespace)


def _of_unit(item: pytest.Item, unit: Unit, interface: str) -> tuple[_Isolated, bool]:
    """The namespace of a test's unit, and whether it was made just now."""
    # What pytest does with a fixture of class scope where there is no class: it is the test's.
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
    if node is not item:  # else it is the test's, and closed with it
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
    """End a unit after the finalizers of its own fixtures, and before those of wider ones."""
    if node in item.session._setupstate.stack:
        # A test before this one was not isolated, and it is set up already. What it has made is torn down at home.
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

    if "teardown" not in node.__dict__:  # or it ends those of several interfaces already
        node.teardown = and_end  # type: ignore[method-assign]


def _end(node: Node, interface: str) -> None:
    """Let go of a namespace whose unit is over. Raises what closing it raises."""
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
    """Bring the thread home when a test is torn down; what is the test's alone ends, if it has not."""
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
    """Whether a test is in a namespace of its unit now."""
    return _KEY in item.stash


def _keep_packages_at_home(item: pytest.Item) -> None:
    for each in item.listchain()[:-1]:
        if isinstance(each, pytest.Package) and _WRAPPED not in each.stash:
            each.stash[_WRAPPED] = True
            each.setup = functools.partial(_at_home, each.setup)  # type: ignore[method-assign]


def _at_home(setup: Callable[[], None]) -> None:
    """A package's ``setup_module`` is no fixture: pytest calls it when the first test of the package is set up."""
    from pytest_netns.stack.current import in_original_namespace

    with in_original_namespace():
        setup()


def around_fixture(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Set up and tear down a fixture of wider scope than one test where all tests that it serves are.

    That is in the namespace of the unit, or at home if it serves others, too.
    """
    item = getattr(request, "_pyfuncitem", None)
    isolated = item.stash.get(_KEY, None) if isinstance(item, pytest.Item) else None
    if fixturedef.scope == "function" or item is None or isolated is None:
        return (yield)
    from pytest_netns.stack.current import in_original_namespace

    inside = isolated.namespace if _WIDTHS[fixturedef.scope] <= isolated.width else None
    # Finalizers run last in, first out: the one that is added first brings the thread back after the fixture's own.
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
    """Before the finalizers of a fixture of wider scope."""
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
    """After them."""
    if stack:
        stack.pop().__exit__(None, None, None)
