"""Black hole: a link that takes only small packets, on a path that does not say so (RFC 2923 2.1)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from pytest_netns.errors import TopologyError
from pytest_netns.faults.nft_filter import Chain, Filter, renew_those_of
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.fault import Fault
from pytest_netns.topology.network import cables_of

if TYPE_CHECKING:
    from pytest_netns.faults.link_down import BreakableLink
    from pytest_netns.topology.cable import Cable

#: What a router would say: RFC 1191, RFC 8201.
_SILENCED = ("icmp type destination-unreachable icmp code frag-needed", "icmpv6 type packet-too-big")


def black_hole(link: BreakableLink, mtu: int) -> Fault:
    """See ``Link.black_hole``."""
    both = zip(link.interfaces, link.nodes, strict=True)
    ends = [(end, node) for end, node in both if node.forwards or node.is_switch]
    if not ends:
        raise TopologyError(
            f"{link!r}: a path-MTU black hole is made by a router or a bridge, and both ends are hosts, "
            "which know the mtu of their own link"
        )
    filters = []
    with ExitStack() as undo:
        for end, node in ends:
            if mtu >= end.mtu:
                raise TopologyError(f"{link!r}: black_hole({mtu}): expected less than {end.mtu}, the mtu of {end}")
            undo.callback(link.ask_mtu(end, mtu))
            if node.forwards:
                drops = [f'{what} counter drop comment "black hole on {end.name}"' for what in _SILENCED]
                filters.append(Filter(node, "inet", [Chain("output", "type filter hook output priority -300;", drops)]))
                undo.callback(filters[-1].remove)
        for near, end in _stations(link):
            undo.callback(near.ask_frames(end))
        mend = undo.pop_all()
    what = f"{link.a} -- {link.b} silently loses packets of more than {mtu} bytes"
    return Fault(link.lab.faults, what, mend.close, link.nodes, lambda host: renew_those_of(filters, host))


def _stations(link: BreakableLink) -> list[tuple[BreakableLink, Interface]]:
    """The ends, of the link and of all that bridges join with it, that are in hosts and routers."""
    found: list[tuple[BreakableLink, Interface]] = []
    links: list[Cable] = [link]
    for each in links:
        for end, node in zip(each.interfaces, each.nodes, strict=True):
            if node.is_switch:
                links += [other for other in cables_of(node) if other not in links]
            else:
                found.append((cast("BreakableLink", each), end))
    return found
