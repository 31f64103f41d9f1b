"""Restore: what the kernel forgets when a link goes down or a host crashes, remembered and brought back."""

from __future__ import annotations

import errno
import struct
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Request, attribute, attributes

if TYPE_CHECKING:
    from pytest_netns.interface import Interface
    from pytest_netns.namespace import Namespace

# From <linux/rtnetlink.h>. The kernel makes its own routes again, and routers advertise theirs again (RFC 4861).
_UNASKED = _RTPROT_KERNEL, _RTPROT_RA = 2, 9
_RTN_UNICAST = 1
_RTA_OIF, _RTA_MULTIPATH = 4, 9
_RTMSG = 12  # bytes of struct rtmsg
_ONLINK = 4  # RTNH_F_ONLINK, the one flag that somebody has set
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
        if body[7] == _RTN_UNICAST and attributes(body, _RTMSG).get(_RTA_OIF) == index
    ]


def _configured(node: Namespace) -> Iterable[bytes]:
    for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6):
        yield from (body for body in node.rtnl.dump(rtnetlink.route_dump(family)) if body[5] not in _UNASKED)


def restore_routes(node: Namespace, routes: Iterable[bytes], present: Container[int] | None = None) -> None:
    """Set routes as they were dumped, but those that have been set anew since.

    Args:
        node: where.
        routes: from ``configured_routes`` or ``routes_through``.
        present: indexes of interfaces: routes through others are left out.

    Raises:
        KernelError: the kernel refused one; the others are set.
    """
    refused: KernelError | None = None
    for body in routes:
        out = attributes(body, _RTMSG).get(_RTA_OIF)
        if present is not None and out is not None and struct.unpack("=I", out)[0] not in present:
            continue
        try:
            node.rtnl.batch(
                [Request(rtnetlink.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _revived(body), "ip route restore")]
            )
        except KernelError as error:
            if error.errno != errno.EEXIST:
                refused = refused or error
    if refused is not None:
        raise refused


def _revived(body: bytes) -> bytes:
    """A route without the marks of a missing carrier, which the kernel writes and does not read."""
    flags = struct.unpack_from("=I", body, 8)[0] & _ONLINK
    parts = [body[:8] + struct.pack("=I", flags)]
    for kind, value in attributes(body, _RTMSG).items():
        parts.append(attribute(kind, _revived_hops(value) if kind == _RTA_MULTIPATH else value))
    return b"".join(parts)


def _revived_hops(hops: bytes) -> bytes:
    """The same for the next hops of a multipath route (struct rtnexthop)."""
    found, position = bytearray(hops), 0
    while position + 8 <= len(hops):
        found[position + 2] &= _ONLINK
        position += max(8, (struct.unpack_from("=H", hops, position)[0] + 3) & ~3)
    return bytes(found)
