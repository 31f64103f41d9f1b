"""Where a probe goes: a node, an interface or an address, resolved to one address."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

from pytest_netns.addresses import Address, AddressWithPrefix
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.tables import is_link_local
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

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


def resolve(source: Namespace, destination: Destination) -> Target:
    """One address for a destination: on a subnet of the source if there is one, IPv4 before IPv6.

    Raises:
        TopologyError: it has no address, none of a family that the source has, or is none of the things allowed.
    """
    if isinstance(destination, Namespace | Interface):
        if isinstance(destination, Interface):
            label, addresses = str(destination), destination.addresses
        else:
            label, addresses = destination.name, destination.addresses()
        return choose(source, label, addresses, source.addresses())
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
    return Target(ip_address(text), str(address), _scope(source, address, zone))


def _scope(source: Namespace, address: Address, zone: str) -> int:
    if zone:
        return source.interface(zone).index
    if address.version == 6 and address.is_link_local:
        others = [i for name, i in source.interfaces.items() if name != "lo"]
        if len(others) != 1:
            raise TopologyError(
                f"{address} is link-local and {source.name!r} has {len(others)} interfaces; "
                f"say which one: '{address}%eth0'"
            )
        return others[0].index
    return 0


def choose(source: Namespace, label: str, addresses: list[AddressWithPrefix], own: list[AddressWithPrefix]) -> Target:
    """One of several addresses, seen from a source that has the addresses ``own``. Raises TopologyError."""
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
    address = addresses[0]
    return Target(address.ip, f"{label} ({address.ip})", _scope(source, address.ip, ""))
