"""Black hole: a link that silently drops oversized packets (RFC 2923 2.1)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from pytest_netns.errors import TopologyError
from pytest_netns.faults.breakable_cable import BreakableCable
from pytest_netns.faults.link_mtu import check_mtu
from pytest_netns.faults.nft_filter import Chain, Filter, renew_those_of
from pytest_netns.stack.interface import Interface
from pytest_netns.topology import graph
from pytest_netns.topology.fault import Fault
from pytest_netns.topology.network import cables_of

if TYPE_CHECKING:
    from pytest_netns.topology.cable import Cable

#: What a router would say: RFC 1191, RFC 8201.
_SILENCED = ("icmp type destination-unreachable icmp code frag-needed", "icmpv6 type packet-too-big")


def black_hole(link: BreakableCable, mtu: int) -> Fault:
    """Make it a path-MTU black hole (RFC 2923 2.1): packets of more than ``mtu`` bytes are dropped silently.

    The routers and bridges at its ends get that mtu, and routers send no ICMP errors for oversized packets, on
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

    Example:
        >>> link = lab.connect(router, blue)
        >>> with link.black_hole(1400):
        ...     blue.path_mtu(green, timeout=0.1)
    """
    check_mtu(link, mtu)
    link._check_ends()
    both = zip(link.interfaces, link.nodes, strict=True)
    ends = [(end, node) for end, node in both if node.forwards or node.is_switch]
    if not ends:
        raise TopologyError(
            f"{link!r}: a path-MTU black hole is made by a router or a bridge, and both ends are hosts, "
            "which know the mtu of their own link"
        )
    filters = []
    routers = [(end, node) for end, node in ends if node.forwards]
    with ExitStack() as undo:
        for end, _ in ends:
            if mtu >= end.mtu:
                raise TopologyError(f"{link!r}: black_hole({mtu}): expected less than {end.mtu}, the mtu of {end}")
            undo.callback(link._mtus.ask(end, mtu))
        for end, node in routers:
            drops = [f'{what} counter drop comment "black hole on {end.name}"' for what in _SILENCED]
            filters.append(Filter(node, "inet", [Chain("output", "type filter hook output priority -300;", drops)]))
            undo.callback(filters[-1].remove)
        for near, end in _stations(link):
            undo.callback(near._segmentation.ask(end))
        mend = undo.pop_all()
    what = f"{link.a} -- {link.b} silently loses packets of more than {mtu} bytes"
    return Fault(link.lab.faults, what, mend.close, link.nodes, lambda host: renew_those_of(filters, host))


def _stations(link: BreakableCable) -> list[tuple[BreakableCable, Interface]]:
    """The ends, of the link and of all that bridges join with it, that are in hosts and routers."""

    def further(cable: Cable) -> list[Cable]:
        return [other for node in cable.nodes if node.is_switch for other in cables_of(node)]

    first: Cable = link
    return [
        (cast("BreakableCable", way[-1]), end)
        for way in graph.ways(first, further)
        for end, node in zip(way[-1].interfaces, way[-1].nodes, strict=True)
        if not node.is_switch
    ]
