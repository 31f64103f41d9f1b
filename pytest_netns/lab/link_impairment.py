"""Link impairment: what is done to the frames on a link, by its ends, each of which impairs what it sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, Unpack

from pytest_netns.errors import TopologyError
from pytest_netns.impair.impairment import of_both
from pytest_netns.impair.options import ImpairOptions
from pytest_netns.impair.request import requested
from pytest_netns.impair.restoring import restored, restored_on_error
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.impair.impairment import ActiveImpairment, Engine, Impairment
    from pytest_netns.units import Quantity

_C = TypeVar("_C", bound=Cable)


class LinkImpairOptions(ImpairOptions, total=False):
    """Keywords of ``Link.impair``; what is left out is not impaired.

    Attributes:
        toward: impair only frames to this end; both directions if omitted.
    """

    toward: BaseNode | Interface | None


def impair(
    link: Cable,
    impairment: Impairment | None = None,
    *,
    delay: Quantity | None = None,
    jitter: Quantity | None = None,
    loss: Quantity | None = None,
    rate: Quantity | None = None,
    reorder: Quantity | None = None,
    duplicate: Quantity | None = None,
    corrupt: Quantity | None = None,
    toward: BaseNode | Interface | None = None,
    seed: int | None = None,
    engine: Engine | None = None,
) -> None:
    """Impair the link, replacing any earlier impairment. All values are one-way.

    ``link.impair(delay="20ms")`` adds 40 ms to a ping.

    Args:
        impairment: a preset or another ``Impairment``; the other arguments override its attributes.
        delay: seconds, or text such as ``"20ms"``: one-way. For this and the following see
            ``Impairment``.
        jitter: seconds, or text.
        loss: a fraction, or text such as ``"1%"``.
        rate: bit/s, or text such as ``"10mbit"``.
        reorder: a fraction, or text.
        duplicate: a fraction, or text.
        corrupt: a fraction, or text.
        toward: impair only frames to this end, a node or an interface; None: both directions.
        seed: seed of the random numbers: the same frames are treated alike in each run. Background traffic (ARP,
            neighbour discovery, multicast) uses random numbers of its own, except with netem.
            Each direction has its own random numbers.
        engine: ``"netem"`` (the kernel), ``"tbf"`` (the kernel, for a rate alone), ``"relay"`` (a user-space process),
            or ``"auto"``: the first of these that is available and supports it. None: the lab's default.

    Raises:
        TopologyError: no value or an invalid one; ``toward`` is not an end of the link; the link was removed.
        UnsupportedError: the engine is not available, or does not support this.
        KernelError: the kernel refused.
        ProcessDied: the relay process has exited.

    Example:
        >>> link.impair(delay="20ms", loss="1%", toward=blue)
        >>> link.impair(presets.LTE)
    """
    link._check()
    values = requested(
        impairment,
        repr(link),
        delay=delay,
        jitter=jitter,
        loss=loss,
        rate=rate,
        reorder=reorder,
        duplicate=duplicate,
        corrupt=corrupt,
    )
    senders = _senders(link, toward)
    with restored_on_error(senders):
        for end in senders:
            end.node.impairments.apply(end, values, seed, engine)


def heal(link: Cable, *, toward: BaseNode | Interface | None = None) -> None:
    """Remove the impairment; frames already delayed still arrive. Does nothing if there is none.

    Args:
        toward: heal that direction alone.

    Raises:
        TopologyError: ``toward`` is no end of it, or it was removed.
        KernelError: the kernel refused.

    Example:
        >>> link.impair(delay="20ms")
        >>> link.heal()
    """
    link._check()
    for end in _senders(link, toward):
        end.heal()


@contextmanager
def impaired(link: _C, impairment: Impairment | None = None, **options: Unpack[LinkImpairOptions]) -> Iterator[_C]:
    """Impair the link during a ``with`` block, then restore the previous state.

    Args:
        impairment: a preset or another ``Impairment``; the other arguments override its attributes.
        options: the keywords of ``impair``: ``delay``, ``jitter``, ``loss``, ``rate``, ``reorder``, ``duplicate``,
            ``corrupt``, ``toward``, ``seed``, ``engine``.

    Returns:
        A context manager, which gives the link.

    Raises:
        TopologyError: no value or an invalid one; ``toward`` is not an end of the link; the link was removed.
        UnsupportedError: the engine is not available, or does not support this.
        KernelError: the kernel refused.
        ProcessDied: the relay process has exited.

    Example:
        >>> with link.impaired(delay="20ms"):
        ...     red.ping(blue)
    """
    link._check()
    sides = [end == link.b for end in _senders(link, options.get("toward"))]
    with restored([lambda side=side: link.interfaces[side] for side in sides]):  # type: ignore[misc]
        impair(link, impairment, **options)
        yield link


def impairment_of(link: Cable) -> ActiveImpairment | None:
    """What is in force in both directions together; None if nothing is. Raises TopologyError: they differ."""
    link._check()
    there, back = (end.impairment for end in link.interfaces)
    if there is None and back is None:
        return None
    if there is None or back is None or there != back or there.engine != back.engine:
        raise TopologyError(f"{link!r}: its directions differ; ask link.a.impairment and link.b.impairment")
    return of_both(there, back)


def _senders(link: Cable, toward: BaseNode | Interface | None) -> list[Interface]:
    """The ends whose frames go that way."""
    if toward is None:
        return list(link.interfaces)
    for end, other in (link.interfaces, (link.b, link.a)):
        if toward is end.node or toward == end:
            return [other]
    shown = getattr(toward, "name", toward)
    raise TopologyError(
        f"{link!r}: toward={shown!r} is not one of its ends; they are {link.a.node.name!r} and {link.b.node.name!r}"
        f"{'; give the node, not its name' if isinstance(toward, str) else ''}"
    )
