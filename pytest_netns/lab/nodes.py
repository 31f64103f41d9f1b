"""Node: what hosts, routers and bridges have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError, TopologyError
from pytest_netns.kernel.netlink.neighbour_table import refusal_log
from pytest_netns.lab.link import Link
from pytest_netns.lab.prober import Prober
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology import paths, transit
from pytest_netns.topology.events import CaptureOpened, ProbeFailed
from pytest_netns.topology.failure import Failure, callers
from pytest_netns.topology.network import Network
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture


class Node(Prober, BaseNode):
    """A host, router or bridge. Made by its lab, not by hand.

    Attributes:
        lab: the lab that it is part of.
        isolation: what it has of its own beside the network; None unless it was made with ``isolate``.
        slots: which interface names and indexes are given out.
        losses: addresses and routes that it will have again.
    """

    lab: Network

    @property
    def links(self) -> list[Link]:
        """The links that end here, in the order of their making."""
        return cast("list[Link]", self.cables)

    def node_names(self) -> dict[Address, str]:
        """Which node of its lab has an address."""
        return {address.ip: node.name for node in self.lab if not node.closed for address in node.addresses()}

    def known_names(self) -> Mapping[str, Sequence[Address]]:
        """The names of its lab, with their addresses."""
        return self.lab.dns.known()

    def note_failure(self, result: object, question: str, *details: object) -> None:
        """Keep a falsy result, or a trace, should somebody want to know why.

        Args:
            result: what came of it.
            question: which method of a node, or of a lab, asked.
            details: what else it takes to ask again.
        """
        try:
            crowded = refusal_log.crowded(self.rtnl)
        except NetnsError:  # it was closed meanwhile
            crowded = {}
        failure = Failure(self, result, question, details, self.lab.in_force(), crowded, called=callers())
        self.lab.events.publish(ProbeFailed, failure)

    def note_capture(self, capture: Capture) -> None:
        """Have ``capture`` remembered by its lab, should its test fail."""
        self.lab.events.publish(CaptureOpened, self.lab, capture)

    def check_peer(self, peer: object, verb: str) -> None:
        """Raise TopologyError if ``peer`` is a node of another lab: cannot ``verb`` it, and why."""
        if isinstance(peer, Node) and peer.lab is not self.lab:
            raise TopologyError(
                f"cannot {verb} {peer.name!r} from {self.name!r}: it is a node of another lab ({peer.lab!r})"
            )

    def interface_towards(self, peer: Namespace | Interface) -> Interface | None:
        """The interface that is on one link with a peer, or an interface of it; None if there is none, or several."""
        return paths.interface_towards(self.lab, self, peer)

    def in_flight(self, address: Address, waited: float, udp_port: int = 0) -> str | None:
        """Where a request, or its answer, may still be, in words; None if nothing is on its way any more.

        Args:
            address: whom was asked.
            waited: seconds since.
            udp_port: on which port; 0 unless it was a datagram.
        """
        super().in_flight(address, waited, udp_port)
        return transit.in_flight(self.lab, self, address, waited, udp_port)
