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
        toward: the end to which the frames go that are impaired; both directions if left out.
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
    """Impair what it carries, from now on and instead of what was set before. All values are for one way.

    ``link.impair(delay="20ms")`` adds 40 ms to a ping.

    Args:
        impairment: a preset, or any other value; what else is given replaces its attributes.
        delay: seconds, or text such as ``"20ms"``: one way. The meaning of this and the following is told by
            ``Impairment``.
        jitter: seconds, or text.
        loss: a fraction, or text such as ``"1%"``.
        rate: bit/s, or text such as ``"10mbit"``.
        reorder: a fraction, or text.
        duplicate: a fraction, or text.
        corrupt: a fraction, or text.
        toward: the end to which the frames go that are impaired, a node or an interface; None: both directions.
        seed: makes chance repeatable: the same frames have the same fate. Frames that hosts send unasked (ARP,
            neighbour discovery, multicast) draw from random numbers of their own, but with netem.
            Each direction has random numbers of its own.
        engine: ``"netem"`` (the kernel), ``"tbf"`` (the kernel, for a rate alone), ``"relay"`` (a process of ours),
            or ``"auto"``: the first of these that is there and can do it. None: as the lab was told.

    Raises:
        TopologyError: nothing, or a bad value, was given; ``toward`` is no end of the link; it was removed.
        UnsupportedError: the engine is lacking here, or cannot do that.
        KernelError: the kernel refused.
        ProcessDied: the relay is dead.

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
    """Impair nothing any more; frames under way still arrive, each at its time. Allowed if nothing is impaired.

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
    """Impair what it carries for the duration of a ``with`` block; then what was before it is in force again.

    Args:
        impairment: a preset, or any other value; what else is given replaces its attributes.
        options: the keywords of ``impair``: ``delay``, ``jitter``, ``loss``, ``rate``, ``reorder``, ``duplicate``,
            ``corrupt``, ``toward``, ``seed``, ``engine``.

    Returns:
        A context manager, which gives the link.

    Raises:
        TopologyError: nothing, or a bad value, was given; ``toward`` is no end of the link; it was removed.
        UnsupportedError: the engine is lacking here, or cannot do that.
        KernelError: the kernel refused.
        ProcessDied: the relay is dead.

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


def impaired_words(link: Cable) -> str:
    """For its repr: what was set last, for both directions or for each. Asks nobody."""
    there, back = (end.node._impairment_words(end) for end in link.interfaces)
    if there == back:
        return f", impaired: {there}" if there else ""
    ways = ((link.b.node.name, there), (link.a.node.name, back))
    return "".join(f", impaired toward {far}: {words}" for far, words in ways if words)


def _senders(link: Cable, toward: BaseNode | Interface | None) -> list[Interface]:
    """The ends whose frames go that way."""
    if toward is None:
        return list(link.interfaces)
    for end, other in (link.interfaces, (link.b, link.a)):
        if toward is end.node or toward == end:
            return [other]
    shown = getattr(toward, "name", toward)
    raise TopologyError(
        f"{link!r}: toward={shown!r} is none of its ends; they are {link.a.node.name!r} and {link.b.node.name!r}"
        f"{'; give the node, not its name' if isinstance(toward, str) else ''}"
    )
