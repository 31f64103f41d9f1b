"""Black hole: a link that takes only small packets, on a path that does not say so (RFC 2923 2.1)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_netns.errors import TopologyError
from pytest_netns.faults.fault import Fault
from pytest_netns.faults.filter import Filter
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.node import Node
from pytest_netns.lab.restore import restore_mtu
from pytest_netns.lab.router import Router

if TYPE_CHECKING:
    from pytest_netns.lab.link import Link

#: What a router would say: RFC 1191, RFC 8201.
_SILENCED = ("icmp type destination-unreachable icmp code frag-needed", "icmpv6 type packet-too-big")


def black_hole(link: Link, mtu: int) -> Fault:
    """See ``Link.black_hole``."""
    ends = [end for end in link.interfaces if isinstance(end.node, Router | Bridge)]
    if not ends:
        raise TopologyError(
            f"{link!r}: a path-MTU black hole is made by a router or a bridge, and both ends are hosts, "
            "which know the mtu of their own link"
        )
    with ExitStack() as undo:
        for end in ends:
            if mtu >= end.mtu:
                raise TopologyError(f"{link!r}: black_hole({mtu}): expected less than {end.mtu}, the mtu of {end}")
            undo.callback(restore_mtu, link, end, end.mtu)
            end.mtu = mtu
            if isinstance(end.node, Router):
                drops = [f'{what} counter drop comment "black hole on {end.name}"' for what in _SILENCED]
                chain = ("output", "type filter hook output priority -300;", drops)
                undo.callback(Filter(end.node, "inet", [chain]).remove)
        mend = undo.pop_all()
    nodes = [node for end in link.interfaces if isinstance(node := end.node, Node)]
    what = f"{link.a} -- {link.b} silently loses packets of more than {mtu} bytes"
    return Fault(link.lab.faults, what, mend.close, nodes)
