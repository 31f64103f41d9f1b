"""The attributes of a route other than its destination: next hops, metrics, table; and their rtnetlink(7) encoding."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_netns.addresses import Address
from pytest_netns.kernel.netlink.socket import attribute

RTPROT_BOOT, RTPROT_STATIC = 3, 4
RT_TABLE_MAIN = 254
#: Route types of ip-route(8) that a lab can ask for.
ROUTE_KINDS = {"unicast": 1, "blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}
#: Route metrics that can be locked, with their numbers in <linux/rtnetlink.h> (RTAX_*).
ROUTE_METRICS = {"mtu": 2, "advmss": 8}

RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_NH_ID = 4, 5, 7, 8, 9, 15, 18, 30
RTAX_LOCK = 1
RTNH_F_ONLINK = 4
_HOP = struct.Struct("=HBBi")
_U32 = struct.Struct("=I")


class Hop(NamedTuple):
    """A next hop of a multipath route: its address, or None if on the link; its interface; its weight."""

    gateway: Address | None
    ifindex: int = 0
    weight: int = 1


class RouteOptions(NamedTuple):
    """The optional attributes of a route.

    Attributes:
        kind: route type, see ``ROUTE_KINDS``.
        metric: the lowest wins; 0: the kernel's default.
        protocol: origin of the route (RTPROT_*).
        table: number of the routing table.
        source: preferred source address of the host's own packets.
        mtu: MTU in bytes; 0: that of the interface.
        advmss: the MSS that TCP advertises, in bytes; 0: derived from the MTU.
        locked: which of these two path MTU discovery must not change.
        onlink: whether next hops are assumed to be on the link.
        hops: the next hops of a multipath route; else empty.
        nexthop: number of a nexthop object, instead of next hops; 0: none.
    """

    kind: str = "unicast"
    metric: int = 0
    protocol: int = RTPROT_BOOT
    table: int = RT_TABLE_MAIN
    source: Address | None = None
    mtu: int = 0
    advmss: int = 0
    locked: tuple[str, ...] = ()
    onlink: bool = False
    hops: tuple[Hop, ...] = ()
    nexthop: int = 0


PLAIN_ROUTE = RouteOptions()


def gateway_attribute(gateway: Address, version: int) -> bytes:
    """Encode the next hop of an IPv``version`` route; IPv4 routes may have an IPv6 next hop (RFC 8950)."""
    if gateway.version == version:
        return attribute(RTA_GATEWAY, gateway.packed)
    return attribute(RTA_VIA, struct.pack("=H", 10) + gateway.packed)


def options_attributes(options: RouteOptions, version: int) -> bytes:
    """Encode the attributes of an IPv``version`` route other than its destination."""
    body = attribute(RTA_PREFSRC, options.source.packed) if options.source is not None else b""
    if options.table > 255:
        body += attribute(RTA_TABLE, _U32.pack(options.table))
    lock = sum(1 << ROUTE_METRICS[name] for name in options.locked)
    metrics = attribute(RTAX_LOCK, _U32.pack(lock)) if lock else b""
    for name, value in (("mtu", options.mtu), ("advmss", options.advmss)):
        metrics += attribute(ROUTE_METRICS[name], _U32.pack(value)) if value else b""
    body += attribute(RTA_METRICS, metrics) if metrics else b""
    body += attribute(RTA_NH_ID, _U32.pack(options.nexthop)) if options.nexthop else b""
    if options.hops:
        body += attribute(RTA_MULTIPATH, b"".join(_encoded(hop, options.onlink, version) for hop in options.hops))
    return body


def _encoded(hop: Hop, onlink: bool, version: int) -> bytes:
    gateway = gateway_attribute(hop.gateway, version) if hop.gateway is not None else b""
    flags = RTNH_F_ONLINK if onlink and gateway else 0
    return _HOP.pack(_HOP.size + len(gateway), flags, hop.weight - 1, hop.ifindex) + gateway


def options_words(options: RouteOptions, version: int) -> list[str]:
    """The same attributes in ip-route(8) syntax."""
    words = ["src", str(options.source)] if options.source is not None else []
    words += ["metric", str(options.metric)] if options.metric else []
    words += ["table", str(options.table)] if options.table != RT_TABLE_MAIN else []
    for name, value in (("mtu", options.mtu), ("advmss", options.advmss)):
        words += [name, *(["lock"] if name in options.locked else []), str(value)] if value else []
    words += ["nhid", str(options.nexthop)] if options.nexthop else []
    for hop in options.hops:
        words += ["nexthop", *(gateway_words(hop.gateway, version) if hop.gateway is not None else [])]
        words += ["weight", str(hop.weight)] if hop.weight != 1 else []
    return words + (["onlink"] if options.onlink else [])


def gateway_words(gateway: Address, version: int) -> list[str]:
    """``via ADDRESS``, or ``via inet6 ADDRESS`` for an IPv6 next hop of an IPv4 route."""
    return ["via", *(["inet6"] if gateway.version != version else []), str(gateway)]
