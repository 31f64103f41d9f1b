"""Stale caches: what a kernel remembers of a fault that is over, and would go by for seconds or minutes.

Path MTUs and redirects are kept as exceptions of routes for ten minutes (``net.ipv4.route.mtu_expires``). A neighbour
that did not answer is asked once a second, and packets for it wait meanwhile.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from pytest_netns.errors import KernelError
from pytest_netns.kernel import sysctl
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NLM_F_REPLACE, Request, attribute, attributes
from pytest_netns.kernel.netlink.tables import is_cached
from pytest_netns.kernel.syscalls import entered
from pytest_netns.stack.namespace import Namespace

_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_NDMSG = struct.Struct("=BxxxiHBB")  # family, interface, state, flags, type
_NDA_DST = 1
_NUD_INCOMPLETE, _NUD_FAILED = 0x01, 0x20
_NTF_USE, _NTF_EXT_LEARNED = 0x01, 0x10
#: The entry, its interface, or the way to it went meanwhile.
_GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EINVAL)


def flush_stale(node: Namespace) -> None:
    """Have a kernel forget exceptions of routes and failed neighbours, and ask at once for those that it waits for.

    Args:
        node: whose.

    Raises:
        KernelError: the kernel refused.
    """
    try:
        with entered(node):
            sysctl.write("net.ipv4.route.flush", "1")
    except OSError as error:
        raise KernelError.of(error, "ip route flush cache", node.name) from error
    for request in (*_cached_routes(node), *_neighbours(node)):
        try:
            node.rtnl.batch([request])
        except KernelError as error:
            if error.errno not in _GONE:
                raise


def _cached_routes(node: Namespace) -> Iterator[Request]:
    """To delete the exceptions of IPv6, which its own sysctl leaves until they expire (fib6_age_exceptions())."""
    for body in node.rtnl.dump(rtnetlink.route_dump(rtnetlink.AF_INET6)):
        if is_cached(body):
            yield Request(rtnetlink.RTM_DELROUTE, 0, body, "ip -6 route flush cache")


def _neighbours(node: Namespace) -> Iterator[Request]:
    for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6):
        for body in node.rtnl.dump(rtnetlink.neighbour_dump(family)):
            _, _, state, flags, _ = _NDMSG.unpack_from(body)
            kept = flags & _NTF_EXT_LEARNED  # one of ``Lab(neighbours="known")`` is still not to count as others do
            if state & _NUD_FAILED:
                yield (
                    _about(body, _RTM_NEWNEIGH, "replace nud none", kept)
                    if kept
                    else _about(body, _RTM_DELNEIGH, "delete")
                )
            elif state & _NUD_INCOMPLETE:
                # Deleting it would refuse the packets that wait for it. Set back, it is asked for by the next use.
                yield _about(body, _RTM_NEWNEIGH, "replace nud none", kept)
                yield _about(body, _RTM_NEWNEIGH, "replace use", kept | _NTF_USE)


def _about(body: bytes, kind: int, what: str, flags: int = 0) -> Request:
    """A request about an entry, which an RTM_NEWNEIGH message tells of."""
    family, index, *_ = _NDMSG.unpack_from(body)
    address = attribute(_NDA_DST, attributes(body, _NDMSG.size).get(_NDA_DST, b""))
    verb = NLM_F_REPLACE if kind == _RTM_NEWNEIGH else 0
    return Request(kind, verb, _NDMSG.pack(family, index, 0, flags, 0) + address, f"ip neighbour {what}")
