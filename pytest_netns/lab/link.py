"""Link: a veth between two nodes."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.errors import KernelError
from pytest_netns.faults.breakable_cable import BreakableCable
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.lazy_verbs import verb_modules

if TYPE_CHECKING:
    from pytest_netns.faults import black_hole, link_down, link_mtu
    from pytest_netns.impair.impairment import ActiveImpairment
    from pytest_netns.lab import captures, link_impairment
    from pytest_netns.topology.addressing import Segment
    from pytest_netns.topology.network import Network
else:
    black_hole, link_down, link_mtu = verb_modules("pytest_netns.faults", "black_hole", "link_down", "link_mtu")
    captures, link_impairment = verb_modules("pytest_netns.lab", "captures", "link_impairment")


class Link(BreakableCable):
    """A veth pair between two nodes. Created by ``Lab.connect``.

    Attributes:
        lab: the lab that it is part of.
        a: the end in the node that was named first.
        b: the other end.

    Example:
        >>> link = lab.connect(red, green, "10.3.0.0/30")
        >>> link.a, link.b
    """

    def __init__(
        self,
        lab: Network,
        ends: tuple[Interface, Interface],
        segment: Segment,
        owned: bool,
        given: Sequence[AddressWithPrefix] = (),
    ) -> None:
        super().__init__(lab, *ends)
        self._given = list(given)
        self._segment = segment
        self._owns_segment = owned

    capture: Final = captures.capture_link

    # What can be done to it, each told where it is done.
    down: Final = link_down.down
    up: Final = link_down.up
    flap: Final = link_down.flap
    set_mtu: Final = link_mtu.set_mtu
    black_hole: Final = black_hole.black_hole
    impair: Final = link_impairment.impair
    impaired: Final = link_impairment.impaired
    heal: Final = link_impairment.heal

    @property
    def impairment(self) -> ActiveImpairment | None:
        """What is in force in both directions, read back; None if nothing is. The counters are those of both together.

        Raises:
            TopologyError: the directions differ: ask the end that sends, ``link.a.impairment`` or
                ``link.b.impairment``.
        """
        from pytest_netns.lab.link_impairment import impairment_of

        return impairment_of(self)

    def __repr__(self) -> str:
        if self._removed:
            return f"<Link {self.a} -- {self.b} removed>"
        return f"<Link {self.a} -- {self.b}{_impaired_words(self)}>"

    def _replace_end(self, before: Interface, after: Interface) -> None:
        """Called when the end ``before`` has come into another node, where it is ``after``."""
        if before == self.a:
            self.a = after
        else:
            self.b = after

    def _belongs_to(self, segment: Segment) -> None:
        """Called when its addresses are of another segment now."""
        self._segment = segment
        self._given = []

    def remove(self) -> None:
        """Delete both ends: removing one removes the other. Takes some 15 ms (an RCU grace period).

        Example:
            >>> link.remove()
        """
        self._check()
        self.lab._check_open()
        alive = [end for end in self.interfaces if not end.node.closed]
        for end in alive:
            end.node.impairments.forget(end)
        addresses = list(self._given)
        for end, node in zip(self.interfaces, self.nodes, strict=True):
            addresses += node.saved_config.addresses_of(end) if end in alive else []
        for end in alive[:1]:
            try:
                end.node.rtnl.batch([rtnetlink.link_delete(end.index, end.name)])
            except KernelError as error:
                if error.errno != errno.ENODEV:  # deleted by hand, or with the other end: what is left to do is ours
                    raise
        self._removed = True
        self._forget_cuts()
        for end, node in zip(self.interfaces, self.nodes, strict=True):
            node._forget_end(end)
        self._segment.release(addresses)
        if self._owns_segment:
            self.lab.plan.free(self._segment.networks)
        self.lab._forget(self)


def _impaired_words(link: Link) -> str:
    """For its repr: what was set last, for both directions or for each. Does not query the kernel."""
    there, back = (end.node._impairment_words(end) for end in link.interfaces)
    if there == back:
        return f", impaired: {there}" if there else ""
    ways = ((link.b.node.name, there), (link.a.node.name, back))
    return "".join(f", impaired toward {far}: {words}" for far, words in ways if words)
