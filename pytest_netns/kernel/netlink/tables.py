"""Links, addresses, routes and neighbours as frozen values, decoded from the kernel's answers.

Decoding only, no sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_network,
)
from typing import Literal

from pytest_netns.addresses import Address, AddressWithPrefix, Network
from pytest_netns.kernel.netlink.route_options import (
    ROUTE_METRICS,
    RT_TABLE_MAIN,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTAX_LOCK,
    RTNH_F_ONLINK,
    gateway_words,
)
from pytest_netns.kernel.netlink.rtnetlink import (
    AF_INET,
    AF_INET6,
    IFF_RUNNING,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_BRPORT_STATE,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_OPERSTATE,
)
from pytest_netns.kernel.netlink.socket import attributes

_IFA_F_TENTATIVE = 0x40

_OPERATIONAL = {0: "UNKNOWN", 1: "NOTPRESENT", 2: "DOWN", 3: "LOWERLAYERDOWN", 4: "TESTING", 5: "DORMANT", 6: "UP"}
_PORT_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}
_ROUTE_TYPES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
_NEIGHBOUR_STATES = {
    0x01: "INCOMPLETE",
    0x02: "REACHABLE",
    0x04: "STALE",
    0x08: "DELAY",
    0x10: "PROBE",
    0x20: "FAILED",
    0x40: "NOARP",
    0x80: "PERMANENT",
}
_PROTOCOLS = {0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 186: "bgp", 188: "ospf"}
_RTM_F_CLONED = 0x200
_IFLA_CARRIER = 33


def mac_text(raw: bytes) -> str:
    """A MAC address as text: ``02:00:5e:10:00:01``."""
    return raw.hex(":")


def _u32(raw: bytes | None) -> int:
    return struct.unpack("=I", raw)[0] if raw else 0


@dataclass(frozen=True, slots=True)
class LinkState:
    """A line of ``ip link show``.

    Attributes:
        index: number of the device in its namespace.
        name: of the device.
        mac: its MAC address.
        mtu: maximum size of an IP packet in bytes.
        flags: IFF_UP, IFF_RUNNING, ... (netdevice(7)).
        operstate: ``UP``, ``DOWN``, ``LOWERLAYERDOWN``, ``UNKNOWN``, ... (RFC 2863).
        master: index of the bridge that it is a port of; 0 if it is no port.
        kind: ``veth``, ``bridge``, ...; empty for hardware and loopback.
        carrier: whether the device has a carrier.
        port_state: of a bridge port: ``forwarding``, ``disabled``, ...; else empty.

    Example:
        >>> red.interfaces["eth0"].state.operstate
    """

    index: int
    name: str
    mac: str
    mtu: int
    flags: int
    operstate: str
    master: int
    kind: str
    carrier: bool
    port_state: str

    @property
    def is_up(self) -> bool:
        """Whether it can carry frames now: administratively up, with a carrier (operational state, RFC 2863)."""
        # IFF_RUNNING may be cleared up to a second after the carrier is lost (net/core/link_watch.c; seen on Linux 6.1,
        # not on 6.18).
        return bool(self.flags & IFF_UP and self.flags & IFF_RUNNING and self.carrier)

    @property
    def is_set_up(self) -> bool:
        """Whether it is administratively up, with or without a carrier."""
        return bool(self.flags & IFF_UP)


@dataclass(frozen=True, slots=True)
class AddressEntry:
    """A line of ``ip address show``."""

    index: int
    address: AddressWithPrefix
    scope: Literal["global", "site", "link", "host", "nowhere"]


@dataclass(frozen=True, slots=True)
class Route:
    """A line of ``ip route show``.

    Attributes:
        destination: the network; ``0.0.0.0/0`` and ``::/0`` are the default routes.
        gateway: the next hop, or None where the destination is on the link.
        interface: name of the outgoing interface, or None.
        source: the preferred source address, or None.
        metric: the lowest wins.
        kind: ``unicast``, ``local``, ``blackhole``, ``unreachable``, ``prohibit``, ...
        table: routing table number; 254 is main.
        protocol: origin of the route: ``kernel``, ``boot``, ``static``, a number, ...
        weight: weight of this next hop; each next hop of a multipath route is an entry of its own.
        mtu: MTU of the route in bytes; 0: that of the interface.
        advmss: the MSS that TCP advertises, in bytes; 0: derived from the MTU.
        locked: which of ``mtu`` and ``advmss`` path MTU discovery does not change.
        onlink: whether the next hop is assumed to be on the link.
        nexthop: number of the nexthop object that it uses (ip-nexthop(8)); 0: none.

    Example:
        >>> [route.destination for route in red.routes()]
    """

    destination: Network
    gateway: Address | None
    interface: str | None
    source: Address | None
    metric: int
    kind: str
    table: int
    protocol: str
    weight: int = 1
    mtu: int = 0
    advmss: int = 0
    locked: tuple[str, ...] = ()
    onlink: bool = False
    nexthop: int = 0

    def __str__(self) -> str:
        words = [] if self.kind == "unicast" else [self.kind]
        words.append("default" if self.destination.prefixlen == 0 else str(self.destination))
        words += gateway_words(self.gateway, self.destination.version) if self.gateway else []
        words += ["dev", self.interface] if self.interface else []
        words += ["src", str(self.source)] if self.source else []
        words += ["metric", str(self.metric)] if self.metric else []
        words += ["table", str(self.table)] if self.table != RT_TABLE_MAIN else []
        words += ["weight", str(self.weight)] if self.weight != 1 else []
        for name, value in (("mtu", self.mtu), ("advmss", self.advmss)):
            words += [name, *(["lock"] if name in self.locked else []), str(value)] if value else []
        words += ["nhid", str(self.nexthop)] if self.nexthop else []
        words += ["onlink"] if self.onlink else []
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A line of ``ip neighbour show``: the MAC address that an IP address resolves to, and the state of the entry.

    Attributes:
        address: IP address of the neighbour.
        mac: its MAC address; None while it is unresolved.
        interface: name of the interface that leads to it.
        state: ``REACHABLE``, ``STALE``, ``INCOMPLETE``, ``FAILED``, ``PERMANENT``, ... (ip-neighbour(8)).

    Example:
        >>> [(neighbour.address, neighbour.mac) for neighbour in red.neighbours()]
    """

    address: Address
    mac: str | None
    interface: str
    state: str


@dataclass(frozen=True, slots=True)
class ForwardingEntry:
    """A line of ``bridge fdb show``: the port of a bridge that a MAC address is behind.

    Attributes:
        mac: the MAC address.
        port: name of the port, or of the bridge device.
        state: ``reachable``, ``stale``, ``static``, or ``permanent`` for the bridge's own addresses.

    Example:
        >>> [(entry.mac, entry.port) for entry in lan.fdb()]
    """

    mac: str
    port: str
    state: str


def decode_link(body: bytes) -> LinkState:
    """Decode the body of an RTM_NEWLINK message."""
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
    found = attributes(body, 16)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    of_bridge = IFLA_MASTER in found and info.get(IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"bridge"
    port = attributes(info.get(IFLA_INFO_SLAVE_DATA, b"")) if of_bridge else {}
    operstate = found.get(IFLA_OPERSTATE, b"\0")[0]
    state = port.get(IFLA_BRPORT_STATE)
    return LinkState(
        index=index,
        name=found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        mac=mac_text(found.get(IFLA_ADDRESS, b"")),
        mtu=_u32(found.get(IFLA_MTU)),
        flags=flags,
        operstate=_OPERATIONAL.get(operstate, str(operstate)),
        master=_u32(found.get(IFLA_MASTER)),
        kind=info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        carrier=found.get(_IFLA_CARRIER, b"\1")[0] != 0,
        port_state=_PORT_STATES.get(state[0], str(state[0])) if state else "",
    )


_SCOPES: dict[int, Literal["global", "site", "link", "host", "nowhere"]] = {
    0: "global",
    200: "site",
    253: "link",
    254: "host",
    255: "nowhere",
}


_ADDRESS = struct.Struct("=BBBBI")
_SCOPE_HOST = 254


def decode_address(body: bytes) -> AddressEntry:
    """Decode the body of an RTM_NEWADDR message."""
    family, prefix, _, scope, index = _ADDRESS.unpack_from(body)
    found = attributes(body, 8)
    raw = found.get(2) or found[1]  # IFA_LOCAL; on a point-to-point link, IFA_ADDRESS is the peer's address
    address: AddressWithPrefix = IPv4Interface((raw, prefix)) if family == AF_INET else IPv6Interface((raw, prefix))
    return AddressEntry(index, address, _SCOPES.get(scope, "global"))


def is_tentative(body: bytes, index: int) -> bool:
    """Whether an RTM_NEWADDR message is about a tentative address of an interface; nothing else is decoded."""
    _, _, flags, _, of_interface = _ADDRESS.unpack_from(body)
    return of_interface == index and bool(flags & _IFA_F_TENTATIVE)


def is_of_host(body: bytes) -> bool:
    """Whether an RTM_NEWADDR message is about 127.0.0.1 or ::1 (scope host); nothing else is decoded."""
    return body[3] == _SCOPE_HOST


def is_link_local(address: AddressWithPrefix) -> bool:
    """As ``addresses.is_of_link``, ten times as fast (fe80::/10; no IPv4 address counts)."""
    return address.version == 6 and int(address) >> 118 == 0x3FA


#: Index of the loopback interface in every namespace.
LOOPBACK = 1
#: Sorts after all other interfaces.
_LAST = 1 << 32


def in_order(entries: Iterable[AddressEntry]) -> list[AddressWithPrefix]:
    """Sort addresses by family and interface, in the order they were added: IPv4 first, IPv6 link-local ones last.

    Loopback addresses come after those of other interfaces, as neighbours cannot reach them without a route.

    The kernel lists IPv4 addresses in that order, but IPv6 addresses newest first (ipv6_link_dev_addr()).
    """
    rank: dict[int, int] = {}
    rows = []
    for position, entry in enumerate(entries):
        address = entry.address
        place = rank.setdefault(entry.index, len(rank)) if entry.index != LOOPBACK else _LAST
        rows.append((is_link_local(address), address.version, place, (5 - address.version) * position, address))
    return [row[-1] for row in sorted(rows, key=lambda row: row[:-1])]


def is_cached(body: bytes) -> bool:
    """Whether an RTM_NEWROUTE message is about a cached route exception, i.e. a learnt path MTU or redirect.

    The kernel lists these among the routes; ``ip route`` leaves them out, too.
    """
    return bool(struct.unpack_from("=I", body, 8)[0] & _RTM_F_CLONED)


def decode_route(body: bytes, names: dict[int, str]) -> list[Route]:
    """Decode an RTM_NEWROUTE message: one route for each next hop."""
    family, prefix, _, _, table, protocol, _, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    found = attributes(body, 12)
    raw = found.get(1) or bytes(4 if family == AF_INET else 16)
    hops: list[tuple[bytes | None, int, int, int]] = []
    multipath = found.get(RTA_MULTIPATH, b"")
    offset = 0
    while offset + 8 <= len(multipath):
        size, hop_flags, weight, index = struct.unpack_from("=HBBi", multipath, offset)
        if size < 8:
            break
        hops.append((_gateway(attributes(multipath[offset + 8 : offset + size])), index, weight + 1, hop_flags))
        offset += (size + 3) & ~3
    if not hops:
        hops = [(_gateway(found), _u32(found.get(4)), 1, flags)]
    metrics = attributes(found.get(RTA_METRICS, b""))
    lock = _u32(metrics.get(RTAX_LOCK))
    return [
        Route(
            destination=ip_network((raw, prefix)),
            gateway=ip_address(gateway) if gateway else None,
            interface=names.get(index, f"if{index}") if index else None,
            source=ip_address(found[7]) if 7 in found else None,
            metric=_u32(found.get(6)),
            kind=_ROUTE_TYPES.get(kind, str(kind)),
            table=_u32(found.get(15)) or table,
            protocol=_PROTOCOLS.get(protocol, str(protocol)),
            weight=weight,
            mtu=_u32(metrics.get(ROUTE_METRICS["mtu"])),
            advmss=_u32(metrics.get(ROUTE_METRICS["advmss"])),
            locked=tuple(name for name, number in ROUTE_METRICS.items() if lock & 1 << number),
            onlink=bool(hop_flags & RTNH_F_ONLINK),
            nexthop=_u32(found.get(RTA_NH_ID)),
        )
        for gateway, index, weight, hop_flags in hops
    ]


def _gateway(found: dict[int, bytes]) -> bytes | None:
    if 5 in found:
        return found[5]
    via = found.get(18)  # RTA_VIA: family, then address: the IPv6 next hop of an IPv4 route (RFC 8950)
    return via[2:] if via else None


def decode_neighbour(body: bytes, names: dict[int, str]) -> Neighbour | None:
    """Decode an RTM_NEWNEIGH message; None for an entry without an IP address."""
    family, index, state = struct.unpack_from("=B3xiH", body)
    found = attributes(body, 12)
    if family not in (AF_INET, AF_INET6) or 1 not in found:
        return None
    mac = found.get(2)
    return Neighbour(
        address=ip_address(found[1]),
        mac=mac_text(mac) if mac else None,
        interface=names.get(index, f"if{index}"),
        state=_NEIGHBOUR_STATES.get(state, str(state)),
    )


def decode_forwarding(body: bytes, names: dict[int, str]) -> ForwardingEntry | None:
    """Decode an RTM_NEWNEIGH message about a bridge's FDB entry."""
    _, index, state = struct.unpack_from("=B3xiH", body)
    mac = attributes(body, 12).get(2)
    if mac is None:
        return None
    text = {0x80: "permanent", 0x02: "reachable", 0x04: "stale", 0x40: "static"}.get(state, str(state))
    return ForwardingEntry(mac_text(mac), names.get(index, f"if{index}"), text)
