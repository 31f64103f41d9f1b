"""Throughput from one node to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pytest_netns.addresses import Address
from pytest_netns.checks import check_range
from pytest_netns.probe.traffic_pair import INTERVAL, QUIET, Protocol, exchange, label_of, receiver_of
from pytest_netns.stack.destination import Destination
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.network import Network
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode
from pytest_netns.units import Quantity, bits_per_second, measured_rate

#: Bytes on the wire beside a segment's payload: Ethernet 14 (RFC 894), IPv4 20 or IPv6 40, UDP 8 or TCP with
#: timestamps 32 (RFC 7323).
_HEADERS = {("tcp", 4): 66, ("tcp", 6): 86, ("udp", 4): 42, ("udp", 6): 62}
#: Bytes of a datagram that fill a frame of 1500.
_FULL = {4: 1472, 6: 1452}


@dataclass(frozen=True, slots=True)
class ThroughputResult:
    """The throughput from one node to another. Truthy if any data arrived.

    Attributes:
        source: name of the node that sent.
        destination: name and address of the one that received.
        address: that address.
        protocol: ``tcp`` or ``udp``.
        seconds: how long was measured, at the receiver.
        bytes: payload that came in that time.
        rate: payload in bit/s.
        wire_rate: the same with the headers of TCP or UDP, IP and Ethernet, in bit/s: what a rate of tc(8) limits.
        samples: payload in bit/s, for each tenth of a second.
        error: the error of the sender's kernel if it could not send; else None.
        stalled: seconds of the measurement after which nothing came any more; None if it went on to the end. The
            silence is measured too: the rate is that of all the time that was asked for.

    Example:
        >>> result = lab.throughput(red, blue, seconds=0.2)
        >>> result.rate, result.wire_rate
    """

    source: str
    destination: str
    address: Address
    protocol: Protocol
    seconds: float
    bytes: int
    rate: float
    wire_rate: float
    samples: tuple[float, ...] = ()
    error: str | None = None
    stalled: float | None = None

    def __bool__(self) -> bool:
        return self.bytes > 0

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination}: {self.protocol} "
        if not self:
            return f"<ThroughputResult {text}nothing came{self._trouble()}>"
        text += f"{measured_rate(self.rate)} ({measured_rate(self.wire_rate)} on the wire), {self.seconds:.2f} s"
        if self.samples:
            low, high = measured_rate(min(self.samples)), measured_rate(max(self.samples))
            text += f", {len(self.samples)} samples from {low} to {high}"
        return f"<ThroughputResult {text}{self._trouble()}>"

    def _trouble(self) -> str:
        text = "" if self.stalled is None else f", stalled after {self.stalled:.2f} s of {self.seconds:g} s"
        return text + (f": {self.error}" if self.error else "")


def throughput(
    lab: Network,
    source: BaseNode,
    destination: BaseNode | Interface,
    *,
    seconds: float = 1.0,
    protocol: Protocol = "tcp",
    rate: Quantity | None = None,
    omit: float = 0.0,
    timeout: float = 5.0,
) -> ThroughputResult:
    """Measure the throughput from one node to another, by a process in each. Truthy if any data arrives.

    Args:
        source: the sending node.
        destination: the receiving node, or an interface of one, whose address is used then.
        seconds: how long to measure, 0.1 to 3600, from the first byte on, by the receiver's clock.
        protocol: ``"tcp"``: one connection; ``"udp"``: datagrams that fill frames of 1500 bytes.
        rate: how fast to send ``udp`` on the wire, in bit/s or tc's words (``"10mbit"``); None: as fast as it goes.
        omit: seconds at the beginning that are not counted: TCP starts slowly (RFC 5681).
        timeout: seconds to wait for the connection.

    Raises:
        TopologyError: no address in common, or a rate that is none.
        TypeError: the destination is an address, so there is no node to receive on.
        ValueError: a number is out of range, or a rate was given for TCP.

    Example:
        >>> lab.throughput(red, blue, seconds=0.2).rate
    """
    lab._check_node(source, "measure from")
    result = measure_throughput(
        source, destination, seconds=seconds, protocol=protocol, rate=rate, omit=omit, timeout=timeout
    )
    if not result or result.stalled is not None:
        probe_failed(source, result, "throughput")
    return result


def measure_throughput(
    source: Namespace,
    destination: Destination,
    *,
    seconds: float,
    protocol: Protocol,
    rate: Quantity | None,
    omit: float,
    timeout: float,
) -> ThroughputResult:
    """``throughput`` without events: a failure is not recorded."""
    check_range("seconds", seconds, INTERVAL, 3600)
    check_range("omit", omit, 0, 3600)
    check_range("timeout", timeout, 0.01, 3600)
    if protocol not in ("tcp", "udp"):
        raise ValueError(f"protocol is {protocol!r}; it can be 'tcp' or 'udp'")
    if protocol == "tcp" and rate is not None:
        raise ValueError(f"rate is {rate!r}; TCP finds its own, and a rate can be given for 'udp' alone")
    receiver, target, scope = receiver_of(source, destination)
    version = target.version
    wanted = {"seconds": seconds, "omit": omit, "interval": INTERVAL, "timeout": timeout, "quiet": QUIET}
    size = _FULL[version]
    gap = 0.0 if rate is None else 8 * (size + _HEADERS["udp", version]) / bits_per_second("rate", rate)
    sent, got = exchange(source, receiver, target, scope, protocol, {**wanted, "gap": gap, "size": size, "count": None})
    measured, payload = cast(float, got.get("seconds", 0.0)), cast(int, got.get("bytes", 0))
    wire = cast(int, got.get("wire", 0)) + cast(int, got.get("segments", 0)) * _HEADERS[protocol, version]
    return ThroughputResult(
        source.name,
        label_of(receiver, target),
        target,
        protocol,
        measured,
        payload,
        8 * payload / measured if measured else 0.0,
        8 * wire / measured if measured else 0.0,
        tuple(cast("list[float]", got.get("samples", []))),
        cast("str | None", sent.get("error")),
        cast("float | None", got.get("stalled")),
    )
