"""What ``impair`` of an interface and of a link have in common: what was asked, and what was before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from pytest_netns.errors import NetnsError, TopologyError
from pytest_netns.impair.impairment import ActiveImpairment, Counters, Engine, Impairment
from pytest_netns.units import Quantity

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.topology.cable import Cable


def requested(impairment: Impairment | None, where: str, **given: Quantity | None) -> Impairment:
    """The impairment that is meant: a value, some attributes, or a value with some attributes changed.

    Raises:
        TopologyError: nothing was given, or a bad value; with the place.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    if impairment is not None and not isinstance(impairment, Impairment):
        raise TopologyError(
            f"{where}: {impairment!r} is no Impairment; give one such as presets.LTE, or e.g. delay='20ms', loss='1%'"
        )
    if impairment is None and not changes:
        raise TopologyError(f"{where}: nothing to impair was given, e.g. delay='20ms'; to end an impairment use heal()")
    try:
        return (impairment or Impairment()).but(**changes)
    except TopologyError as error:
        raise TopologyError(f"{where}: {error}") from None


def _restore(interface: Interface, setting: tuple[Impairment, int | None, Engine] | None) -> None:
    try:
        _ = interface.state
    except TopologyError:
        return  # its link was removed, or its node closed, and the impairment went with it
    if setting is None:
        interface.heal()
    else:
        interface.node.impairments.apply(interface, *setting)


def _restore_end(end: Callable[[], Interface], setting: tuple[Impairment, int | None, Engine] | None) -> None:
    _restore(end(), setting)


def _setting(interface: Interface) -> tuple[Impairment, int | None, Engine] | None:
    return interface.node.impairments.setting(interface)


@contextmanager
def restored(ends: Sequence[Callable[[], Interface]]) -> Iterator[None]:
    """After the block each is impaired as it was before.

    Args:
        ends: give each, at the beginning and at the end: a port may be another interface by then, of another bridge.
    """
    with ExitStack() as undo:
        for end in ends:
            undo.callback(_restore_end, end, _setting(end()))
        yield


@contextmanager
def restored_on_error(interfaces: Sequence[Interface]) -> Iterator[None]:
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


def of_both(link: Cable) -> ActiveImpairment | None:
    """See ``Link.impairment``."""
    there, back = (end.impairment for end in link.interfaces)
    if there is None and back is None:
        return None
    if there is None or back is None or there != back or there.engine != back.engine:
        raise TopologyError(f"{link!r}: its directions differ; ask link.a.impairment and link.b.impairment")
    counted = {
        field.name: getattr(there.counters, field.name) + getattr(back.counters, field.name)
        for field in fields(Counters)
    }
    return ActiveImpairment(there, there.engine, there.seed, Counters(**counted))
