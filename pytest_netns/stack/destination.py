"""Where a probe goes: a node, an interface or an address, resolved to one address."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

from pytest_netns.addresses import Address, AddressWithPrefix
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.tables import is_link_local
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Origin

Destination = Namespace | Interface | str | IPv4Address | IPv6Address | IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Target:
    """A resolved destination.

    Attributes:
        address: where packets go.
        label: for people: ``blue (10.0.0.2)``, or just the address.
        scope: index of the interface, for a link-local address; else 0.
    """

    address: Address
    label: str
    scope: int = 0

    def at(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """The address with a port for Python's sockets."""
        text = str(self.address)
        return (text, port) if self.address.version == 4 else (text, port, 0, self.scope)


def resolve(source: Namespace, destination: Destination, origin: Origin | None = None) -> Target:
    """One address for a destination: on a subnet of the source if there is one, IPv4 before IPv6.

    Args:
        source: the node that sends the probe.
        destination: a node, an interface or an address.
        origin: what the probe is bound to; None: to nothing.

    Raises:
        TopologyError: it has no address, none of a family that the source has, is none of the things allowed, or of
            another lab.
    """
    if origin is None:
        origin = Origin(source)
    if isinstance(destination, Namespace | Interface):
        if isinstance(destination, Interface):
            label, addresses, node = str(destination), destination.addresses, destination.node
        else:
            label, addresses, node = destination.name, destination.addresses(), destination
        source._check_peer(node, "reach")
        if origin.address is not None:
            version = origin.address.version
            if addresses and all(each.version != version for each in addresses):
                raise TopologyError(
                    f"source={origin.address} is IPv{version}, and {label!r} has only {', '.join(map(str, addresses))}"
                )
            addresses = [each for each in addresses if each.version == version]
        return choose(source, label, addresses, origin.addresses(), origin=origin, peer=destination)
    if isinstance(destination, IPv4Interface | IPv6Interface):
        destination = destination.ip
    if isinstance(destination, str):
        text, _, zone = destination.partition("%")
        try:
            address = ip_address(text)
        except ValueError:
            raise TopologyError(
                f"{destination!r} is not an address; a destination is a node (lab[{destination!r}]?), "
                "an interface or an address"
            ) from None
    elif isinstance(destination, IPv4Address | IPv6Address):
        address, zone = destination, getattr(destination, "scope_id", None) or ""
        text = str(address).partition("%")[0]
    else:
        raise TopologyError(
            f"a destination is a node, an interface or an address, not {type(destination).__name__} {destination!r}"
        )
    if origin.address is not None and origin.address.version != address.version:
        raise TopologyError(f"source={origin.address} is IPv{origin.address.version}, and {address} is not")
    return Target(ip_address(text), str(address), _scope(origin, ip_address(text), zone))


def _scope(origin: Origin, address: Address, zone: str) -> int:
    """The interface that an address is meant on, where it does not tell by itself; else 0."""
    source = origin.node
    if zone and address.version == 4:
        raise TopologyError(f"{address}%{zone}: only IPv6 addresses have a zone (RFC 4007); say source={zone!r}")
    if zone:
        named = source.interface(zone).index
        if origin.interface is not None and origin.interface.index != named:
            raise TopologyError(f"{address}%{zone} is not on {origin.interface}, which the probe comes from")
        return named
    if address.version == 4 or not (address.is_link_local or _is_group_of_a_link(address)):
        return 0
    if origin.interface is not None:
        return origin.interface.index
    others = [interface for name, interface in source.interfaces.items() if name != "lo"]
    if len(others) != 1:
        what = "link-local" if address.is_link_local else "a group on one link"
        raise TopologyError(
            f"{address} is {what} and {source.name!r} has {len(others)} interfaces; say which one: '{address}%eth0'"
        )
    return others[0].index


def _is_group_of_a_link(address: Address) -> bool:
    """Whether it is a group of one interface or one link (RFC 4291 2.7)."""
    return address.is_multicast and address.packed[1] & 0xF in (1, 2)


def choose(
    source: Namespace,
    label: str,
    addresses: list[AddressWithPrefix],
    own: list[AddressWithPrefix],
    *,
    origin: Origin | None = None,
    peer: Namespace | Interface | None = None,
) -> Target:
    """One of several addresses, seen from a source that has the addresses ``own``.

    Args:
        source: the node that sends the probe.
        label: of the destination, for messages.
        addresses: of the destination.
        own: of the source.
        origin: what the probe is bound to; None: to nothing.
        peer: whose they are, to find the interface for a link-local one; None: that of the only interface.

    Raises:
        TopologyError: there is none, or none of a family that the source has.
    """
    if not addresses:
        raise TopologyError(f"{label!r} has no address to reach it by")
    networks = {address.network for address in own if not is_link_local(address)}
    usable = [address for address in addresses if not is_link_local(address)]
    for address in usable:
        if address.network in networks:
            return Target(address.ip, f"{label} ({address.ip})")
    versions = {address.version for address in own if not is_link_local(address)}
    for address in usable:
        if address.version in versions or not versions:
            return Target(address.ip, f"{label} ({address.ip})")
    if usable:
        raise TopologyError(
            f"{label!r} has only IPv{usable[0].version} ({', '.join(map(str, usable))}) and {source.name!r} "
            f"has only IPv{versions.pop()} addresses ({', '.join(map(str, own))})"
        )
    origin = origin or Origin(source)
    ip = addresses[0].ip
    towards = source._interface_towards(peer) if origin.interface is None and peer is not None else None
    return Target(ip, f"{label} ({ip})", towards.index if towards is not None else _scope(origin, ip, ""))
