"""Configured addresses: what somebody has given to an interface, with all details, so that it can be given again."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.rtnetlink import RTM_NEWADDR
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, Request, attribute, attributes
from pytest_netns.kernel.netlink.tables import decode_address, is_of_host

_IFADDRMSG = struct.Struct("=BBBBI")
# From <linux/if_addr.h>: local and far address, label, broadcast, lifetimes, metric of its route.
_IFA_LOCAL, _IFA_FLAGS = 2, 8
_SET = (1, _IFA_LOCAL, 3, 4, 6, 9)
# nodad, home, mngtmpaddr, noprefixroute, autojoin: those that somebody sets. The others are the kernel's.
_FLAGS_SET = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
_PERMANENT = 0x80


@dataclass(frozen=True, slots=True)
class ConfiguredAddress:
    """An address of an interface. Two are equal if they are the same address of the same interface.

    Attributes:
        index: of the interface.
        address: with its prefix.
        details: the rest, as rtnetlink(7) has it; empty for the usual.
        of_host: whether it is 127.0.0.1 or its like, which leads nowhere.
    """

    index: int
    address: AddressWithPrefix
    details: bytes = field(default=b"", compare=False)
    of_host: bool = field(default=False, compare=False)

    def request(self, name: str) -> Request:
        """What gives it again to its interface, which has this ``name``."""
        if not self.details:
            return rtnetlink.address_add(self.index, name, self.address)
        words = f"ip address restore {self.address} dev {name}"
        return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _renewed(self.details), words)


def configured_addresses(rtnl: NetlinkSocket, index: int = 0) -> list[ConfiguredAddress]:
    """Those of one interface, or of all, in the order of their adding.

    Not those of IPv6 that last for a while only: routers advertise theirs again (RFC 4862).
    """
    bodies = [body for body in rtnl.dump(rtnetlink.address_dump(index)) if _is_wanted(body, index)]
    # The kernel lists IPv4 addresses in the order of their adding, and IPv6 ones the other way round.
    four = [body for body in bodies if body[0] == rtnetlink.AF_INET]
    six = [body for body in bodies if body[0] != rtnetlink.AF_INET]
    return [_decoded(body) for body in (*four, *reversed(six))]


def _decoded(body: bytes) -> ConfiguredAddress:
    entry = decode_address(body)
    return ConfiguredAddress(entry.index, entry.address, body, is_of_host(body))


def _is_wanted(body: bytes, index: int) -> bool:
    family, _, _, _, of = _IFADDRMSG.unpack_from(body)
    return index in (0, of) and (family == rtnetlink.AF_INET or bool(_flags(body) & _PERMANENT))


def _flags(body: bytes) -> int:
    wide = attributes(body, _IFADDRMSG.size).get(_IFA_FLAGS)
    return body[2] if wide is None else int(struct.unpack("=I", wide)[0])


def _renewed(body: bytes) -> bytes:
    """The request that gives an address, made of the answer that lists it."""
    family, prefix, _, scope, index = _IFADDRMSG.unpack_from(body)
    parts = [_IFADDRMSG.pack(family, prefix, 0, scope, index)]
    parts += [attribute(kind, value) for kind, value in attributes(body, _IFADDRMSG.size).items() if kind in _SET]
    parts.append(attribute(_IFA_FLAGS, struct.pack("=I", _flags(body) & _FLAGS_SET)))
    return b"".join(parts)
