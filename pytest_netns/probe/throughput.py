"""Throughput and loss: traffic of our own from one node to another, sent and received by a process in each."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

from pytest_netns import ready
from pytest_netns.addresses import Address
from pytest_netns.checks import check_range, check_whole
from pytest_netns.errors import NetnsError, WaitTimeout
from pytest_netns.process.process import Process
from pytest_netns.stack.destination import Destination, resolve
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.network import Network
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode
from pytest_netns.units import Quantity, bits_per_second, measured_rate

Protocol = Literal["tcp", "udp"]

#: Bytes on the wire beside a segment's payload: Ethernet 14 (RFC 894), IPv4 20 or IPv6 40, UDP 8 or TCP with
#: timestamps 32 (RFC 7323).
_HEADERS = {("tcp", 4): 66, ("tcp", 6): 86, ("udp", 4): 42, ("udp", 6): 62}
#: Bytes of a datagram that fill a frame of 1500.
_FULL = {4: 1472, 6: 1452}
#: Seconds between two samples.
INTERVAL = 0.1
#: Seconds without a datagram after which no more is expected; and in which the end must come once all is sent.
_QUIET = 1.0
_SETTLE = 2.0
#: Seconds at most for the queues on the way to empty themselves.
_DRAINED = 600.0
#: Seconds by which a sender may be late.
_PATIENCE = 60.0
#: Least bytes of a datagram: what numbers them.
_SMALLEST = 16
#: How the program is given: an argument would be shown, all of it, wherever a command is named.
_VARIABLE = "NETNS_TRAFFIC"
_LOADER = f"import os; exec(os.environ[{_VARIABLE!r}])"


@dataclass(frozen=True, slots=True)
class ThroughputResult:
    """How fast data got from one node to another. Truthy if any did.

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
        error: what the sender's kernel said, if it could not send; else None.
        stalled: seconds of the measurement after which nothing came any more; None if it went on to the end. The
            silence is measured too: the rate is that of all the time that was asked for.
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


@dataclass(frozen=True, slots=True)
class LossResult:
    """What became of numbered datagrams that one node sent to another, one way. Truthy if all came.

    Attributes:
        source: name of the node that sent.
        destination: name and address of the one that received.
        address: that address.
        sent: datagrams sent.
        received: those of them that came, each counted once.
        duplicates: further copies.
        reordered: those that came after one that was sent later.
        error: what the sender's kernel said, if it could not send; else None.
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
        """Datagrams that did not come."""
        return self.sent - self.received

    @property
    def loss(self) -> float:
        """Share of datagrams that did not come, 0.0 to 1.0."""
        return self.lost / self.sent if self.sent else 0.0

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination}: {self.sent} datagrams sent, {self.received} received"
        text += f", {100 * self.loss:.3g}% lost" if self.lost else ""
        text += f", {self.duplicates} duplicates" if self.duplicates else ""
        text += f", {self.reordered} out of order" if self.reordered else ""
        return f"<LossResult {text}{f': {self.error}' if self.error else ''}>"


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
    """Measure how fast data gets from one node to another, with a process of ours at each end. Truthy if any does.

    Args:
        source: who sends.
        destination: who receives: a node, or an interface of one, whose address is used then.
        seconds: how long to measure, 0.1 to 3600, from the first byte on, by the receiver's clock.
        protocol: ``"tcp"``: one connection; ``"udp"``: datagrams that fill frames of 1500 bytes.
        rate: how fast to send ``udp`` on the wire, in bit/s or tc's words (``"10mbit"``); None: as fast as it goes.
        omit: seconds at the beginning that are not counted: TCP starts slowly (RFC 5681).
        timeout: seconds to wait for the connection.

    Raises:
        TopologyError: no address in common, or a rate that is none.
        TypeError: the destination is an address: nobody could receive.
        ValueError: a number is out of range, or a rate was given for TCP.
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
    """The measurement of ``throughput`` alone: nobody is told of a failure."""
    check_range("seconds", seconds, INTERVAL, 3600)
    check_range("omit", omit, 0, 3600)
    check_range("timeout", timeout, 0.01, 3600)
    if protocol not in ("tcp", "udp"):
        raise ValueError(f"protocol is {protocol!r}; it can be 'tcp' or 'udp'")
    if protocol == "tcp" and rate is not None:
        raise ValueError(f"rate is {rate!r}; TCP finds its own, and a rate can be given for 'udp' alone")
    receiver, target, scope = _receiver_of(source, destination)
    version = target.version
    wanted = {"seconds": seconds, "omit": omit, "interval": INTERVAL, "timeout": timeout, "quiet": _QUIET}
    size = _FULL[version]
    gap = 0.0 if rate is None else 8 * (size + _HEADERS["udp", version]) / bits_per_second("rate", rate)
    sent, got = _exchange(
        source, receiver, target, scope, protocol, {**wanted, "gap": gap, "size": size, "count": None}
    )
    measured, payload = cast(float, got.get("seconds", 0.0)), cast(int, got.get("bytes", 0))
    wire = cast(int, got.get("wire", 0)) + cast(int, got.get("segments", 0)) * _HEADERS[protocol, version]
    return ThroughputResult(
        source.name,
        _label(receiver, target),
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
    """Count what becomes of numbered UDP datagrams, one way. Truthy if all come.

    Args:
        source: who sends.
        destination: who receives: a node, or an interface of one.
        count: how many, 1 to 1,000,000.
        size: bytes of each, 16 to 65507.
        per_second: how many a second; more than the way can carry is lost too.
        timeout: seconds to wait for processes to start.

    Raises:
        TopologyError: no address in common.
        TypeError: the destination is an address: nobody could receive.
        ValueError: a number is out of range.
        NetnsError: the receiver was too slow, so the count proves nothing.
    """
    lab._check_node(source, "measure from")
    result = measure_loss(source, destination, count=count, size=size, per_second=per_second, timeout=timeout)
    if not result:
        probe_failed(source, result, "loss")
    return result


def measure_loss(
    source: Namespace, destination: Destination, *, count: int, size: int, per_second: float, timeout: float
) -> LossResult:
    """The measurement of ``loss`` alone: nobody is told of a failure."""
    check_whole("count", count, 1, 1_000_000)
    check_whole("size", size, _SMALLEST, 65507)
    check_range("per_second", per_second, 1, 1_000_000)
    check_range("timeout", timeout, 0.01, 3600)
    receiver, target, scope = _receiver_of(source, destination)
    wanted = {"seconds": 3600.0, "omit": 0.0, "interval": INTERVAL, "timeout": timeout, "quiet": _QUIET}
    sent, got = _exchange(
        source, receiver, target, scope, "udp", {**wanted, "gap": 1 / per_second, "size": size, "count": count}
    )
    if drops := got.get("drops", 0):
        raise NetnsError(
            f"measuring loss from {source.name!r} to {receiver.name!r}: the receiver's own socket dropped {drops} "
            f"datagrams, as it was too slow for {per_second:g} a second; ask for fewer (per_second=)"
        )
    return LossResult(
        source.name,
        _label(receiver, target),
        target,
        cast(int, sent.get("sent", 0)),
        cast(int, got.get("received", 0)),
        cast(int, got.get("duplicates", 0)),
        cast(int, got.get("reordered", 0)),
        cast("str | None", sent.get("error")),
    )


def _label(receiver: Namespace, address: Address) -> str:
    return f"{receiver.name} ({address})"


def _receiver_of(source: Namespace, destination: Destination) -> tuple[Namespace, Address, int]:
    """Who receives, and by which address: a node, or the node of an interface."""
    target = resolve(source, destination)
    if isinstance(destination, Namespace):
        return destination, target.address, target.scope
    node = getattr(destination, "node", None)
    if isinstance(node, Namespace):
        return node, target.address, target.scope
    raise TypeError(
        f"traffic needs a process that receives it, and {destination!r} is an address; give the node or its interface"
    )


@cache
def _program() -> str:
    from importlib.resources import files  # takes 8 ms

    return files("pytest_netns.probe").joinpath("traffic.py").read_text(encoding="utf-8")


def _argv(role: str, arguments: Mapping[str, object]) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _LOADER, json.dumps({"role": role, **arguments})]


def _environment() -> dict[str, str]:
    return {**os.environ, _VARIABLE: _program()}


def _exchange(
    source: Namespace,
    receiver: Namespace,
    address: Address,
    scope: int,
    protocol: Protocol,
    wanted: Mapping[str, object],
) -> tuple[dict[str, object], dict[str, object]]:
    """Run both ends and return what the sender and the receiver say."""
    arguments = {**wanted, "address": str(address)}
    listening = receiver.spawn(
        _argv(f"receive_{protocol}", {**arguments, "scope": _scope_at(receiver, address)}),
        ready=ready.output(r'^\{"port": '),
        env=_environment(),
    )
    try:
        port = json.loads(listening.output.splitlines()[0])["port"]
        argv = _argv(f"send_{protocol}", {**arguments, "scope": scope, "port": port})
        said = source.run(argv, env=_environment(), timeout=_longest(wanted)).stdout
        sent: dict[str, object] = json.loads(said.splitlines()[-1])
        nothing = sent.get("sent") == 0
        return sent, _last_words(listening, 0.0 if nothing else _SETTLE + source.impairments.delays())
    finally:
        listening.kill()
        receiver._forget(listening)


def _longest(wanted: Mapping[str, object]) -> float:
    """Seconds in which a sender has ended that is not stopped by somebody, on however busy a machine."""
    count, gap = cast("int | None", wanted.get("count")), cast(float, wanted.get("gap", 0.0))
    seconds = cast(float, wanted["seconds"]) + cast(float, wanted["omit"])
    return 2 * (seconds if count is None else count * gap) + cast(float, wanted["timeout"]) + _PATIENCE


def _scope_at(receiver: Namespace, address: Address) -> int:
    """Index of the interface that has a link-local address; 0 for another address, which needs none."""
    if not address.is_link_local:
        return 0
    return next(i.index for i in receiver.interfaces.values() if any(a.ip == address for a in i.addresses))


def _last_words(listening: Process, settle: float) -> dict[str, object]:
    """What the receiver says at its end, for which it is asked if it does not come by itself.

    It goes on as long as something comes: a slow link has a queue to empty.
    """
    try:
        listening.wait(settle)
    except WaitTimeout:
        listening.send_signal(signal.SIGTERM)
        listening.wait(_DRAINED)
    last: dict[str, object] = json.loads(listening.output.splitlines()[-1])
    return {} if "port" in last else last  # a TCP receiver that nobody has connected to says no more
