"""Restoring: what was impaired before a block, or before a failure, is impaired so again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from pytest_netns.errors import NetnsError, TopologyError
from pytest_netns.impair.engine import Impairments
from pytest_netns.impair.impairment import Engine, Impairment
from pytest_netns.impair.target import Target, TargetNode


class ImpairableNode(TargetNode, Protocol):
    """A namespace that knows the impairments of its interfaces."""

    @property
    def impairments(self) -> Impairments:
        """Those of its interfaces."""
        ...


class ImpairableTarget(Target, Protocol):
    """An interface of such a namespace."""

    @property
    def node(self) -> ImpairableNode:
        """The namespace that it is in."""
        ...

    def heal(self) -> None:
        """Impair what it sends no more."""
        ...


def _restore(interface: ImpairableTarget, setting: tuple[Impairment, int | None, Engine] | None) -> None:
    try:
        _ = interface.state
    except TopologyError:
        return  # its link was removed, or its node closed, and the impairment went with it
    if setting is None:
        interface.heal()
    else:
        with interface.node.impairments.mending():
            interface.node.impairments.apply(interface, *setting)


def _restore_end(end: Callable[[], ImpairableTarget], setting: tuple[Impairment, int | None, Engine] | None) -> None:
    _restore(end(), setting)


def _setting(interface: ImpairableTarget) -> tuple[Impairment, int | None, Engine] | None:
    return interface.node.impairments.setting(interface)


@contextmanager
def restored(ends: Sequence[Callable[[], ImpairableTarget]]) -> Iterator[None]:
    """After the block each is impaired as it was before.

    Args:
        ends: give each, at the beginning and at the end: a port may be another interface by then, of another bridge.
    """
    owner = os.getpid()
    with ExitStack() as undo:
        for end in ends:
            undo.callback(_restore_end, end, _setting(end()))
        try:
            yield
        finally:
            if os.getpid() != owner:  # a forked child leaves the block too, and the network is its parent's
                undo.pop_all()


@contextmanager
def restored_on_error(interfaces: Sequence[ImpairableTarget]) -> Iterator[None]:
    """If the block fails each is impaired as it was before."""
    before = [(interface, _setting(interface)) for interface in interfaces]
    try:
        yield
    except BaseException as failure:
        for interface, setting in before:
            try:
                _restore(interface, setting)
            except NetnsError as error:
                failure.add_note(f"and {interface} could not be restored: {error}")
        raise
