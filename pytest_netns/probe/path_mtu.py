"""The largest packet that gets through in one piece, by echo requests that must not be fragmented (RFC 4821's way)."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import partial

from pytest_netns.addresses import Address
from pytest_netns.checks import check_range
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.ping import ask_ping
from pytest_netns.stack.destination import Destination, resolve
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Source, origin
from pytest_netns.topology import transit
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

_HEADERS = {4: 28, 6: 48}
_SMALLEST = {4: 68, 6: 1280}  # RFC 791 3.2, RFC 8200 5


@dataclass(frozen=True, slots=True)
class PathMtuResult:
    """The path MTU. Truthy if it was found.

    Attributes:
        source: name of the node that sent the probe.
        destination: name and address of the destination.
        address: that address.
        mtu: bytes of the largest IP packet that gets through; None if not even the smallest does.
        limited_by: sender of the ICMP error; None if the limit is the node's own interface, or without an error.
        black_hole: whether larger packets are dropped without an ICMP error.
        in_flight: where a packet may still have been when the time was over, which leaves all of this open; else None.
        bound_to: the source address or interface given; None: chosen by the routes.

    Example:
        >>> result = red.path_mtu(blue)
        >>> result.mtu, result.limited_by
    """

    source: str
    destination: str
    address: Address
    mtu: int | None
    limited_by: Address | None = None
    black_hole: bool = False
    in_flight: str | None = None
    bound_to: Source | None = None

    def __bool__(self) -> bool:
        return self.mtu is not None

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination}: {self.mtu if self.mtu else 'no answer'}"
        if self.limited_by:
            text += f", limited by {self.limited_by}"
        if self.in_flight is not None:
            text += f": inconclusive, {self.in_flight}"
        if self.black_hole:
            text += ", larger packets vanish without an error"
        return f"<PathMtuResult {text}>"


def path_mtu(
    node: BaseNode, destination: Destination, *, timeout: float = 0.5, source: Source | None = None
) -> PathMtuResult:
    """Find the largest IP packet that gets through unfragmented, in bytes. Truthy if it was found.

    Args:
        destination: a node, an interface or an address.
        timeout: seconds to wait for each answer; a black hole takes about a dozen of them.
        source: an address or an interface of this node, by object or name, to send from; None: chosen by
            the routes.

    Raises:
        TopologyError: the destination has no address of a family that this node has.

    Example:
        >>> red.path_mtu(green).mtu
    """
    result = ask_path_mtu(node, destination, timeout=timeout, source=source, in_flight=partial(transit.in_flight, node))
    if not result or result.black_hole:
        probe_failed(node, result, "path_mtu")
    return result


def ask_path_mtu(
    node: Namespace,
    destination: Destination,
    *,
    timeout: float = 0.5,
    source: Source | None = None,
    in_flight: InFlight = nowhere,
) -> PathMtuResult:
    """``path_mtu`` without events: a failure is not recorded."""
    check_range("timeout", timeout, 0, 3600)
    bound = origin(node, source)
    target = resolve(node, destination, bound)
    version = target.address.version
    headers, smallest = _HEADERS[version], _SMALLEST[version]
    usable = node.interfaces.values() if bound.interface is None else [bound.interface]
    own = [interface.mtu for interface in usable if interface.name != "lo"]
    largest = min(max(own, default=65535), 65535)
    limited_by: Address | None = None
    vanished = False
    fits: int | None = None
    size, too_long = largest, largest + 1
    while size >= smallest:
        result = ask_ping(
            node, destination, size=size - headers, df=True, timeout=timeout, source=source, in_flight=in_flight
        )
        error = result.error
        if result.in_flight is not None:
            where = result.in_flight
            return PathMtuResult(node.name, target.label, target.address, None, in_flight=where, bound_to=bound.source)
        if result:
            fits = size
        elif error is not None and error.mtu and error.mtu < size:
            limited_by, size, too_long = error.sender, error.mtu, error.mtu + 1
            continue
        elif error is None:
            vanished, too_long = True, size
        elif error.errno == errno.EMSGSIZE:  # longer than the own interface, or than an ICMP error that is remembered
            too_long = size
        else:
            break
        longest = fits or smallest - 1
        if too_long - longest <= 1:
            break
        size = (too_long + longest) // 2
    hole = vanished and fits is not None
    return PathMtuResult(node.name, target.label, target.address, fits, limited_by, hole, None, bound.source)
