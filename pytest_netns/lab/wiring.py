"""Wiring: what addresses and interface names a new link gets, and undoing it all when something is refused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_netns.addresses import AddressWithPrefix, parse_address
from pytest_netns.checks import is_whole
from pytest_netns.errors import TopologyError
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.link import Link
from pytest_netns.lab.nodes import Node
from pytest_netns.topology.addressing import AddressSpec, Segment, Subnet, SubnetSpec
from pytest_netns.topology.naming import check_interface_name, parse_mac
from pytest_netns.topology.veth import End, make_veth

if TYPE_CHECKING:
    from pytest_netns.topology.network import Network

_LAST_INDEX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What was asked for of the interfaces at both ends of a link; None: whatever is free."""

    macs: tuple[str | None, str | None] = (None, None)
    indexes: tuple[int | None, int | None] = (None, None)

    def check(self, purpose: str) -> tuple[tuple[bytes | None, int | None], ...]:
        """The MAC address and the index of each end. Raises TopologyError."""
        for name, pair, example in (
            ("mac", self.macs, "('02:00:00:00:00:01', None)"),
            ("index", self.indexes, "(7, None)"),
        ):
            if isinstance(pair, str | bytes) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise TopologyError(f"{purpose}: {name}={pair!r} must be two: that of each end, e.g. {example}")
        for index in self.indexes:
            if index is not None and not is_whole(index, 2, _LAST_INDEX):
                raise TopologyError(f"{purpose}: index is {index!r}; it can be 2 to {_LAST_INDEX}")
        return tuple(
            (None if mac is None else parse_mac(mac, purpose), index)
            for mac, index in zip(self.macs, self.indexes, strict=True)
        )


_ANY = Identity()

EndAddresses = AddressSpec | Sequence[AddressSpec]


class Wiring:
    """Makes the links of a lab."""

    def __init__(self, lab: Network) -> None:
        self._lab = lab

    def connect(
        self,
        a: Node,
        b: Node,
        subnet: SubnetSpec,
        addresses: tuple[EndAddresses, EndAddresses] | None,
        mtu: int | None,
        names: tuple[str, str] | None,
        offload: bool | None,
        identity: Identity = _ANY,
    ) -> Link:
        """See ``Lab.connect``."""
        purpose = f"link {a.name}--{b.name}"
        identity.check(purpose)
        check_offload(offload, purpose)
        if mtu is not None and not is_whole(mtu, 1, (1 << 32) - 1):
            raise TopologyError(f"{purpose}: mtu is {mtu!r}; expected a number of bytes, e.g. 1500")
        if names is not None and (isinstance(names, str | bytes) or not isinstance(names, Sequence) or len(names) != 2):
            raise TopologyError(f"{purpose}: names={names!r} must be two: the interface in each node")
        if isinstance(a, Bridge) and isinstance(b, Bridge):
            if subnet or addresses:
                raise TopologyError(f"{purpose}: a trunk between bridges takes no subnet and no addresses")
            return self.join(a, b, Segment(), False, ([], []), mtu, names, offload, identity)
        if isinstance(a, Bridge) or isinstance(b, Bridge):
            return self._connect_bridge(a, b, subnet, addresses, mtu, names, offload, identity, purpose)
        segment, taken = self._addresses_for(a, b, subnet, addresses, purpose)
        return self.join(a, b, segment, True, taken, mtu, names, offload, identity)

    def _connect_bridge(
        self,
        a: Node,
        b: Node,
        subnet: SubnetSpec,
        addresses: tuple[EndAddresses, EndAddresses] | None,
        mtu: int | None,
        names: tuple[str, str] | None,
        offload: bool | None,
        identity: Identity,
        purpose: str,
    ) -> Link:
        bridge, node, side = (a, b, 1) if isinstance(a, Bridge) else (b, a, 0)
        assert isinstance(bridge, Bridge)
        segment = bridge.segment
        given = _several(addresses[side]) if addresses else []
        if addresses and _several(addresses[1 - side]):
            raise TopologyError(f"{purpose}: a bridge's port takes no address; see Bridge.add_address()")
        if subnet:
            several = isinstance(subnet, Sequence) and not isinstance(subnet, str)
            wanted: Sequence[object] = list(subnet) if several else [subnet]
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
        return self.join(a, b, segment, False, sides, mtu, names, offload, identity)

    def _addresses_for(
        self,
        a: Node,
        b: Node,
        subnet: SubnetSpec,
        addresses: tuple[EndAddresses, EndAddresses] | None,
        purpose: str,
    ) -> tuple[Segment, tuple[list[AddressWithPrefix], list[AddressWithPrefix]]]:
        if addresses is None:
            segment = self._lab.plan.segment(subnet, purpose, hosts=2)
            try:
                return segment, (segment.take(a.name), segment.take(b.name))
            except TopologyError:  # a pool so small that it has no room for two
                self._lab.plan.free(segment.networks)
                raise
        if not isinstance(addresses, Sequence) or len(addresses) != 2:
            raise TopologyError(f"{purpose}: addresses={addresses!r} must be two: those of each end")
        if subnet:
            segment = self._lab.plan.segment(subnet, purpose, hosts=2)
            try:
                taken = tuple(
                    [segment.take_exactly(node.name, address) for address in _several(side)]
                    for node, side in zip((a, b), addresses, strict=True)
                )
            except TopologyError:
                self._lab.plan.free(segment.networks)
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
                    self._lab.plan.reserve(network, purpose)
                    segment.subnets.append(Subnet(network))
        except TopologyError:
            self._lab.plan.free(segment.networks)
            raise
        return segment, (ends[0], ends[1])

    def join(
        self,
        a: Node,
        b: Node,
        segment: Segment,
        owned: bool,
        addresses: tuple[list[AddressWithPrefix], list[AddressWithPrefix]],
        mtu: int | None,
        names: tuple[str, str] | None,
        offload: bool | None,
        identity: Identity = _ANY,
    ) -> Link:
        """Make a link whose addresses are decided. On failure they are given back."""
        with ExitStack() as undo:
            undo.callback(segment.release, [*addresses[0], *addresses[1]])
            if owned:
                undo.callback(self._lab.plan.free, segment.networks)
            chosen = identity.check(f"link {a.name}--{b.name}")
            ends = []
            for position, (node, other) in enumerate(((a, b), (b, a))):
                bridge = node if isinstance(node, Bridge) else None
                if names is not None:
                    name = check_interface_name(names[position], f"link {a.name}--{b.name}, end in {node.name!r}")
                    if node.allocator.reserve(name):
                        undo.callback(node.allocator.release, name)
                elif bridge is not None:
                    name = bridge._new_port_name(other.name)
                    undo.callback(bridge._free_port_name, name)
                else:
                    name = node.allocator.next_ethernet()
                    undo.callback(node.allocator.release, name)
                ends.append(
                    End(
                        node,
                        name,
                        addresses[position],
                        bridge.device if bridge is not None else None,
                        *chosen[position],
                    )
                )
            made = make_veth(self._lab, ends[0], ends[1], mtu, self._lab.offload if offload is None else offload)
            link = Link(self._lab, made, segment, owned, [*addresses[0], *addresses[1]])
            for end in ends:
                if end.bridge is not None and not end.node._waits_for_stp:
                    end.bridge.wait_up()
            undo.pop_all()
        self._lab._remember(link)
        return link


def check_offload(value: object, what: str) -> None:
    """Raise TopologyError unless it is True, False or None."""
    if value is not None and not isinstance(value, bool):
        raise TopologyError(f"{what}: offload={value!r}: expected True or False, or None for what the lab has")


def _several(value: EndAddresses) -> list[AddressSpec]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return [value] if value else []
