"""Ip rules and the tables that they lead to, as bytes: what a host that crashes has again. Needs no pyroute2."""

from __future__ import annotations

import struct

from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, Request, attribute, attributes

# From <linux/fib_rules.h> and <linux/rtnetlink.h>.
_RTM_NEWRULE, _RTM_GETRULE = 32, 34
_FRA_PRIORITY, _FRA_TABLE, _FRA_L3MDEV = 6, 15, 19
_HEADER = struct.Struct("=BBBBBBBBI")
_INVERT = 2  # FIB_RULE_INVERT; the kernel sets the other flags itself
#: Of the rules that every namespace has from the start.
_FROM_START = {0, 32766, 32767}


def configured_rules(rtnl: NetlinkSocket) -> list[bytes]:
    """The rules that somebody has added; without the one that the kernel makes for VRFs."""
    found: list[bytes] = []
    for family in (AF_INET, AF_INET6):
        for body in rtnl.dump(Request(_RTM_GETRULE, 0, _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "ip rule show")):
            parts = attributes(body, _HEADER.size)
            if _number(parts, _FRA_PRIORITY) not in _FROM_START and parts.get(_FRA_L3MDEV, b"\0") == b"\0":
                *header, flags = _HEADER.unpack_from(body)
                again = b"".join(attribute(kind, value) for kind, value in parts.items())
                found.append(_HEADER.pack(*header, flags & _INVERT) + again)
    return found


def table_of(rule: bytes) -> int:
    """The table that a rule leads to; 0 if to none."""
    return _number(attributes(rule, _HEADER.size), _FRA_TABLE)


def rule_restored(rule: bytes) -> Request:
    """Add it again."""
    return Request(_RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule, "ip rule restore")


def _number(parts: dict[int, bytes], kind: int) -> int:
    return struct.unpack("=I", parts[kind])[0] if kind in parts else 0
