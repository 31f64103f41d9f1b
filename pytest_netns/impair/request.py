"""Request: the impairment that the keywords of ``impair`` stand for."""

from __future__ import annotations

from pytest_netns.errors import TopologyError
from pytest_netns.impair.impairment import Impairment
from pytest_netns.units import Quantity


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
