"""Options: the keywords of ``impair``, for what passes them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pytest_netns.impair.impairment import Engine
    from pytest_netns.units import Quantity


class ImpairOptions(TypedDict, total=False):
    """Keywords of ``Interface.impair``; what is left out is not impaired.

    Attributes:
        delay: seconds, or text such as ``"20ms"``: one way.
        jitter: seconds, or text.
        loss: a fraction, or text such as ``"1%"``.
        rate: bit/s, or text such as ``"10mbit"``.
        reorder: a fraction, or text.
        duplicate: a fraction, or text.
        corrupt: a fraction, or text.
        seed: seed of the random numbers.
        engine: ``"netem"``, ``"tbf"``, ``"relay"`` or ``"auto"``.
    """

    delay: Quantity | None
    jitter: Quantity | None
    loss: Quantity | None
    rate: Quantity | None
    reorder: Quantity | None
    duplicate: Quantity | None
    corrupt: Quantity | None
    seed: int | None
    engine: Engine | None
