"""Tunnels: the devices that carry packets in packets to a far end."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_netns.addresses import Address, AddressWithPrefix
from pytest_netns.checks import check_whole
from pytest_netns.devices.builder import Addresses, Device, DeviceBuilder, DeviceSpec
from pytest_netns.devices.kinds import TUNNELS
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.linkinfo import Value
from pytest_netns.stack.destination import Destination, choose, resolve
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.interface_lookup import own_interface
from pytest_netns.topology.node import BaseNode

_GRE_KEY = 0x2000


def far_end(device: DeviceBuilder | Device, destination: Destination) -> Address:
    """The address of a far end; of a node, one that is not within a tunnel. Raises TopologyError."""
    if isinstance(destination, Namespace):
        target = choose(device.node, destination.name, _outside(destination), _outside(device.node))
    else:
        target = resolve(device.node, destination)
    return target.address


def _outside(node: Namespace) -> list[AddressWithPrefix]:
    inside = {
        address
        for each in getattr(node, "devices", ())
        if isinstance(each, Device) and each.kind in TUNNELS
        for address in each.addresses
    }
    return [address for address in node.addresses() if address not in inside]


def _end(builder: DeviceBuilder, keyword: str, destination: Destination) -> Address:
    try:
        return far_end(builder, destination)
    except TopologyError as error:
        raise TopologyError(f"{builder.where}: {keyword}: {error}") from None


def ends(
    builder: DeviceBuilder, remote: Destination | None, local: Destination | None, version: int | None = None
) -> dict[str, Value]:
    """The options of the two ends of a tunnel.

    Raises:
        TopologyError: they are no addresses, of two families, of the wrong one, or ``local`` is not this host's.
    """
    options: dict[str, Value] = {}
    if remote is not None:
        options["remote"] = _end(builder, "remote", remote)
    if local is not None:
        own = _end(builder, "local", local)
        if all(own != address.ip for address in builder.node.addresses()):
            raise TopologyError(f"{builder.where}: local {own} is not an address of {builder.node.name!r}")
        options["local"] = own
    found = {address.version for address in options.values() if not isinstance(address, int | str)}
    if len(found) > 1:
        raise TopologyError(
            f"{builder.where}: remote {options['remote']} and local {options['local']} are of two families"
        )
    if version is not None and found - {version}:
        given = ", ".join(f"{keyword} {address}" for keyword, address in options.items())
        raise TopologyError(f"{builder.where}: its ends are IPv{version} addresses, and this was given: {given}")
    return options


def version_of(options: dict[str, Value]) -> int:
    """Of the addresses of the ends, 4 if there are none."""
    return next((each.version for each in options.values() if not isinstance(each, int | str)), 4)


def key_options(key: int | None) -> dict[str, Value]:
    """A GRE key (RFC 2890 2.1), the same in both directions."""
    return {} if key is None else {"_iflags": _GRE_KEY, "_oflags": _GRE_KEY, "_ikey": key, "_okey": key}


def tied_options(link: Interface | None) -> dict[str, Value]:
    """That of the interface that a tunnel is tied to, if there is one."""
    return {} if link is None else {"link": link.index}


def ttl_options(ttl: int | None) -> dict[str, Value]:
    """That of the outer packets' time to live, if it was given."""
    if ttl is None:
        return {}
    check_whole("ttl", ttl, 0, 255)
    return {"ttl": ttl}


def add_geneve(
    host: BaseNode,
    name: str,
    vni: int,
    *,
    remote: Destination,
    port: int = 6081,
    ttl: int | None = None,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Device:
    """``ip link add NAME type geneve``: Ethernet in UDP (RFC 8926).

    Args:
        name: of the device: 1 to 15 bytes.
        vni: network identifier, 0 to 16777215.
        remote: the remote endpoint: a node, an interface or an address.
        port: UDP port of both ends.
        ttl: of the outer packets, 0 to 255; None: the kernel's default.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_geneve("gnv0", 42, remote=blue, address="10.42.0.1/24")
        >>> blue.add_geneve("gnv0", 42, remote=red, address="10.42.0.2/24")
    """
    builder = DeviceBuilder(host, "geneve", DeviceSpec(name, address, mtu, up, mac))
    _check_remote(builder, remote)
    return builder.build(Device, {"vni": vni, **ends(builder, remote, None), **ttl_options(ttl), "port": port})


def add_gre(
    host: BaseNode,
    name: str,
    *,
    remote: Destination,
    local: Destination | None = None,
    link: str | Interface | BaseNode | None = None,
    key: int | None = None,
    ttl: int | None = None,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
) -> Device:
    """``ip link add NAME type gre``, or ``ip6gre`` if ``remote`` is an IPv6 address: IP in GRE (RFC 2784).

    Args:
        name: of the device: 1 to 15 bytes.
        remote: the remote endpoint: a node, an interface or an address.
        local: source address of the outer packets; None: chosen by the routes.
        link: the underlying interface; None: chosen by the routes.
        key: tells tunnels between the same ends apart (RFC 2890), 0 to 4294967295.
        ttl: of the outer packets, 0 to 255; None: inherited from the inner packet.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_gre("gre1", remote=blue, key=7, address="10.42.0.1/24")
        >>> blue.add_gre("gre1", remote=red, key=7, address="10.42.0.2/24")
    """
    wanted = DeviceSpec(name, address, mtu, up)
    return _tunnel(host, ("gre", "ip6gre"), wanted, remote, local, link, ttl, key_options(key), False)


def add_gretap(
    host: BaseNode,
    name: str,
    *,
    remote: Destination,
    local: Destination | None = None,
    link: str | Interface | BaseNode | None = None,
    key: int | None = None,
    ttl: int | None = None,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Device:
    """``ip link add NAME type gretap``, or ``ip6gretap`` if ``remote`` is an IPv6 address.

    Ethernet in GRE (RFC 2784).

    Args:
        name: of the device: 1 to 15 bytes.
        remote: the remote endpoint: a node, an interface or an address.
        local: source address of the outer packets; None: chosen by the routes.
        link: the underlying interface; None: chosen by the routes.
        key: tells tunnels between the same ends apart (RFC 2890), 0 to 4294967295.
        ttl: of the outer packets, 0 to 255; None: inherited from the inner packet.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_gretap("tunnel1", remote=blue, address="10.42.0.1/24")
        >>> blue.add_gretap("tunnel1", remote=red, address="10.42.0.2/24")
    """
    wanted = DeviceSpec(name, address, mtu, up, mac)
    return _tunnel(host, ("gretap", "ip6gretap"), wanted, remote, local, link, ttl, key_options(key), True)


def add_ipip(
    host: BaseNode,
    name: str,
    *,
    remote: Destination,
    local: Destination | None = None,
    link: str | Interface | BaseNode | None = None,
    ttl: int | None = None,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
) -> Device:
    """``ip link add NAME type ipip``, or ``ip6tnl`` if ``remote`` is an IPv6 address.

    IPv4 in IPv4 (RFC 2003), or IPv4 and IPv6 in IPv6 (RFC 2473).

    Args:
        name: of the device: 1 to 15 bytes.
        remote: the remote endpoint: a node, an interface or an address.
        local: source address of the outer packets; None: chosen by the routes.
        link: the underlying interface; None: chosen by the routes.
        ttl: of the outer packets, 0 to 255; None: inherited from the inner packet.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_ipip("tunnel1", remote=blue, address="10.42.0.1/24")
        >>> blue.add_ipip("tunnel1", remote=red, address="10.42.0.2/24")
    """
    return _tunnel(host, ("ipip", "ip6tnl"), DeviceSpec(name, address, mtu, up), remote, local, link, ttl, {}, False)


def add_sit(
    host: BaseNode,
    name: str,
    *,
    remote: Destination,
    local: Destination | None = None,
    link: str | Interface | BaseNode | None = None,
    ttl: int | None = None,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
) -> Device:
    """``ip link add NAME type sit``: IPv6 in IPv4 (RFC 4213).

    Args:
        name: of the device: 1 to 15 bytes.
        remote: the remote endpoint: a node, an interface or an address.
        local: source address of the outer packets; None: chosen by the routes.
        link: the underlying interface; None: chosen by the routes.
        ttl: of the outer packets, 0 to 255; None: inherited from the inner packet.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_sit("sit1", remote=blue, address="2001:db8::1/64")
        >>> blue.add_sit("sit1", remote=red, address="2001:db8::2/64")
    """
    return _tunnel(host, ("sit", ""), DeviceSpec(name, address, mtu, up), remote, local, link, ttl, {}, False)


def _check_remote(builder: DeviceBuilder, remote: Destination) -> None:
    if remote is None:
        raise TopologyError(f"{builder.where}: remote=None: expected a node, an interface or an address")


def _tunnel(
    host: BaseNode,
    kinds: tuple[str, str],
    wanted: DeviceSpec,
    remote: Destination,
    local: Destination | None,
    link: str | Interface | BaseNode | None,
    ttl: int | None,
    more: Mapping[str, Value],
    has_mac: bool,
) -> Device:
    builder = DeviceBuilder(host, kinds[0], wanted)
    _check_remote(builder, remote)
    options = ends(builder, remote, local, None if kinds[1] else 4)
    if version_of(options) == 6:
        builder.kind = kinds[1]
        more = {**more, "_flags": 1}
    tied = None if link is None else own_interface(host, link, builder.where)
    return builder.build(Device, {**options, **tied_options(tied), **ttl_options(ttl), **more}, has_mac=has_mac)
