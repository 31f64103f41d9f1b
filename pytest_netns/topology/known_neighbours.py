"""Known neighbours: the MAC addresses of a lab's own nodes, entered in each other's neighbour tables.

They are marked ``extern_learn``, as a routing daemon that learns addresses from elsewhere (EVPN) marks its own: the
kernel neither counts them towards the limit of the table nor removes them, and still asks whether they answer.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netlink.neighbour_table import Entry, neighbour_delete, neighbour_known
from pytest_netns.kernel.netlink.socket import MOST_AT_ONCE, Request
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.node import BaseNode, CableEnds, Surroundings

#: The interface, or the entry, went meanwhile.
_GONE = (errno.ENODEV, errno.ENOENT)


@dataclass(slots=True)
class _Facts:
    """What others need to know of an interface."""

    mac: bytes
    addresses: dict[bytes, AddressWithPrefix]  # by their form on the wire
    networks: frozenset[IPv4Network | IPv6Network]
    peers: set[Interface] = field(default_factory=set)  # who has entries about it, and about whom it has some


class KnownNeighbours:
    """Those of one lab: of the ends of links, and of bridges with addresses of their own.

    Args:
        lab: whose.
    """

    def __init__(self, lab: Surroundings) -> None:
        self._lab = lab
        self._lock = Lock("entering known neighbours")  # a schedule breaks and mends in its thread
        self._facts: dict[Interface, _Facts] = {}
        self._entered: dict[tuple[Interface, Interface], dict[bytes, bytes]] = {}  # in whose table, about whom

    def changed(self, node: BaseNode, index: int) -> None:
        """Called when an interface was connected or set up, or its addresses have changed. Raises KernelError.

        Args:
            node: where it is.
            index: of the interface.
        """
        with self._lock:
            cable = self._cable(node, index)
            if cable is not None and all(_is_port(end) for end in (cable.a, cable.b)):
                # A trunk: each side comes to know the other.
                for end in (cable.a, cable.b):
                    for member in list(self._across(_node(end), set())):
                        self._enter(member)
            elif cable is not None:
                for end in (cable.a, cable.b):
                    if not _is_port(end):
                        self._enter(end)
            elif node.is_switch and node._primary.index == index:
                self._enter(node._primary)

    def disconnected(self, a: Interface, b: Interface) -> None:
        """Called when a cable was removed or unplugged. Raises KernelError.

        Args:
            a: one of its ends.
            b: the other one.
        """
        with self._lock:
            for end in (a, b):
                if not _is_port(end):
                    self._forget(end)
                elif not end.node.closed:
                    for member in list(self._across(_node(end), set())):
                        self._enter(member)

    def closed(self, node: BaseNode) -> None:
        """A node was closed, and its interfaces with it. Raises KernelError."""
        with self._lock:
            for interface in [each for each in self._facts if each.node is node]:
                self._forget(interface)

    def _forget(self, interface: Interface) -> None:
        """Nobody knows of it any more, and it of nobody."""
        facts = self._facts.pop(interface, None)
        for peer in facts.peers if facts is not None else ():
            _ask(peer, self._change(peer, interface, {}))
            _ask(interface, self._change(interface, peer, {}))
            self._facts[peer].peers.discard(interface)

    # ---------------------------------------------------------------- entries

    def _enter(self, interface: Interface) -> None:
        facts = self._read(interface)
        if facts is None:
            self._forget(interface)
            return
        members = set(self._on_the_link_of(interface)) - {interface}
        requests: list[Request] = []
        for peer in members | facts.peers:
            other = (self._facts.get(peer) or self._read(peer)) if peer in members else None
            requests += self._change(interface, peer, _wanted(facts, other), anew=True)
            _ask(peer, self._change(peer, interface, _wanted(other, facts)))
            if other is not None:
                facts.peers.add(peer)
                other.peers.add(interface)
            else:
                facts.peers.discard(peer)
                if peer in self._facts:
                    self._facts[peer].peers.discard(interface)
        _ask(interface, requests)

    def _read(self, interface: Interface) -> _Facts | None:
        """What it has now; None if it is gone."""
        try:
            mac, addresses = bytes.fromhex(interface.mac.replace(":", "")), interface.addresses
        except NetnsError:  # it, or its node
            return None
        facts = _Facts(mac, {each.packed: each for each in addresses}, frozenset(each.network for each in addresses))
        if (before := self._facts.get(interface)) is not None:
            facts.peers = before.peers
        self._facts[interface] = facts
        return facts

    def _change(
        self, owner: Interface, about: Interface, wanted: dict[bytes, bytes], *, anew: bool = False
    ) -> list[Request]:
        """What makes the entries of one about another those that are ``wanted``; ``anew``: those that are there too."""
        entered = self._entered.pop((owner, about), {})
        if wanted:
            self._entered[owner, about] = wanted
        return [
            *(neighbour_delete(Entry(owner.index, packed)) for packed in entered.keys() - wanted.keys()),
            *(
                neighbour_known(Entry(owner.index, packed), mac)
                for packed, mac in wanted.items()
                if anew or entered.get(packed) != mac
            ),
        ]

    # --------------------------------------------------------------- segments

    def _cable(self, node: BaseNode, index: int) -> CableEnds | None:
        place = node.inode, index  # several nodes may share a namespace
        return next(
            (
                cable
                for cable in self._lab.links
                if place in [(end.node.inode, end.index) for end in (cable.a, cable.b)]
            ),
            None,
        )

    def _on_the_link_of(self, interface: Interface) -> Iterator[Interface]:
        """Whoever gets its frames without a router, whether up or down."""
        node = _node(interface)
        cable = self._cable(node, interface.index)
        if cable is not None:
            yield from self._behind(cable, cable.other(interface), set())
        elif node.is_switch and interface == node._primary:
            yield from self._across(node, set())

    def _behind(self, cable: CableEnds, far: Interface, seen: set[int]) -> Iterator[Interface]:
        node = _node(far)
        if node.closed or cable.other(far).node.closed:
            return
        if not node.is_switch:
            yield far
        elif node._is_plugged(far):
            yield from self._across(node, seen)

    def _across(self, bridge: BaseNode, seen: set[int]) -> Iterator[Interface]:
        if bridge.inode in seen:
            return
        seen.add(bridge.inode)
        yield bridge._primary
        for cable in bridge._cables:
            port = cable.end(bridge)
            if bridge._is_plugged(port):
                yield from self._behind(cable, cable.other(port), seen)


def _node(interface: Interface) -> BaseNode:
    node = interface.node
    assert isinstance(node, BaseNode)
    return node


def _is_port(interface: Interface) -> bool:
    """Whether it is the port of a bridge: its device is none."""
    node = _node(interface)
    return node.is_switch and interface != node._primary


def _wanted(owner: _Facts | None, about: _Facts | None) -> dict[bytes, bytes]:
    """MAC address by IP address: those on the link, by the owner's own addresses."""
    if owner is None or about is None:
        return {}
    return {
        packed: about.mac
        for packed, each in about.addresses.items()
        if each.network in owner.networks or any(each.ip in network for network in owner.networks)
    }


def _ask(owner: Interface, requests: list[Request]) -> None:
    for start in range(0, len(requests), MOST_AT_ONCE):
        if owner.node.closed:
            return
        try:
            owner.node.rtnl.batch(requests[start : start + MOST_AT_ONCE])
        except KernelError as error:
            if error.errno not in _GONE:
                raise
