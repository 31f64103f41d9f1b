"""Addresses: the types that annotations name, and what users write for them."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)

from pytest_netns.errors import TopologyError

#: Below it the kernel takes IPv6 away from an interface, with its addresses and routes (RFC 8200 section 5).
IPV6_MIN_MTU = 1280

Address = IPv4Address | IPv6Address
AddressWithPrefix = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


def is_of_link(address: Address | AddressWithPrefix | IPv4Network | IPv6Network) -> bool:
    """Whether it is an IPv6 link-local one (fe80::/10): every interface has one by itself, and it leads nowhere else.

    169.254.0.0/16 is an ordinary network where somebody configures it: no kernel gives itself such an address.
    """
    return address.version == 6 and address.is_link_local


def parse_plain(value: object, what: str) -> Address:
    """An address without a prefix, from text or an ipaddress object. Raises TopologyError."""
    try:
        if not isinstance(value, str | IPv4Address | IPv6Address):
            raise ValueError(f"it is {type(value).__name__}")
        return ip_address(value)
    except ValueError as error:
        raise TopologyError(f"{what}: {value!r} is not an address such as '10.0.0.1' ({error})") from None


def parse_address(value: object, what: str) -> AddressWithPrefix:
    """An address with its prefix, from text or an ipaddress object.

    Raises:
        TopologyError: it is none, or lacks the prefix.
    """
    if not isinstance(value, str | IPv4Interface | IPv6Interface | IPv4Address | IPv6Address):
        raise TopologyError(
            f"{what}: {value!r} is not an address with a prefix such as '10.0.0.1/24' (it is {type(value).__name__})"
        )
    try:
        address = ip_interface(value)
    except ValueError as error:
        raise TopologyError(
            f"{what}: {value!r} is not an address with a prefix such as '10.0.0.1/24' ({error})"
        ) from None
    if "/" not in str(value):
        raise TopologyError(f"{what}: {value!r} lacks its prefix length; write e.g. '{value}/24'")
    return address
