"""Addresses: pools that hand out subnets, subnets that hand out addresses, and no two alike in a lab.

No kernel here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Literal

from pytest_netns.addresses import Address, AddressWithPrefix, Network
from pytest_netns.errors import TopologyError

#: How large a subnet each pool hands out, unless the pool itself is smaller.
_POOL_PREFIX = {4: 24, 6: 64}

SubnetSpec = str | Network | Sequence[str | Network] | Literal[False] | None
AddressSpec = str | Address | AddressWithPrefix
#: What a node gets on one bridge: None for the next free address, False for none.
HostAddress = AddressSpec | Literal[False] | None


class Subnet:
    """One IP network and the addresses of it that are taken."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._taken: dict[int, str] = {}
        self._next = 0
        first, last = int(network.network_address), int(network.broadcast_address)
        if network.num_addresses > 2:
            # IPv4 keeps the network and the broadcast address, IPv6 the subnet-router anycast one (RFC 4291 2.6.1).
            first, last = first + 1, last - (network.version == 4)
        self._first, self._last = first, last

    def __repr__(self) -> str:
        return f"<Subnet {self.network}, {len(self._taken)} taken>"

    @property
    def capacity(self) -> int:
        """How many hosts it has room for."""
        return self._last - self._first + 1

    def _with_prefix(self, value: int) -> AddressWithPrefix:
        cls: type[IPv4Interface] | type[IPv6Interface] = IPv4Interface if self.network.version == 4 else IPv6Interface
        return cls((value, self.network.prefixlen))

    def take_next(self, owner: str) -> AddressWithPrefix:
        """The lowest free address. Raises TopologyError when there is none."""
        value = self._first + self._next
        while value in self._taken:
            value += 1
        if value > self._last:
            raise TopologyError(
                f"subnet {self.network} has no free address for {owner!r}: "
                f"all {self.capacity} are taken; use a larger subnet"
            )
        self._next = value - self._first
        self._taken[value] = owner
        return self._with_prefix(value)

    def take(self, address: Address, owner: str) -> AddressWithPrefix:
        """A certain address. Raises TopologyError if it is outside, reserved or taken."""
        value = int(address)
        if address not in self.network:
            raise TopologyError(f"address {address} for {owner!r} is not in subnet {self.network}")
        if not self._first <= value <= self._last:
            what = "network" if value < self._first else "broadcast"
            raise TopologyError(f"address {address} for {owner!r} is the {what} address of subnet {self.network}")
        if value in self._taken:
            raise TopologyError(
                f"address {address} for {owner!r} is taken by {self._taken[value]!r} in subnet {self.network}"
            )
        self._taken[value] = owner
        return self._with_prefix(value)

    def release(self, address: Address) -> None:
        """Give an address back."""
        if self._taken.pop(int(address), None) is not None:
            self._next = min(self._next, max(0, int(address) - self._first))


class Segment:
    """The subnets of one link or bridge, at most a few."""

    def __init__(self, subnets: Iterable[Subnet] = ()) -> None:
        self.subnets: list[Subnet] = list(subnets)

    @property
    def networks(self) -> list[Network]:
        """Its IP networks, IPv4 first."""
        return [subnet.network for subnet in self.subnets]

    def take(
        self, owner: str, address: AddressSpec | None = None, besides: Container[int] = ()
    ) -> list[AddressWithPrefix]:
        """An address of each subnet, of which ``address`` replaces the one of its family. All or nothing.

        Args:
            owner: who gets them.
            address: one that it wants.
            besides: families of which it needs none, 4 or 6.
        """
        wanted = None if address is None else _plain(address, owner, self.networks)
        taken: list[AddressWithPrefix] = []
        try:
            for subnet in self.subnets:
                if subnet.network.version in besides:
                    continue
                if wanted is not None and wanted.version == subnet.network.version:
                    taken.append(subnet.take(wanted, owner))
                else:
                    taken.append(subnet.take_next(owner))
        except TopologyError:
            self.release(taken)
            raise
        return taken

    def take_exactly(self, owner: str, address: AddressSpec) -> AddressWithPrefix:
        """Just this address."""
        wanted = _plain(address, owner, self.networks)
        return next(s for s in self.subnets if s.network.version == wanted.version).take(wanted, owner)

    def release(self, addresses: Iterable[AddressWithPrefix]) -> None:
        """Give addresses back."""
        for address in addresses:
            for subnet in self.subnets:
                if address.ip in subnet.network:
                    subnet.release(address.ip)


def _plain(address: AddressSpec, owner: str, networks: Sequence[Network]) -> Address:
    """An address of one of the networks; a prefix that was given must be that network's."""
    if isinstance(address, bool | bytes | int | float):
        raise TopologyError(f"{address!r} for {owner!r} is not an IP address: it is {type(address).__name__}")
    text = str(address)
    try:
        plain = ip_address(text.partition("/")[0])
        prefix = ip_interface(text).network.prefixlen if "/" in text else None
    except ValueError:
        raise TopologyError(f"{text!r} for {owner!r} is not an IP address") from None
    shown = " and ".join(map(str, networks)) or "none"
    network = next((n for n in networks if n.version == plain.version), None)
    if network is None or plain not in network:
        raise TopologyError(f"address {plain} for {owner!r} is not in its subnet ({shown})")
    if prefix is not None and prefix != network.prefixlen:
        raise TopologyError(f"address {text} for {owner!r} has another prefix length than its subnet {network}")
    return plain


def parse_network(value: object, what: str) -> Network:
    """An IP network from text or an object. Raises TopologyError."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        if not isinstance(value, str):
            raise ValueError(f"it is a {type(value).__name__}")
        return ip_network(value)
    except ValueError as error:
        raise TopologyError(f"{what}: {value!r} is not a subnet such as '192.168.15.0/24': {error}") from None


class AddressPlan:
    """All subnets of a lab. They never overlap, so that routes are unambiguous.

    Args:
        lab: name of the lab, for messages.
        ipv4: pool for links and bridges without a subnet of their own; None for a lab without IPv4.
        ipv6: the same for IPv6.

    Raises:
        TopologyError: a pool is no network of its family.
    """

    def __init__(self, lab: str, ipv4: str | IPv4Network | None, ipv6: str | IPv6Network | None) -> None:
        self._lab = lab
        self._pools: dict[int, Network] = {}
        self._position = {4: 0, 6: 0}
        # (first address, last address, network, what for), sorted: networks are disjoint, so neighbours tell.
        self._used: dict[int, list[tuple[int, int, Network, str]]] = {4: [], 6: []}
        for version, pool in ((4, ipv4), (6, ipv6)):
            if pool is not None:
                network = parse_network(pool, f"lab {lab!r}, pool ipv{version}")
                if network.version != version:
                    raise TopologyError(f"lab {lab!r}, pool ipv{version}: {network} is of the other family")
                self._pools[version] = network

    def _overlapping(self, network: Network) -> tuple[Network, str] | None:
        used = self._used[network.version]
        first, last = int(network.network_address), int(network.broadcast_address)
        position = bisect_right(used, first, key=lambda row: row[0])
        for row in used[max(0, position - 1) : position + 1]:
            if row[0] <= last and first <= row[1]:
                return row[2], row[3]
        return None

    def reserve(self, network: Network, purpose: str) -> None:
        """Note that a network is in use. Raises TopologyError if it overlaps another."""
        clash = self._overlapping(network)
        if clash is not None:
            raise TopologyError(f"lab {self._lab!r}: subnet {network} for {purpose} overlaps {clash[0]} of {clash[1]}")
        row = (int(network.network_address), int(network.broadcast_address), network, purpose)
        used = self._used[network.version]
        used.insert(bisect_right(used, row[0], key=lambda r: r[0]), row)

    def free(self, networks: Iterable[Network]) -> None:
        """Give networks back."""
        for network in networks:
            pool = self._pools.get(network.version)
            if pool is not None and network.network_address in pool:
                size = 1 << (pool.max_prefixlen - max(_POOL_PREFIX[network.version], pool.prefixlen))
                position = (int(network.network_address) - int(pool.network_address)) // size
                self._position[network.version] = min(self._position[network.version], position)
            self._used[network.version] = [row for row in self._used[network.version] if row[2] != network]

    def _from_pool(self, version: int, purpose: str) -> Network:
        pool = self._pools[version]
        prefix = max(_POOL_PREFIX[version], pool.prefixlen)
        size = 1 << (pool.max_prefixlen - prefix)
        cls = IPv4Network if version == 4 else IPv6Network
        while self._position[version] * size < pool.num_addresses:
            network = cls((int(pool.network_address) + self._position[version] * size, prefix))
            self._position[version] += 1
            if self._overlapping(network) is None:
                self.reserve(network, purpose)
                return network
        raise TopologyError(
            f"lab {self._lab!r}: the IPv{version} pool {pool} is exhausted at {purpose} "
            f"({len(self._used[version])} subnets in use); give Lab(ipv{version}=...) a larger one, or a subnet here"
        )

    def segment(self, spec: SubnetSpec, purpose: str, *, hosts: int) -> Segment:
        """The subnets for a new link or bridge.

        Args:
            spec: None for one of each pool; False for none; an IPv4 network (an IPv6 one comes from the pool), an
                IPv6 network (then there is no IPv4), or one of each.
            purpose: what for, for messages.
            hosts: how many hosts it must have room for.

        Raises:
            TopologyError: no network, too small, overlapping, or a pool is exhausted. Nothing is taken then.
        """
        if spec is False:
            return Segment()
        given: list[Network] = []
        if spec is not None:
            several = isinstance(spec, Sequence) and not isinstance(spec, str | bytes)
            items: Sequence[object] = list(spec) if several else [spec]
            given = [parse_network(item, purpose) for item in items]
        versions = [network.version for network in given]
        if len(set(versions)) != len(versions):
            raise TopologyError(f"{purpose}: at most one subnet of each family, not {', '.join(map(str, given))}")
        for network in given:
            room = Subnet(network).capacity
            if room < hosts:
                raise TopologyError(
                    f"{purpose}: subnet {network} is too small: it has room for {room} and {hosts} are needed"
                )
        reserved: list[Network] = []
        try:
            for network in given:
                self.reserve(network, purpose)
                reserved.append(network)
            wanted = (4, 6) if not given else (6,) if versions == [4] else ()
            reserved += [self._from_pool(version, purpose) for version in wanted if version in self._pools]
        except TopologyError:
            self.free(reserved)
            raise
        return Segment(Subnet(network) for network in sorted(reserved, key=lambda n: n.version))
