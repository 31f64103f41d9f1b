"""Lab: a network of nodes and links that lives as long as a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network
from types import TracebackType
from typing import Self, TypeVar

from pytest_netns.errors import TopologyError
from pytest_netns.interface import parse_address
from pytest_netns.kernel.rtnetlink import AddressWithPrefix
from pytest_netns.lab.addressing import AddressPlan, AddressSpec, Segment, Subnet, SubnetSpec
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.host import Host
from pytest_netns.lab.link import End, Link, make_veth
from pytest_netns.lab.naming import check_interface_name, check_node_name, mac_address
from pytest_netns.lab.node import Node
from pytest_netns.process import Supervisor

_N = TypeVar("_N", bound=Node)

EndAddresses = AddressSpec | Sequence[AddressSpec]


class Lab:
    """A network. Iterating gives its nodes, ``lab["red"]`` the one of that name.

    Args:
        name: what messages call it; its MAC addresses are derived from it too.
        ipv4: pool of subnets for links and bridges that are not given one; None: no IPv4 unless asked for.
        ipv6: the same for IPv6.
        sysctls: what every node is born with, on top of the baseline.

    Raises:
        TopologyError: a pool is no network.
    """

    def __init__(
        self,
        name: str = "lab",
        *,
        ipv4: str | IPv4Network | None = "10.0.0.0/8",
        ipv6: str | IPv6Network | None = "fd00::/48",
        sysctls: Mapping[str, str | int] | None = None,
    ) -> None:
        self.name = name
        self.plan = AddressPlan(name, ipv4, ipv6)
        self.supervisor = Supervisor()
        self._sysctls = dict(sysctls or {})
        self._nodes: dict[str, Node] = {}
        self._links: list[Link] = []
        self._macs: set[bytes] = set()
        self._ethernets: dict[str, int] = {}
        self._lock = threading.RLock()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._nodes)} nodes, {len(self._links)} links"
        return f"<Lab {self.name!r}: {state}>"

    def __getitem__(self, name: str) -> Node:
        try:
            return self._nodes[name]
        except KeyError:
            known = ", ".join(self._nodes) or "none yet"
            raise KeyError(f"lab {self.name!r} has no node {name!r}; it has: {known}") from None

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: object) -> bool:
        return node in self._nodes if isinstance(node, str) else node in self._nodes.values()

    def __bool__(self) -> bool:
        return True  # an empty lab is a lab

    # ------------------------------------------------------------------- life

    @property
    def closed(self) -> bool:
        """True after ``close()``."""
        return self._closed

    def close(self) -> None:
        """Kill all processes and let go of all nodes; allowed more than once.

        Raises:
            ExceptionGroup: everything that went wrong, e.g. ProcessDied for processes that had ended unasked.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            errors = self.supervisor.close()
            for node in reversed(self._nodes.values()):
                try:
                    node.close()
                except Exception as error:  # reported below, with all others
                    errors.append(error)
        if errors:
            raise ExceptionGroup(f"closing lab {self.name!r}", errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except ExceptionGroup as group:
            if error is None:
                raise
            # The error of the block is what matters; it must not be hidden behind ours.
            for each in group.exceptions:
                error.add_note(f"and while closing lab {self.name!r}: {each}")

    def _check_open(self) -> None:
        if self._closed:
            raise TopologyError(f"lab {self.name!r} is closed")

    def check_node(self, node: object, verb: str) -> Node:
        """The node, if it is an open one of this lab. Raises TopologyError."""
        self._check_open()
        if not isinstance(node, Node):
            raise TopologyError(f"lab {self.name!r}: cannot {verb} {node!r}: it is no host, router or bridge")
        if node.lab is not self:
            raise TopologyError(f"cannot {verb} {node.name!r}: it is a node of another lab ({node.lab!r})")
        if node.closed:
            raise TopologyError(f"cannot {verb} {node.name!r}: it is closed")
        return node

    # ------------------------------------------------------------------ nodes

    def _add(self, node: _N) -> _N:
        self._nodes[node.name] = node
        return node

    def _check_name(self, name: str) -> str:
        self._check_open()
        check_node_name(name, self.name)
        if name in self._nodes:
            raise TopologyError(f"lab {self.name!r} has a node {name!r} already; every name is used once")
        return name

    def host(
        self,
        name: str,
        *networks: Bridge,
        address: AddressSpec | None = None,
        sysctls: Mapping[str, str | int] | None = None,
    ) -> Host:
        """A new host, attached to the given bridges in order (``eth0``, ``eth1``, ...).

        Args:
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.
            networks: bridges of this lab.
            address: its address on the first of them, instead of the next free one.
            sysctls: what it is born with, on top of the lab's.

        Raises:
            TopologyError: a bad name, bridge or address. There is no such host then.
        """
        with self._lock:
            self._check_name(name)
            self._check_networks(name, networks, address)
            host = Host(self, name, {**self._sysctls, **(sysctls or {})})
            return self._attached(host, networks, address)

    def _check_networks(self, name: str, networks: Sequence[object], address: AddressSpec | None) -> None:
        for network in networks:
            if not isinstance(network, Bridge):
                raise TopologyError(f"{name!r} can be attached to bridges, and {network!r} is none; see connect()")
            self.check_node(network, "attach to")
        if address is not None and not networks:
            raise TopologyError(f"{name!r}: address={str(address)!r} needs a bridge whose subnet it is in")

    def _attached(self, node: _N, networks: Sequence[Bridge], address: AddressSpec | None) -> _N:
        self._add(node)
        try:
            for position, network in enumerate(networks):
                self.attach(network, node, address if position == 0 else None)
        except BaseException:
            for link in node.links:
                link.remove()
            del self._nodes[node.name]
            node.close()
            raise
        return node

    def bridge(
        self, name: str, subnet: SubnetSpec | Bridge = None, *, sysctls: Mapping[str, str | int] | None = None
    ) -> Bridge:
        """A new bridge, without spanning tree: a port forwards as soon as something is attached.

        Args:
            name: as for ``host``.
            subnet: where the addresses of attached nodes come from: None for one of each of the lab's pools; an IPv4
                network, to which an IPv6 one of the pool is added; an IPv6 network; one of each; False for none; or
                another bridge, to share its subnets (connect the two for one large segment).
            sysctls: what it is born with, on top of the lab's.

        Raises:
            TopologyError: a bad name; a subnet that is none, too small, or overlaps another of the lab.
        """
        with self._lock:
            self._check_name(name)
            if isinstance(subnet, Bridge):
                self.check_node(subnet, "share the subnet of")
                segment, owned = subnet.segment, False
            else:
                segment, owned = self.plan.segment(subnet, f"bridge {name!r}", hosts=2), True
            try:
                return self._add(Bridge(self, name, segment, {**self._sysctls, **(sysctls or {})}))
            except BaseException:
                if owned:
                    self.plan.free(segment.networks)
                raise

    def mac_for(self, node: str, interface: str) -> bytes:
        """A MAC address that no other interface of this lab has."""
        mac = mac_address(self.name, node, interface, self._macs)
        self._macs.add(mac)
        return mac

    # ------------------------------------------------------------------ links

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, in the order of their making."""
        return tuple(self._links)

    def forget(self, link: Link) -> None:
        """Called by a link that was removed."""
        self._links.remove(link)
        for interface in link.interfaces:
            if isinstance(interface.node, Bridge):
                interface.node.free_port_name(interface.name)

    def connect(
        self,
        a: Node,
        b: Node,
        subnet: SubnetSpec = None,
        *,
        addresses: tuple[EndAddresses, EndAddresses] | None = None,
        mtu: int | None = None,
        names: tuple[str, str] | None = None,
    ) -> Link:
        """Join two nodes by a veth. Returns when the first packet gets through.

        A bridge on either side gets a port, and the other side an address of the bridge's subnet; two bridges are
        joined by a trunk without addresses.

        Args:
            a: a node of this lab.
            b: another one.
            subnet: where addresses come from, in order: ``.1`` for ``a``, ``.2`` for ``b``. As for ``bridge``.
            addresses: instead of the next free ones: what ``a`` and what ``b`` gets, each one address or several,
                with prefix (``"10.0.0.1/24"``) unless they are of ``subnet``.
            mtu: largest IP packet in bytes; 1500 if None.
            names: what the interface is called in ``a`` and in ``b``, instead of ``eth0`` and so on.

        Raises:
            TopologyError: a node with itself, of another lab or closed; a bad subnet, address or name. Nothing is
                made then.
            KernelError: the kernel refused, e.g. an ``mtu`` out of range. Nothing is left then.
        """
        with self._lock:
            for node in (a, b):
                self.check_node(node, "connect")
            if a is b:
                raise TopologyError(f"cannot connect {a.name!r} to itself; a link needs two nodes")
            purpose = f"link {a.name}--{b.name}"
            if isinstance(a, Bridge) and isinstance(b, Bridge):
                if subnet or addresses:
                    raise TopologyError(f"{purpose}: a trunk between bridges takes no subnet and no addresses")
                return self._join(a, b, Segment(), False, ([], []), mtu, names)
            if isinstance(a, Bridge) or isinstance(b, Bridge):
                return self._connect_bridge(a, b, subnet, addresses, mtu, names, purpose)
            segment, taken = self._addresses_for(a, b, subnet, addresses, purpose)
            return self._join(a, b, segment, True, taken, mtu, names)

    def attach(self, bridge: Bridge, node: Node, address: AddressSpec | None) -> Link:
        """Connect a node to a bridge, by the next free address of its subnet or by the one given."""
        with self._lock:
            self.check_node(node, "attach")
            self.check_node(bridge, "attach to")
            if isinstance(node, Bridge):
                if address is not None:
                    raise TopologyError(f"bridge {node.name!r}: a trunk takes no address, and {address} was given")
                return self.connect(node, bridge)
            taken = bridge.segment.take(node.name, address)
            return self._join(node, bridge, bridge.segment, False, (taken, []), None, None)

    def _connect_bridge(
        self,
        a: Node,
        b: Node,
        subnet: SubnetSpec,
        addresses: tuple[EndAddresses, EndAddresses] | None,
        mtu: int | None,
        names: tuple[str, str] | None,
        purpose: str,
    ) -> Link:
        bridge, node, side = (a, b, 1) if isinstance(a, Bridge) else (b, a, 0)
        assert isinstance(bridge, Bridge)
        segment = bridge.segment
        given = _several(addresses[side]) if addresses else []
        if addresses and _several(addresses[1 - side]):
            raise TopologyError(f"{purpose}: a bridge's port takes no address; see Bridge.add_address()")
        if subnet:
            wanted = [subnet] if isinstance(subnet, str | IPv4Network | IPv6Network) else list(subnet)
            known = [str(network) for network in segment.networks]
            for each in wanted:
                if str(each) not in known:
                    raise TopologyError(
                        f"{purpose}: subnet {each} is not one of bridge {bridge.name!r} ({', '.join(known) or 'none'})"
                    )
        taken: list[AddressWithPrefix] = []
        if subnet is not False or given:
            if not given:
                taken = segment.take(node.name)
            else:
                try:
                    for address in given:
                        taken.append(segment.take_exactly(node.name, address))
                except TopologyError:
                    segment.release(taken)
                    raise
        sides = ([], taken) if side else (taken, [])
        return self._join(a, b, segment, False, sides, mtu, names)

    def _addresses_for(
        self,
        a: Node,
        b: Node,
        subnet: SubnetSpec,
        addresses: tuple[EndAddresses, EndAddresses] | None,
        purpose: str,
    ) -> tuple[Segment, tuple[list[AddressWithPrefix], list[AddressWithPrefix]]]:
        if addresses is None:
            segment = self.plan.segment(subnet, purpose, hosts=2)
            return segment, (segment.take(a.name), segment.take(b.name))
        if len(addresses) != 2:
            raise TopologyError(f"{purpose}: addresses={addresses!r} must be two: those of each end")
        if subnet:
            segment = self.plan.segment(subnet, purpose, hosts=2)
            try:
                taken = tuple(
                    [segment.take_exactly(node.name, address) for address in _several(side)]
                    for node, side in zip((a, b), addresses, strict=True)
                )
            except TopologyError:
                self.plan.free(segment.networks)
                raise
            return segment, (taken[0], taken[1])
        ends = [
            [parse_address(address, f"{purpose}, {node.name!r}") for address in _several(side)]
            for node, side in zip((a, b), addresses, strict=True)
        ]
        if set(map(str, (x.ip for x in ends[0]))) & set(map(str, (x.ip for x in ends[1]))):
            raise TopologyError(f"{purpose}: both ends are given the same address")
        segment = Segment()
        networks = sorted({x.network for end in ends for x in end}, key=lambda n: n.prefixlen)
        try:
            for network in networks:
                # The two ends of one link may be in different subnets, or disagree about the size of one: on purpose.
                if not any(network.version == n.version and network.overlaps(n) for n in segment.networks):
                    self.plan.reserve(network, purpose)
                    segment.subnets.append(Subnet(network))
        except TopologyError:
            self.plan.free(segment.networks)
            raise
        return segment, (ends[0], ends[1])

    def _join(
        self,
        a: Node,
        b: Node,
        segment: Segment,
        owned: bool,
        addresses: tuple[list[AddressWithPrefix], list[AddressWithPrefix]],
        mtu: int | None,
        names: tuple[str, str] | None,
    ) -> Link:
        with ExitStack() as undo:
            undo.callback(segment.release, [*addresses[0], *addresses[1]])
            if owned:
                undo.callback(self.plan.free, segment.networks)
            ends = []
            for position, (node, other) in enumerate(((a, b), (b, a))):
                bridge = node if isinstance(node, Bridge) else None
                if names is not None:
                    name = check_interface_name(names[position], f"link {a.name}--{b.name}, end in {node.name!r}")
                elif bridge is not None:
                    name = bridge.new_port_name(other.name)
                    undo.callback(bridge.free_port_name, name)
                else:
                    number = self._ethernets.get(node.name, 0)
                    self._ethernets[node.name] = number + 1
                    undo.callback(self._ethernets.__setitem__, node.name, number)
                    name = f"eth{number}"
                ends.append(End(node, name, addresses[position], bridge))
            link = Link(self, *make_veth(self, ends[0], ends[1], mtu), segment, owned)
            for end in ends:
                if end.bridge is not None and end.bridge.addresses():
                    end.bridge.device.wait_up()
            undo.pop_all()
        self._links.append(link)
        return link


def _several(value: EndAddresses) -> list[AddressSpec]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return [value] if value else []
