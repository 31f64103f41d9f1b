"""Ip rules and the tables that they lead to, as bytes: what a host that crashes has again. Needs no pyroute2."""

from __future__ import annotations

import struct

from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, Request, attribute, attributes

# From <linux/fib_rules.h> and <linux/rtnetlink.h>.
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_FRA_PRIORITY, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_L3MDEV, _FRA_PROTOCOL = 6, 14, 15, 19, 21
_NO_SELECTORS = {_FRA_PRIORITY, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_PROTOCOL}
_LOOKUP = 1  # FR_ACT_TO_TBL
_HEADER = struct.Struct("=BBBBBBBBI")
_UNSET = b"\xff" * 4
_INVERT = 2  # FIB_RULE_INVERT; the kernel sets the other flags itself
#: Priorities and tables of the rules that every namespace has from the start.
_FROM_START = {(0, 255), (32766, 254), (32767, 253)}


def configured_rules(rtnl: NetlinkSocket) -> list[bytes]:
    """The rules that somebody has added; without the one that the kernel makes for VRFs."""
    found: list[bytes] = []
    for family in (AF_INET, AF_INET6):
        for body in rtnl.dump(Request(_RTM_GETRULE, 0, _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "ip rule show")):
            parts = attributes(body, _HEADER.size)
            if not _is_from_start(body, parts) and parts.get(_FRA_L3MDEV, b"\0") == b"\0":
                found.append(rule_again(body))
    return found


def _is_from_start(body: bytes, parts: dict[int, bytes]) -> bool:
    """Whether it is one of the rules that every namespace has; others may have their priorities."""
    _, destination, source, tos, _, _, _, action, flags = _HEADER.unpack_from(body)
    return (
        (_number(parts, _FRA_PRIORITY), _number(parts, _FRA_TABLE)) in _FROM_START
        and not (destination or source or tos or flags & _INVERT)
        and action == _LOOKUP
        and parts.get(_FRA_SUPPRESS_PREFIXLEN, _UNSET) == _UNSET
        and set(parts) <= _NO_SELECTORS
    )


def rule_again(body: bytes) -> bytes:
    """A rule as the kernel dumps it, in the form in which it takes it: without its own flags, with the priority."""
    *header, flags = _HEADER.unpack_from(body)
    parts = {_FRA_PRIORITY: bytes(4)} | attributes(body, _HEADER.size)  # 0 is not dumped, and would be chosen anew
    return _HEADER.pack(*header, flags & _INVERT) + b"".join(attribute(*each) for each in parts.items())


def table_of(rule: bytes) -> int:
    """The table that a rule leads to; 0 if to none."""
    return _number(attributes(rule, _HEADER.size), _FRA_TABLE)


def rule_restored(rule: bytes) -> Request:
    """Add it again."""
    return Request(_RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule, "ip rule restore")


def rule_deleted(rule: bytes, words: str) -> Request:
    """Delete the first of its priority that it describes; ``words`` tell what is done, in the syntax of ip-rule(8)."""
    return Request(_RTM_DELRULE, 0, rule, words)


def _number(parts: dict[int, bytes], kind: int) -> int:
    return struct.unpack("=I", parts[kind])[0] if kind in parts else 0
