"""Network: nodes and the cables between them, as all that works on them knows a lab."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError, TopologyError
from pytest_netns.events import Events, everywhere
from pytest_netns.impair.engine import Impairments
from pytest_netns.kernel.locks import Lock
from pytest_netns.process.supervisor import Supervisor
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.addressing import AddressPlan, HostAddress
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.failure import Failure
from pytest_netns.topology.fault import Faults
from pytest_netns.topology.naming import mac_address
from pytest_netns.topology.node import BaseNode, Names
from pytest_netns.topology.stale_caches import flush_stale

if TYPE_CHECKING:
    from pytest_netns.topology.known_neighbours import KnownNeighbours


class Network(ABC):
    """What a lab is to everything that it is made of.

    Attributes:
        name: its name in messages.
        supervisor: of the processes of all its nodes.
        impairments: those in force on its interfaces.
        faults: those in force; iterating gives each.
        events: what happens in it; see ``topology.events``.
        failed: the last probes that failed, to be explained.
        dns: names for isolated hosts.
        plan: which subnets are given out.
        visible: gives directories under /run and /tmp that isolated hosts still see.
        offload: whether the ends of links take frames that are not finished, unless a link is told otherwise.
        known_neighbours: those entered in the neighbour tables of its nodes; None if nodes find them themselves.
    """

    name: str
    supervisor: Supervisor
    impairments: Impairments
    failed: deque[Failure]
    dns: Names
    plan: AddressPlan
    visible: Callable[[], Iterable[str | os.PathLike[str]]]

    def __init__(self) -> None:
        self._lock = Lock("changing a lab, or closing it")
        self._closed = False
        self._owner = os.getpid()
        self._links: list[Cable] = []
        self._macs: set[bytes] = set()
        self.events: Events = Events(everywhere)
        self.faults: Faults = Faults(self._flush_stale)
        self.known_neighbours: KnownNeighbours | None = None
        self.offload = True

    @abstractmethod
    def __iter__(self) -> Iterator[BaseNode]:
        """All nodes, oldest first."""

    @property
    @abstractmethod
    def links(self) -> Sequence[Cable]:
        """All cables, oldest first."""

    def _mac_for(self, node: str, interface: str) -> bytes:
        """A MAC address, derived from the names of ``node`` and ``interface``, that no other of this lab has."""
        mac = mac_address(self.name, node, interface, self._macs)
        self._macs.add(mac)
        return mac

    def _flush_stale(self) -> None:
        """Have all nodes forget path MTUs, redirects and failed neighbours: whatever has caused them is over.

        Raises:
            ExceptionGroup: what a kernel refused.
        """
        errors: list[Exception] = []
        for node in {} if self._closed else {node.inode: node for node in self if not node.closed}.values():
            try:
                flush_stale(node)
            except NetnsError as error:
                if not node.closed:
                    errors.append(error)
        if errors:
            raise ExceptionGroup(f"forgetting what is over in lab {self.name!r}", errors)

    def _interface_changed(self, node: BaseNode, index: int) -> None:
        """Called when an interface was set up or connected, or its addresses have changed.

        Args:
            node: where it is.
            index: of the interface.
        """
        if self.known_neighbours is not None and not self._closed:
            self.known_neighbours.changed(node, index)

    def _disconnected(self, a: Interface, b: Interface) -> None:
        """Called when a cable was removed or unplugged.

        Args:
            a: one of its ends.
            b: the other one.
        """
        if self.known_neighbours is not None and not self._closed:
            self.known_neighbours.disconnected(a, b)

    def _node_closed(self, node: BaseNode) -> None:
        """Called when a node was closed."""
        if self.known_neighbours is not None and not self._closed:
            self.known_neighbours.closed(node)

    def _in_force(self) -> tuple[str, ...]:
        """The faults and impairments of now, in words."""
        return (*map(str, self.faults), *self.impairments.in_force())

    @property
    def closed(self) -> bool:
        """True after ``close()``."""
        return self._closed

    def _check_open(self) -> None:
        """Raise TopologyError if it is closed."""
        if self._closed:
            raise TopologyError(f"lab {self.name!r} is closed")

    def _check_node(self, node: object, verb: str) -> BaseNode:
        """The node, if it is an open one of this lab. Raises TopologyError: cannot ``verb`` the node, and why."""
        self._check_open()
        if not isinstance(node, BaseNode):
            known = isinstance(node, str) and any(each.name == node for each in self)
            raise TopologyError(
                f"lab {self.name!r}: cannot {verb} {node!r}: it is no host, router or bridge"
                f"{f'; did you mean lab[{node!r}]?' if known else ''}"
            )
        if node.lab is not self:
            raise TopologyError(f"cannot {verb} {node.name!r}: it is a node of another lab ({node.lab!r})")
        if node.closed:
            raise TopologyError(f"cannot {verb} {node.name!r}: it is closed")
        return node

    def _check_running(self, node: object, verb: str) -> BaseNode:
        """The same, if it has not crashed either.

        Args:
            node: of this lab.
            verb: what is about to be done, for the message.

        Raises:
            TopologyError: it is of another lab, closed, or has crashed.
        """
        found = self._check_node(node, verb)
        if found._has_crashed:
            raise TopologyError(f"cannot {verb} {found.name!r}: it has crashed; restart() it first")
        return found

    @abstractmethod
    def _is_adopted(self, node: BaseNode) -> bool:
        """Whether the namespace of ``node`` was adopted."""

    @abstractmethod
    def attach(
        self,
        bridge: BaseNode,
        node: BaseNode,
        address: HostAddress,
        *,
        offload: bool | None = None,
        mac: str | None = None,
        index: int | None = None,
    ) -> Cable:
        """Connect a node to a bridge.

        Args:
            bridge: of this lab.
            node: what is attached; a bridge gets no address.
            address: of the bridge's subnet; None for the next free one, False for none.
            offload: whether the ends of the link take frames that are not finished; None: the lab's default.
            mac: of the node's interface; None: one that no other of the lab has.
            index: likewise; None: a free one.
        """

    @abstractmethod
    def _remember(self, cable: Cable) -> None:
        """Called when a cable was made."""

    @abstractmethod
    def _forget(self, cable: Cable) -> None:
        """Called by a cable that was removed."""


def network_of(node: BaseNode) -> Network:
    """The network that a node is part of, which the floor below knows as its ``Surroundings``."""
    return cast("Network", node.lab)


def cables_of(node: BaseNode) -> list[Cable]:
    """The cables that end in a node, oldest first."""
    return [cable for cable in network_of(node).links if node in cable.nodes]


def names_of(network: Network) -> dict[Address, str]:
    """Which node of a network has an address."""
    return {address.ip: node.name for node in network if not node.closed for address in node.addresses()}
