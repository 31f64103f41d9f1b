"""Device kinds: their options by ip-link(8) keyword, and the request that creates a device.

Encoded by hand, without pyroute2: most labs have bridges, whose options are encoded here; error messages need the
keywords and ranges in any case, and a column of attribute numbers costs less than the 180 ms of the import.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from pytest_netns.kernel.netlink.rtnetlink import (
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    NO_LINK_LOCAL,
    RTM_NEWLINK,
)
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, Request, attribute, attributes

IFLA_LINK = 5
_IFLA_LINK_NETNSID = 37
_RTM_NEWNSID, _RTM_GETNSID = 88, 90
_NETNSA_NSID, _NETNSA_FD = 1, 3

_IFINFO = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")

Value = int | str | IPv4Address | IPv6Address
Codec = Callable[[Value], bytes]


def number(form: str, low: int, high: int) -> Codec:
    """An encoder for integers. It raises ValueError, which gives the range."""

    def encode(value: Value) -> bytes:
        is_flag = isinstance(value, bool) and high > 1
        if is_flag or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"is {value!r}; it can be {low} to {high}")
        return struct.pack(form, value)

    return encode


def choice(form: str, words: Mapping[str, int]) -> Codec:
    """An encoder for keywords that stand for numbers. It raises ValueError, which lists the keywords."""

    def encode(value: Value) -> bytes:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"is {value!r}; it can be {', '.join(map(repr, words))}")
        return struct.pack(form, words[value])

    return encode


def packed_address(value: Value) -> bytes:
    """Encode an IP address in network byte order."""
    if not isinstance(value, IPv4Address | IPv6Address):
        raise ValueError(f"is {value!r}; it can be an address")
    return value.packed


class Option(NamedTuple):
    """An option of a kind of device.

    Attributes:
        word: the keyword of ip-link(8).
        number: number of its attribute within IFLA_INFO_DATA.
        encode: encodes the attribute's payload; raises ValueError.
        number6: number of the attribute for an IPv6 address, where that differs.
    """

    word: str
    number: int
    encode: Codec
    number6: int = 0


BOND_MODES = {
    "balance-rr": 0,
    "active-backup": 1,
    "balance-xor": 2,
    "broadcast": 3,
    "802.3ad": 4,
    "balance-tlb": 5,
    "balance-alb": 6,
}
BOND_ACTIVE = 2
VRF_TABLE = 1
BRIDGE_FORWARD_DELAY, BRIDGE_STP, BRIDGE_VLAN_FILTERING = 1, 5, 7
BRIDGE_ROOT_ID, BRIDGE_ID = 10, 11

_TWO_BYTES, _FOUR_BYTES = (1 << 16) - 1, (1 << 32) - 1
_PORT = number("!H", 1, _TWO_BYTES)
_INDEX = number("=I", 1, _FOUR_BYTES)
_NETWORK_ID = number("=I", 0, (1 << 24) - 1)
_MACVLAN = {"mode": Option("mode", 1, choice("=I", {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}))}
_GRE = {
    "link": Option("dev", 1, _INDEX),
    "_iflags": Option("iflags", 2, number("!H", 0, _TWO_BYTES)),
    "_oflags": Option("oflags", 3, number("!H", 0, _TWO_BYTES)),
    "_ikey": Option("ikey", 4, number("!I", 0, _FOUR_BYTES)),
    "_okey": Option("okey", 5, number("!I", 0, _FOUR_BYTES)),
    "local": Option("local", 6, packed_address),
    "remote": Option("remote", 7, packed_address),
    "ttl": Option("ttl", 8, number("=B", 0, 255)),
}
_IP_TUNNEL = {
    "link": Option("dev", 1, _INDEX),
    "local": Option("local", 2, packed_address),
    "remote": Option("remote", 3, packed_address),
    "ttl": Option("ttl", 4, number("=B", 0, 255)),
}
# Without it the tunnel adds a Tunnel Encapsulation Limit option, which also reduces the MTU (RFC 2473 4.1.1).
_NO_ENCAPSULATION_LIMIT = number("=I", 1, 1)

#: The options in IFLA_INFO_DATA by device kind and by the keyword of this package.
OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "bond": {
        "mode": Option("mode", 1, choice("=B", BOND_MODES)),
        "active": Option("active_slave", BOND_ACTIVE, number("=I", 0, _FOUR_BYTES)),
        "miimon": Option("miimon", 3, number("=I", 0, 1 << 31)),
    },
    "bridge": {
        "forward_delay": Option("forward_delay", BRIDGE_FORWARD_DELAY, number("=I", 0, 3000)),
        "hello_time": Option("hello_time", 2, number("=I", 100, 1000)),
        "max_age": Option("max_age", 3, number("=I", 600, 4000)),
        "stp": Option("stp_state", BRIDGE_STP, number("=I", 0, 1)),
        "priority": Option("priority", 6, number("=H", 0, _TWO_BYTES)),
        "vlan_filtering": Option("vlan_filtering", BRIDGE_VLAN_FILTERING, number("=B", 0, 1)),
    },
    "dummy": {},
    "geneve": {
        "vni": Option("id", 1, _NETWORK_ID),
        "remote": Option("remote", 2, packed_address, 7),
        "ttl": Option("ttl", 3, number("=B", 0, 255)),
        "port": Option("dstport", 5, _PORT),
    },
    "gre": _GRE,
    "gretap": _GRE,
    "ifb": {},
    "ip6gre": {**_GRE, "_flags": Option("encaplimit none", 13, _NO_ENCAPSULATION_LIMIT)},
    "ip6gretap": {**_GRE, "_flags": Option("encaplimit none", 13, _NO_ENCAPSULATION_LIMIT)},
    "ip6tnl": {**_IP_TUNNEL, "_flags": Option("encaplimit none", 8, _NO_ENCAPSULATION_LIMIT)},
    "ipip": _IP_TUNNEL,
    "ipvlan": {"mode": Option("mode", 1, choice("=H", {"l2": 0, "l3": 1, "l3s": 2}))},
    "macvlan": _MACVLAN,
    "macvtap": _MACVLAN,
    "sit": _IP_TUNNEL,
    "vlan": {
        "vid": Option("id", 1, number("=H", 1, 4094)),
        "protocol": Option("protocol", 5, choice("!H", {"802.1Q": 0x8100, "802.1ad": 0x88A8})),
    },
    "vrf": {"table": Option("table", VRF_TABLE, number("=I", 1, _FOUR_BYTES))},
    "vxlan": {
        "vni": Option("id", 1, _NETWORK_ID),
        "remote": Option("remote", 2, packed_address, 16),
        "link": Option("dev", 3, _INDEX),
        "local": Option("local", 4, packed_address, 17),
        "ttl": Option("ttl", 5, number("=B", 0, 255)),
        "learning": Option("learning", 7, number("=B", 0, 1)),
        "port": Option("dstport", 15, _PORT),
    },
    "wireguard": {},
}


#: The public keyword of an option that is encoded as several attributes.
_GIVEN_AS = {"_ikey": "key", "_okey": "key"}


def encode_options(kind: str, options: Mapping[str, Value]) -> bytes:
    """Encode the payload of IFLA_INFO_DATA.

    Raises:
        ValueError: a value is out of range; the message begins with the keyword.
    """
    body = b""
    for keyword, value in options.items():
        option = OPTIONS[kind][keyword]
        try:
            payload = option.encode(value)
        except ValueError as error:
            raise ValueError(f"{_GIVEN_AS.get(keyword, keyword)} {error}") from None
        wide = isinstance(value, IPv6Address) and option.number6
        body += attribute(option.number6 if wide else option.number, payload)
    return body


def _words(kind: str, options: Mapping[str, Value]) -> str:
    shown = []
    for keyword, value in options.items():
        if keyword in ("_iflags", "_oflags"):
            continue
        word = OPTIONS[kind][keyword].word
        shown.append(word if keyword == "_flags" else f"{word} {value}")
    return " ".join(["type", kind, *shown])


class LinkSpec(NamedTuple):
    """The specification of a device to create.

    Attributes:
        kind: device kind, as in IFLA_INFO_KIND.
        name: name of the device.
        ifindex: its interface index.
        options: options by the keywords of ``OPTIONS``.
        mac: MAC address; None: chosen by the kernel.
        mtu: MTU in bytes; None: chosen by the kernel.
        link: index and name of the lower device (IFLA_LINK).
        namespace: ID of the namespace of the lower device, see ``namespace_number``; None: the same namespace.
    """

    kind: str
    name: str
    ifindex: int
    options: Mapping[str, Value] = {}
    mac: bytes | None = None
    mtu: int | None = None
    link: tuple[int, str] | None = None
    namespace: int | None = None


def device(born: LinkSpec) -> Request:
    """``ip link add [link LOWER] NAME type KIND ...``; the device is down.

    Raises:
        ValueError: an option is out of range.
    """
    info = attribute(IFLA_INFO_KIND, born.kind.encode())
    if data := encode_options(born.kind, born.options):
        info += attribute(IFLA_INFO_DATA, data)
    body = _IFINFO.pack(0, 0, born.ifindex, 0, 0) + attribute(IFLA_IFNAME, born.name.encode() + b"\0")
    body += attribute(IFLA_ADDRESS, born.mac) if born.mac is not None else b""
    body += attribute(IFLA_MTU, _U32.pack(born.mtu)) if born.mtu is not None else b""
    body += attribute(IFLA_LINK, _U32.pack(born.link[0])) if born.link is not None else b""
    body += attribute(_IFLA_LINK_NETNSID, _U32.pack(born.namespace)) if born.namespace is not None else b""
    lower = f"link {born.link[1]} " if born.link is not None else ""
    words = f"ip link add {lower}{born.name} {_words(born.kind, born.options)}"
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + attribute(IFLA_LINKINFO, info), words)


def namespace_number(link: NetlinkSocket, fd: int) -> int:
    """The ID by which one namespace refers to another (nsid); assigned if there is none yet (``ip netns set``)."""
    which = bytes(4) + attribute(_NETNSA_FD, _U32.pack(fd))
    for _ in range(2):
        body = link.get(Request(_RTM_GETNSID, 0, which, "ip netns list-id"))
        number: int = struct.unpack("=i", attributes(body, 4)[_NETNSA_NSID])[0]
        if number >= 0:
            break
        any_free = attribute(_NETNSA_NSID, struct.pack("=i", -1))
        link.batch([Request(_RTM_NEWNSID, 0, which + any_free, "ip netns set auto")])
    return number


def change(index: int, name: str, kind: str, options: Mapping[str, Value]) -> Request:
    """``ip link set NAME type KIND ...``. Raises ValueError."""
    info = attribute(IFLA_INFO_KIND, kind.encode()) + attribute(IFLA_INFO_DATA, encode_options(kind, options))
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_LINKINFO, info)
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} {_words(kind, options)}")


def enslave(index: int, name: str, master: int, master_name: str) -> Request:
    """``ip link set NAME master MASTER``; ``nomaster`` if the index of the master is 0."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_MASTER, _U32.pack(master))
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} {f'master {master_name}' if master else 'nomaster'}")


def rename(index: int, name: str, wanted: str) -> Request:
    """``ip link set NAME name WANTED``. The device must be down."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_IFNAME, wanted.encode() + b"\0")
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} name {wanted}")


def set_mac(index: int, name: str, mac: bytes) -> Request:
    """``ip link set NAME address MAC``."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_ADDRESS, mac)
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} address {mac.hex(':')}")


def no_link_local(index: int, name: str) -> Request:
    """``ip link set NAME addrgenmode none``."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + NO_LINK_LOCAL
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} addrgenmode none")


def info_data(body: bytes) -> dict[int, bytes]:
    """The attributes of IFLA_INFO_DATA in the body of an RTM_NEWLINK message."""
    info = attributes(attributes(body, 16).get(IFLA_LINKINFO, b""))
    return attributes(info.get(IFLA_INFO_DATA, b""))
