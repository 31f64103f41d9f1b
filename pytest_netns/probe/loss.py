"""Loss: one-way loss of numbered datagrams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pytest_netns.addresses import Address
from pytest_netns.checks import check_range, check_whole
from pytest_netns.errors import NetnsError
from pytest_netns.probe.traffic_pair import INTERVAL, QUIET, exchange, label_of, receiver_of
from pytest_netns.stack.destination import Destination
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.network import Network
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

#: Least bytes of a datagram: what numbers them.
_SMALLEST = 16


@dataclass(frozen=True, slots=True)
class LossResult:
    """One-way loss of numbered datagrams. Truthy if all arrived.

    Attributes:
        source: name of the node that sent.
        destination: name and address of the one that received.
        address: that address.
        sent: datagrams sent.
        received: datagrams received, each counted once.
        duplicates: further copies.
        reordered: datagrams that arrived after one sent later.
        error: the error of the sender's kernel if it could not send; else None.

    Example:
        >>> result = lab.loss(red, blue, count=100)
        >>> result.lost, result.reordered
    """

    source: str
    destination: str
    address: Address
    sent: int
    received: int
    duplicates: int = 0
    reordered: int = 0
    error: str | None = None

    def __bool__(self) -> bool:
        return self.received == self.sent > 0

    @property
    def lost(self) -> int:
        """Datagrams that did not arrive."""
        return self.sent - self.received

    @property
    def loss(self) -> float:
        """Share of datagrams that did not arrive, 0.0 to 1.0."""
        return self.lost / self.sent if self.sent else 0.0

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination}: {self.sent} datagrams sent, {self.received} received"
        text += f", {100 * self.loss:.3g}% lost" if self.lost else ""
        text += f", {self.duplicates} duplicates" if self.duplicates else ""
        text += f", {self.reordered} out of order" if self.reordered else ""
        return f"<LossResult {text}{f': {self.error}' if self.error else ''}>"


def loss(
    lab: Network,
    source: BaseNode,
    destination: BaseNode | Interface,
    *,
    count: int = 1000,
    size: int = 64,
    per_second: float = 2000.0,
    timeout: float = 5.0,
) -> LossResult:
    """Measure one-way loss with numbered UDP datagrams. Truthy if all arrive.

    Args:
        source: the sending node.
        destination: the receiving node, or an interface of one.
        count: how many, 1 to 1,000,000.
        size: bytes of each, 16 to 65507.
        per_second: how many a second; more than the way can carry is lost too.
        timeout: seconds to wait for processes to start.

    Raises:
        TopologyError: no address in common.
        TypeError: the destination is an address, so there is no node to receive on.
        ValueError: a number is out of range.
        NetnsError: the receiver was too slow to count reliably.

    Example:
        >>> lab.loss(red, blue, count=100).loss
    """
    lab._check_node(source, "measure from")
    result = measure_loss(source, destination, count=count, size=size, per_second=per_second, timeout=timeout)
    if not result:
        probe_failed(source, result, "loss")
    return result


def measure_loss(
    source: Namespace, destination: Destination, *, count: int, size: int, per_second: float, timeout: float
) -> LossResult:
    """``loss`` without events: a failure is not recorded."""
    check_whole("count", count, 1, 1_000_000)
    check_whole("size", size, _SMALLEST, 65507)
    check_range("per_second", per_second, 1, 1_000_000)
    check_range("timeout", timeout, 0.01, 3600)
    receiver, target, scope = receiver_of(source, destination)
    wanted = {"seconds": 3600.0, "omit": 0.0, "interval": INTERVAL, "timeout": timeout, "quiet": QUIET}
    sent, got = exchange(
        source, receiver, target, scope, "udp", {**wanted, "gap": 1 / per_second, "size": size, "count": count}
    )
    if drops := got.get("drops", 0):
        raise NetnsError(
            f"measuring loss from {source.name!r} to {receiver.name!r}: the receiver's own socket dropped {drops} "
            f"datagrams, as it was too slow for {per_second:g} a second; ask for fewer (per_second=)"
        )
    return LossResult(
        source.name,
        label_of(receiver, target),
        target,
        cast(int, sent.get("sent", 0)),
        cast(int, got.get("received", 0)),
        cast(int, got.get("duplicates", 0)),
        cast(int, got.get("reordered", 0)),
        cast("str | None", sent.get("error")),
    )
