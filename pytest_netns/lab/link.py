"""Link: a veth between two nodes."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.errors import KernelError
from pytest_netns.faults.link_down import BreakableLink
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.lab.impairable_link import ImpairableLink
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.events import CaptureOpened
from pytest_netns.topology.fault import Fault

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.pattern import Pattern
    from pytest_netns.topology.addressing import Segment
    from pytest_netns.topology.network import Network


class Link(BreakableLink, ImpairableLink):
    """A veth between two nodes: what goes in at one end comes out at the other. Made by ``Lab.connect``.

    Attributes:
        lab: the lab that it is part of.
        a: the end in the node that was named first.
        b: the other end.
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

    def __repr__(self) -> str:
        if self._removed:
            return f"<Link {self.a} -- {self.b} removed>"
        return f"<Link {self.a} -- {self.b}{self._impaired_words()}>"

    def replace_end(self, before: Interface, after: Interface) -> None:
        """Called when the end ``before`` has come into another node, where it is ``after``."""
        if before == self.a:
            self.a = after
        else:
            self.b = after

    def belongs_to(self, segment: Segment) -> None:
        """Called when its addresses are of another segment now."""
        self._segment = segment
        self._given = []

    def capture(
        self,
        filter: str | Pattern | None = None,
        *,
        chatter: bool = False,
    ) -> Capture:
        """Capture the frames on this link, both directions, each once; use it in a ``with`` statement.

        Args:
            filter: which frames: text in the words of pcap-filter(7) (applied by the kernel), in which the names of
                hosts are those of the lab and of ``lab.dns``; a scapy packet (compared in the fields that were set), a
                scapy layer class, or a function of a packet.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.

        Raises:
            TopologyError: the link was removed.
            TypeError, ValueError: no such filter.
            UnsupportedError: the filter is text, and libpcap is not installed.
        """
        from pytest_netns.capture.capture import Capture

        self._check()
        capture = Capture(
            f"{self.a}--{self.b}",
            lambda: [(self.nodes[0], self.a.name)],
            filter,
            chatter,
            names=self.nodes[0].lab.dns.known(),
        )
        self.lab.events.publish(CaptureOpened, self.lab, capture)
        return capture

    def black_hole(self, mtu: int) -> Fault:
        """Make it a path-MTU black hole (RFC 2923 2.1): packets of more than ``mtu`` bytes vanish without a word.

        The routers and bridges at its ends get that mtu, and routers say nothing about packets that are too big, on
        whichever interface. A host at one end goes on with the mtu that it has.

        Below 1280 bytes a router has no IPv6 there, addresses and routes included, until that is over (RFC 8200
        section 5).

        Args:
            mtu: bytes, 68 (RFC 791) to 65535, and less than what is there.

        Returns:
            The fault: as a context manager it ends with its block.

        Raises:
            TopologyError: both ends are hosts, or the mtu is no such number; the link was removed, or went with one of
                its nodes.
            UnsupportedError: neither libnftables nor the nft program is installed.
        """
        from pytest_netns.faults.black_hole import black_hole

        self.check_mtu(mtu)
        self._check_ends()
        return black_hole(self, mtu)

    def remove(self) -> None:
        """Delete both ends: removing one removes the other. Takes some 15 ms (an RCU grace period)."""
        self._check()
        self.lab.check_open()
        alive = [end for end in self.interfaces if not end.node.closed]
        for end in alive:
            end.node.impairments.forget(end)
        addresses = list(self._given)
        for end, node in zip(self.interfaces, self.nodes, strict=True):
            addresses += node.losses.addresses_of(end) if end in alive else []
        for end in alive[:1]:
            try:
                end.node.rtnl.batch([rtnetlink.link_delete(end.index, end.name)])
            except KernelError as error:
                if error.errno != errno.ENODEV:  # deleted by hand, or with the other end: what is left to do is ours
                    raise
        self._removed = True
        self._forget_cuts()
        for end, node in zip(self.interfaces, self.nodes, strict=True):
            node.forget_end(end)
        self._segment.release(addresses)
        if self._owns_segment:
            self.lab.plan.free(self._segment.networks)
        self.lab.forget(self)
