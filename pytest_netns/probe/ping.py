"""Ping: echo requests to one destination."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

from pytest_netns.checks import check_range, check_whole
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.probe.group import group_interface
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.probe_sockets import (
    open_sockets,
    set_group_interface,
    set_group_ttl,
)
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Origin, Source, origin
from pytest_netns.topology import transit
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    pass
from pytest_netns.probe.echo import LARGEST_PAYLOAD, Exchange, configure
from pytest_netns.probe.ping_result import PingResult


def ping(
    node: BaseNode,
    destination: Destination,
    *,
    count: int = 1,
    interval: float = 0.0,
    timeout: float = 1.0,
    size: int = 56,
    ttl: int = 64,
    df: bool = False,
    source: Source | None = None,
) -> PingResult:
    """Send ICMP echo requests (RFC 792, RFC 4443) and wait for the replies. Truthy if all were answered.

    A reply from another address than was asked, or with a wrong checksum, is none; ``error`` tells of it. Of a
    broadcast address or a multicast group all who reply within the timeout are listed in ``responders``.

    Args:
        destination: a node, an interface or an address.
        count: number of requests, 1 to 65535.
        interval: seconds between requests, 0 to 3600; 0 sends the next one when the reply has arrived.
        timeout: seconds to wait for each reply, 0 to 3600.
        size: payload in bytes, as ``ping -s``.
        ttl: time to live (hop limit), 1 to 255.
        df: forbid fragmentation, as ``ping -M do``.
        source: an address or an interface of this node, by object or name, to send from; None: chosen by
            the routes.

    Raises:
        TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
            be understood; or the source is none of this node's.
        ValueError: a number is out of range.

    Example:
        >>> assert red.ping(blue)
        >>> red.ping(blue, count=5, size=1400, df=True).loss
    """
    result = ask_ping(
        node,
        destination,
        count=count,
        interval=interval,
        timeout=timeout,
        size=size,
        ttl=ttl,
        df=df,
        source=source,
        in_flight=partial(transit.in_flight, node),
    )
    if not result:
        probe_failed(node, result, "ping", {"size": size, "ttl": ttl, "df": df})
    return result


def ask_ping(
    node: Namespace,
    destination: Destination,
    *,
    count: int = 1,
    interval: float = 0.0,
    timeout: float = 1.0,
    size: int = 56,
    ttl: int = 64,
    df: bool = False,
    source: Source | None = None,
    in_flight: InFlight = nowhere,
) -> PingResult:
    """``ping`` without events: a failure is not recorded."""
    bound = origin(node, source)
    target = resolve(node, destination, bound)
    version = target.address.version
    check_whole("count", count, 1, 65535)
    check_range("interval", interval, 0, 3600)
    check_range("timeout", timeout, 0, 3600)
    check_whole("size", size, 0, LARGEST_PAYLOAD[version])
    check_whole("ttl", ttl, 1, 255)
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    # Most ICMPv6 messages are checked by the kernel before a raw socket gets them. The second one gets all.
    with uninterrupted:  # but in its waits, where it can close its sockets
        sockets = open_sockets(node, version, *[(socket.SOCK_RAW, protocol)] * (1 if version == 4 else 2))
        try:
            sock = sockets[0]
            configure(sock, version, ttl, df)
            bound.bind(sock)
            exchange = Exchange(node.name, sock, target, size, bound)
            if target.address.is_multicast:
                _configure_group(sock, target, ttl, bound)
                exchange.ask_everybody()
            elif version == 6:
                exchange.listen_for_damaged(sockets[1])
            return exchange.run(count, interval, timeout, in_flight)
        finally:
            for sock in sockets:
                sock.close()


def _configure_group(sock: socket.socket, target: Target, ttl: int, bound: Origin) -> None:
    version = target.address.version
    set_group_ttl(sock, version, ttl)
    if index := target.scope or group_interface(bound, target.address):
        set_group_interface(sock, version, index)
