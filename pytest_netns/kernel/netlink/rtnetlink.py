"""rtnetlink(7) requests for links, addresses, routes and neighbours: pure functions that encode messages.

Each returns a ``Request`` whose ``operation`` is the equivalent ip(8) command.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_netns.addresses import IPV6_MIN_MTU, Address, AddressWithPrefix, Network
from pytest_netns.kernel.netlink.route_options import (
    PLAIN_ROUTE,
    ROUTE_KINDS,
    RTA_OIF,
    RTNH_F_ONLINK,
    RouteOptions,
    gateway_attribute,
    gateway_words,
    options_attributes,
    options_words,
)
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, attribute

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_GETNEIGH = 30

AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10

IFF_UP = 0x1
IFF_RUNNING = 0x40

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_GSO_MAX_SEGS = 1, 3, 4, 10, 40
IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_NET_NS_FD = 16, 18, 26, 28
IFLA_EXT_MASK, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 29, 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_STATE = 1
_IFLA_INET6_ADDR_GEN_MODE = 8
_IFLA_NEW_IFINDEX = 49
_IN6_ADDR_GEN_MODE_NONE = 1
_VETH_INFO_PEER = 1
_RTEXT_FILTER_SKIP_STATS = 1 << 3

_IFA_ADDRESS, _IFA_LOCAL = 1, 2

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")

# One queue instead of one per possible CPU: creating a veth is 20 % faster here, and gains more on big machines.
_ONE_QUEUE = attribute(IFLA_NUM_TX_QUEUES, _U32.pack(1)) + attribute(IFLA_NUM_RX_QUEUES, _U32.pack(1))
# Statistics make up most of the answer about a link, and are not used here.
_NO_STATISTICS = attribute(IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS))
#: A link attribute (``addrgenmode none``): the kernel adds no link-local address.
NO_LINK_LOCAL = attribute(
    IFLA_AF_SPEC,
    attribute(AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))),
)

LOOPBACK_INDEX = 1


def family_of(address: Address | AddressWithPrefix | Network) -> int:
    """AF_INET or AF_INET6."""
    return AF_INET if address.version == 4 else AF_INET6


def _name(name: str) -> bytes:
    return attribute(IFLA_IFNAME, name.encode() + b"\0")


def _identity(name: str, mac: bytes, mtu: int | None) -> bytes:
    body = _name(name) + attribute(IFLA_ADDRESS, mac)
    return body if mtu is None else body + attribute(IFLA_MTU, _U32.pack(mtu))


def link_up(index: int, name: str) -> Request:
    """``ip link set NAME up``."""
    return Request(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP), f"ip link set {name} up")


def link_down(index: int, name: str) -> Request:
    """``ip link set NAME down``."""
    return Request(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, 0, IFF_UP), f"ip link set {name} down")


def link_delete(index: int, name: str) -> Request:
    """``ip link delete NAME``. Takes some 15 ms, as the kernel waits for an RCU grace period."""
    return Request(RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0), f"ip link delete {name}")


def link_mtu(index: int, name: str, mtu: int) -> Request:
    """``ip link set NAME mtu BYTES``."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_MTU, _U32.pack(mtu))
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} mtu {mtu}")


def link_gso_max_segs(index: int, name: str, segments: int) -> Request:
    """``ip link set NAME gso_max_segs N``."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_GSO_MAX_SEGS, _U32.pack(segments))
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} gso_max_segs {segments}")


def link_move(index: int, name: str, netns: int, new_name: str | None = None, new_index: int | None = None) -> Request:
    """``ip link set NAME netns FD [name NEW]``. The link is down afterwards, without addresses."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_NET_NS_FD, _U32.pack(netns))
    if new_name is not None:
        body += _name(new_name)
    if new_index is not None:  # Linux 5.12 or later
        body += attribute(_IFLA_NEW_IFINDEX, _U32.pack(new_index))
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} netns {netns}{f' name {new_name}' if new_name else ''}")


def link_get(index: int, name: str) -> Request:
    """``ip link show NAME``. The kernel updates the carrier state before it answers (linkwatch_sync_dev)."""
    return Request(RTM_GETLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + _NO_STATISTICS, f"ip link show {name}")


def link_dump() -> Request:
    """``ip link show``."""
    return Request(RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + _NO_STATISTICS, "ip link show")


class VethEnd(NamedTuple):
    """One end of a veth pair: name, interface index (0: chosen by the kernel), MAC address."""

    name: str
    ifindex: int
    mac: bytes


def veth(near: VethEnd, far: VethEnd, far_fd: int, mtu: int | None, *, up: bool = True) -> Request:
    """``ip link add ... type veth``: the near end here, the far end in namespace ``far_fd``, down.

    The far end cannot be created up: its peer is not linked yet (veth_open() returns ENOTCONN). A near end that is to
    become a bridge port should not be created up either, as adding a port that is up takes longer.
    """
    peer = (
        _IFINFO.pack(0, 0, far.ifindex, 0, 0)
        + _identity(far.name, far.mac, mtu)
        + attribute(IFLA_NET_NS_FD, _U32.pack(far_fd))
        + _ONE_QUEUE
    )
    info = attribute(IFLA_INFO_KIND, b"veth") + attribute(IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
    body = (
        _IFINFO.pack(0, 0, near.ifindex, IFF_UP if up else 0, IFF_UP)
        + _identity(near.name, near.mac, mtu)
        + _ONE_QUEUE
        + attribute(IFLA_LINKINFO, info)
    )
    return Request(
        RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"ip link add {near.name} type veth peer name {far.name}"
    )


def bridge(name: str, index: int, mac: bytes, data: bytes = b"") -> Request:
    """``ip link add NAME up type bridge``, without STP, so a port forwards as soon as it has a carrier.

    Args:
        name: name of the device.
        index: its interface index.
        mac: its MAC address.
        data: further options, see ``pytest_netns.kernel.netlink.linkinfo.encode_options``.
    """
    info = attribute(IFLA_INFO_KIND, b"bridge") + (attribute(IFLA_INFO_DATA, data) if data else b"")
    body = _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP) + _identity(name, mac, None) + attribute(IFLA_LINKINFO, info)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"ip link add {name} type bridge")


def port_up(index: int, name: str, bridge_index: int, bridge_name: str, mtu: int | None = None) -> list[Request]:
    """``ip link set NAME master BRIDGE addrgenmode none``, then ``up``.

    A bridge port needs no link-local address. Two requests, because within a single one the kernel processes "up" first
    (do_setlink()), and would add the address before ``addrgenmode`` takes effect.

    Args:
        index: interface index of the port.
        name: name of the port.
        bridge_index: interface index of the bridge.
        bridge_name: name of the bridge.
        mtu: MTU of the port in bytes, if it may be below IPv6's minimum of 1280: such a device has no IPv6, and the
            kernel refuses ``addrgenmode`` (EAFNOSUPPORT).
    """
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_MASTER, _U32.pack(bridge_index))
    operation = f"ip link set {name} master {bridge_name}"
    if mtu is None or mtu >= IPV6_MIN_MTU:
        body += NO_LINK_LOCAL
        operation += " addrgenmode none"
    return [Request(RTM_NEWLINK, 0, body, operation), link_up(index, name)]


def port_release(index: int, name: str) -> Request:
    """``ip link set NAME nomaster down``."""
    body = _IFINFO.pack(0, 0, index, 0, IFF_UP) + attribute(IFLA_MASTER, _U32.pack(0))
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} nomaster down")


def _address(kind: int, flags: int, verb: str, index: int, name: str, address: AddressWithPrefix) -> Request:
    packed = address.ip.packed
    prefix = address.network.prefixlen
    if address.version == 4:
        body = _IFADDR.pack(AF_INET, prefix, 0, 0, index) + attribute(_IFA_LOCAL, packed)
        body += attribute(_IFA_ADDRESS, packed)
    else:
        # Not "nodad": the address would never be marked tentative, and the end of that mark shows that it is usable.
        # Duplicate address detection is off anyway, by the baseline sysctls.
        body = _IFADDR.pack(AF_INET6, prefix, 0, 0, index) + attribute(_IFA_LOCAL, packed)
    return Request(kind, flags, body, f"ip address {verb} {address} dev {name}")


def address_add(index: int, name: str, address: AddressWithPrefix) -> Request:
    """``ip address add ADDRESS dev NAME``. ``Interface.wait_addresses`` waits until it can be used."""
    return _address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "add", index, name, address)


def address_delete(index: int, name: str, address: AddressWithPrefix) -> Request:
    """``ip address delete ADDRESS dev NAME``."""
    return _address(RTM_DELADDR, 0, "delete", index, name, address)


def address_dump(index: int = 0) -> Request:
    """``ip address show``. Without strict checking the kernel ignores the index, so callers filter the answer."""
    return Request(RTM_GETADDR, 0, _IFADDR.pack(AF_UNSPEC, 0, 0, 0, index), "ip address show")


_ROUTE = struct.Struct("=BBBBBBBBI")
_RTA_DST, _RTA_PRIORITY = 1, 6
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_NOWHERE = 0, 253, 255


def _route(
    kind: int, flags: int, verb: str, destination: Network, gateway: Address | None, index: int, options: RouteOptions
) -> Request:
    scope = _RT_SCOPE_UNIVERSE
    version = destination.version
    onward = gateway is not None or options.nexthop or any(hop.gateway is not None for hop in options.hops)
    if options.kind == "unicast" and not onward and version == 4 and kind == RTM_NEWROUTE:
        scope = _RT_SCOPE_LINK
    elif kind == RTM_DELROUTE and version == 4:
        scope = _RT_SCOPE_NOWHERE  # matches any scope
    body = _ROUTE.pack(
        family_of(destination),
        destination.prefixlen,
        0,
        0,
        options.table if options.table < 256 else 0,
        options.protocol,
        scope,
        ROUTE_KINDS[options.kind],
        RTNH_F_ONLINK if options.onlink and not options.hops else 0,
    )
    body += attribute(_RTA_DST, destination.network_address.packed) if destination.prefixlen else b""
    body += gateway_attribute(gateway, version) if gateway is not None else b""
    body += attribute(RTA_OIF, _U32.pack(index)) if index else b""
    body += attribute(_RTA_PRIORITY, _U32.pack(options.metric)) if options.metric else b""
    body += options_attributes(options, version)
    words = ["ip route", verb, *([options.kind] if options.kind != "unicast" else []), str(destination)]
    words += gateway_words(gateway, version) if gateway is not None else []
    words += options_words(options, version)
    return Request(kind, flags, body, " ".join(words))


def route_add(
    destination: Network, gateway: Address | None, index: int = 0, options: RouteOptions = PLAIN_ROUTE
) -> Request:
    """``ip route add``."""
    return _route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "add", destination, gateway, index, options)


def route_replace(
    destination: Network, gateway: Address | None, index: int = 0, options: RouteOptions = PLAIN_ROUTE
) -> Request:
    """``ip route replace``."""
    return _route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, "replace", destination, gateway, index, options)


def route_delete(
    destination: Network, gateway: Address | None = None, index: int = 0, options: RouteOptions = PLAIN_ROUTE
) -> Request:
    """``ip route delete``."""
    return _route(RTM_DELROUTE, 0, "delete", destination, gateway, index, options)


def route_get(address: Address) -> Request:
    """``ip route get ADDRESS``: the route that the kernel would use."""
    bits = address.max_prefixlen
    body = _ROUTE.pack(family_of(address), bits, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, address.packed)
    return Request(RTM_GETROUTE, 0, body, f"ip route get {address}")


class Selector(NamedTuple):
    """The properties of a packet, other than its destination, that its route can depend on (ip-rule(8)).

    Attributes:
        source: source address; None if none is chosen yet.
        iif: index of the incoming interface; 0 for a packet of the host itself.
        mark: firewall mark.
        protocol: IP protocol number; the kernel accepts TCP, UDP and ICMP here; 0 for any other.
        ports: source and destination port; 0: unknown.
    """

    source: Address | None = None
    iif: int = 0
    mark: int = 0
    protocol: int = 0
    ports: tuple[int, int] = (0, 0)


_RTA_SRC, _RTA_IIF, _RTA_MARK, _RTA_IP_PROTO, _RTA_SPORT, _RTA_DPORT = 2, 3, 16, 27, 28, 29
_RTM_F_LOOKUP_TABLE = 0x1000


def route_verdict(address: Address, packet: Selector) -> Request:
    """``ip route get ADDRESS from ... iif ... mark ... ipproto ... sport ... dport ...``: how a packet is routed."""
    bits = address.max_prefixlen
    source = bits if packet.source is not None else 0
    body = _ROUTE.pack(family_of(address), bits, source, 0, 0, 0, 0, 0, _RTM_F_LOOKUP_TABLE)
    body += attribute(_RTA_DST, address.packed)
    words = f"ip route get {address}"
    if packet.source is not None:
        body += attribute(_RTA_SRC, packet.source.packed)
        words += f" from {packet.source}"
    for kind, value, word in ((_RTA_IIF, packet.iif, "iif"), (_RTA_MARK, packet.mark, "mark")):
        if value:
            body += attribute(kind, _U32.pack(value))
            words += f" {word} {value}"
    if packet.protocol:
        body += attribute(_RTA_IP_PROTO, bytes([packet.protocol]))
        words += f" ipproto {packet.protocol}"
    for kind, value, word in ((_RTA_SPORT, packet.ports[0], "sport"), (_RTA_DPORT, packet.ports[1], "dport")):
        if value:
            body += attribute(kind, struct.pack("!H", value))
            words += f" {word} {value}"
    return Request(RTM_GETROUTE, 0, body, words)


def route_dump(family: int) -> Request:
    """``ip route show table all``."""
    return Request(
        RTM_GETROUTE, 0, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0), "ip route show table all"
    )


def neighbour_dump(family: int) -> Request:
    """``ip neighbour show``; with AF_BRIDGE, ``bridge fdb show``."""
    operation = "bridge fdb show" if family == AF_BRIDGE else "ip neighbour show"
    # For AF_BRIDGE the kernel expects an ifinfomsg, for the others an ndmsg. The first byte is the family in both, the
    # rest is zero.
    return Request(RTM_GETNEIGH, 0, struct.pack("=BBHiHBB4x", family, 0, 0, 0, 0, 0, 0), operation)
