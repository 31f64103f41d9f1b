"""What ``impair`` of an interface and of a link have in common: what was asked, and what was before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from pytest_netns.errors import NetnsError, TopologyError
from pytest_netns.impair.impairment import ActiveImpairment, Counters, Impairment
from pytest_netns.units import Quantity

if TYPE_CHECKING:
    from pytest_netns.interface import Interface
    from pytest_netns.lab.link import Link


def requested(impairment: Impairment | None, given: Mapping[str, Quantity | None], where: str) -> Impairment:
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


@contextmanager
def restored(interfaces: Sequence[Interface]) -> Iterator[None]:
    """After the block each is impaired as it was before."""
    before = [(interface, interface.node.impairments.setting(interface)) for interface in interfaces]
    try:
        yield
    finally:
        for interface, setting in before:
            if setting is None:
                interface.heal()
            else:
                interface.node.impairments.apply(interface, *setting)


@contextmanager
def restored_on_error(interfaces: Sequence[Interface]) -> Iterator[None]:
    """If the block fails each is impaired as it was before."""
    before = [(interface, interface.node.impairments.setting(interface)) for interface in interfaces]
    try:
        yield
    except BaseException as failure:
        for interface, setting in before:
            try:
                if setting is None:
                    interface.heal()
                else:
                    interface.node.impairments.apply(interface, *setting)
            except NetnsError as error:
                failure.add_note(f"and {interface} could not be restored: {error}")
        raise


def of_both(link: Link) -> ActiveImpairment | None:
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
