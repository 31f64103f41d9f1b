"""Restore: what the kernel forgets when a link goes down or a host crashes, remembered and brought back."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Request, attributes

if TYPE_CHECKING:
    from pytest_netns.interface import Interface
    from pytest_netns.lab.link import Link
    from pytest_netns.namespace import Namespace

# From <linux/rtnetlink.h>. The kernel makes its own routes again, and routers advertise theirs again (RFC 4861).
_UNASKED = _RTPROT_KERNEL, _RTPROT_RA = 2, 9
_RTN_UNICAST = 1
_RTA_OIF = 4
_TABLE_MAIN = 254


def configured_routes(node: Namespace) -> list[bytes]:
    """The routes of the main table that somebody has set, as the kernel dumps them."""
    return [body for body in _configured(node) if body[4] == _TABLE_MAIN]


def routes_through(interface: Interface) -> list[bytes]:
    """The routes of all tables that somebody has set through an interface, as the kernel dumps them."""
    index = struct.pack("=I", interface.index)
    return [
        body
        for body in _configured(interface.node)
        if body[7] == _RTN_UNICAST and attributes(body, 12).get(_RTA_OIF) == index
    ]


def _configured(node: Namespace) -> Iterable[bytes]:
    for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6):
        yield from (body for body in node.rtnl.dump(rtnetlink.route_dump(family)) if body[5] not in _UNASKED)


def restore_routes(node: Namespace, routes: Iterable[bytes]) -> None:
    """Set routes as they were dumped. Raises KernelError, e.g. for one whose interface is down."""
    for body in routes:
        node.rtnl.batch([Request(rtnetlink.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, "ip route restore")])


def restore_mtu(link: Link, end: Interface, mtu: int) -> None:
    """Give an end of a link its mtu back, if it is still there."""
    if not link.removed and not end.node.closed:
        end.mtu = mtu
