"""Requests for nexthop objects (ip-nexthop(8)), and decoding of the answers. pyroute2 has no such messages."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from pytest_netns.addresses import Address
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, attribute, attributes

# From <linux/rtnetlink.h> and <linux/nexthop.h>.
RTM_NEWNEXTHOP, _RTM_DELNEXTHOP, _RTM_GETNEXTHOP = 104, 105, 106
_NHA_ID, _NHA_GROUP, _NHA_BLACKHOLE, _NHA_OIF, _NHA_GATEWAY = 1, 2, 4, 5, 6
_ONLINK = 4  # RTNH_F_ONLINK
_NHMSG = struct.Struct("=BBBxI")
_MEMBER = struct.Struct("=IBBH")
_U32 = struct.Struct("=I")
_PROTOCOL_BOOT = 3


@dataclass(frozen=True, slots=True)
class Nexthop:
    """A nexthop object: a line of ``ip nexthop show``. Routes refer to it with ``via=``.

    Attributes:
        id: its number.
        gateway: address of the next hop; None for a group, a blackhole, or a destination on the link.
        interface: name of the outgoing interface, or None.
        group: the members of a group by number, with their weights; empty if it is not a group.
        blackhole: whether it drops all packets.
        onlink: whether the next hop is assumed to be on the link.

    Example:
        >>> first, second = red.nexthops.add(blue), red.nexthops.add(router)
        >>> both = red.nexthops.add_group({first: 2, second: 1})
        >>> red.add_route("10.77.0.0/16", via=both)
    """

    id: int
    gateway: Address | None = None
    interface: str | None = None
    group: tuple[tuple[int, int], ...] = ()
    blackhole: bool = False
    onlink: bool = False

    def __str__(self) -> str:
        words = ["id", str(self.id)]
        if self.group:
            words += ["group", _members(self.group)]
        words += ["blackhole"] if self.blackhole else []
        words += ["via", str(self.gateway)] if self.gateway is not None else []
        words += ["dev", self.interface] if self.interface is not None else []
        return " ".join(words + (["onlink"] if self.onlink else []))


def _members(group: Sequence[tuple[int, int]]) -> str:
    """A group in ip-nexthop(8) syntax: ``1,3/2``."""
    return "/".join(f"{member},{weight}" if weight != 1 else str(member) for member, weight in group)


def nexthop_add(wanted: Nexthop, index: int, *, replace: bool = False) -> Request:
    """``ip nexthop add``, or ``replace``, with the index of its interface."""
    # AF_INET6 unless the gateway is IPv4: routes of both families can use an IPv6 nexthop object.
    family = 0 if wanted.group else AF_INET6
    if wanted.gateway is not None and wanted.gateway.version == 4:
        family = AF_INET
    body = _NHMSG.pack(family, 0, _PROTOCOL_BOOT, _ONLINK if wanted.onlink else 0)
    body += attribute(_NHA_ID, _U32.pack(wanted.id))
    if wanted.group:
        body += attribute(_NHA_GROUP, b"".join(_MEMBER.pack(each, weight - 1, 0, 0) for each, weight in wanted.group))
    body += attribute(_NHA_BLACKHOLE, b"") if wanted.blackhole else b""
    body += attribute(_NHA_GATEWAY, wanted.gateway.packed) if wanted.gateway is not None else b""
    body += attribute(_NHA_OIF, _U32.pack(index)) if index else b""
    flags, verb = (NLM_F_REPLACE, "replace") if replace else (NLM_F_EXCL, "add")
    return Request(RTM_NEWNEXTHOP, NLM_F_CREATE | flags, body, f"ip nexthop {verb} {wanted}")


def nexthop_delete(number: int) -> Request:
    """``ip nexthop delete id NUMBER``. The kernel removes the routes that use it, too."""
    body = _NHMSG.pack(0, 0, 0, 0) + attribute(_NHA_ID, _U32.pack(number))
    return Request(_RTM_DELNEXTHOP, 0, body, f"ip nexthop delete id {number}")


def nexthop_dump() -> Request:
    """``ip nexthop show``."""
    return Request(_RTM_GETNEXTHOP, 0, _NHMSG.pack(0, 0, 0, 0), "ip nexthop show")


def decode_nexthop(body: bytes, names: dict[int, str]) -> Nexthop:
    """Decode an RTM_NEWNEXTHOP message."""
    flags = _NHMSG.unpack_from(body)[3]
    found = attributes(body, _NHMSG.size)
    gateway = found.get(_NHA_GATEWAY)
    index = _U32.unpack(found[_NHA_OIF])[0] if _NHA_OIF in found else 0
    return Nexthop(
        id=_U32.unpack(found[_NHA_ID])[0],
        gateway=ip_address(gateway) if gateway else None,
        interface=names.get(index, f"if{index}") if index else None,
        group=tuple((each, weight + 1) for each, weight, _, _ in _MEMBER.iter_unpack(found.get(_NHA_GROUP, b""))),
        blackhole=_NHA_BLACKHOLE in found,
        onlink=bool(flags & _ONLINK),
    )


def nexthop_index(body: bytes) -> int:
    """The interface index in an RTM_NEWNEXTHOP message, 0 if it has none; nothing else is decoded."""
    found = attributes(body, _NHMSG.size).get(_NHA_OIF)
    return _U32.unpack(found)[0] if found else 0
