"""Node: what hosts, routers and bridges have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from pytest_netns.lab.link import Link
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.lazy_verbs import verb_modules
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology import graph
from pytest_netns.topology.network import Network
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.lab import captures
    from pytest_netns.probe import arp, dns, path_mtu, ping, silent_port, tcp, trace, udp
    from pytest_netns.probe import send as crafting
else:
    (captures,) = verb_modules("pytest_netns.lab", "captures")
    arp, dns, path_mtu, ping, silent_port, tcp, trace, udp, crafting = verb_modules(
        "pytest_netns.probe", "arp", "dns", "path_mtu", "ping", "silent_port", "tcp", "trace", "udp", "send"
    )


class Node(BaseNode):
    """A host, router or bridge. Made by its lab, not by hand.

    Attributes:
        lab: the lab that it is part of.
        isolation: its namespaces besides the network; None unless it was created with ``isolate``.

    Example:
        >>> nodes = [node.name for node in lab]
    """

    lab: Network

    capture: Final = captures.capture_node

    # What it can ask on the wire. Each question is told in its module, with its result.
    ping: Final = ping.ping
    arp: Final = arp.arp
    tcp: Final = tcp.tcp
    udp: Final = udp.udp
    dns: Final = dns.dns
    trace: Final = trace.trace
    path_mtu: Final = path_mtu.path_mtu
    send: Final = crafting.send
    sr: Final = crafting.sr
    sr1: Final = crafting.sr1
    without_rst: Final = silent_port.without_rst

    @property
    def links(self) -> list[Link]:
        """The links that end here, oldest first."""
        return cast("list[Link]", self._cables)

    def _interface_towards(self, peer: Namespace | Interface) -> Interface | None:
        """The interface that is on one link with a peer, or an interface of it; None if there is none, or several."""
        return graph.interface_towards(self.lab, self, peer)
