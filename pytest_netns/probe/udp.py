"""What answers on a UDP port, to a connected socket."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.checks import check_port, check_range, check_whole
from pytest_netns.clock import monotonic
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.probe.group import group_interface
from pytest_netns.probe.icmp import ProbeError, local_error
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.probe_sockets import (
    Waiter,
    open_sockets,
    set_group_interface,
    set_group_ttl,
    set_ttl,
    tell_errors,
    told_error,
)
from pytest_netns.probe.strays import Strays
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Origin, Source, origin
from pytest_netns.topology import transit
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

UdpState = Literal["answered", "closed", "unreachable", "silent", "answered-elsewhere", "bad-checksum", "inconclusive"]


@dataclass(frozen=True, slots=True)
class UdpResult:
    """The result of a UDP probe. Truthy if it was answered.

    Attributes:
        source: name of the node that sent the probe.
        destination: name and address of the destination.
        address: that address.
        port: the port.
        state: what a connected socket was told: ``answered``; ``closed`` (ICMP port unreachable); ``unreachable``
            (another ICMP error, or no route); ``silent`` (nothing came back: a server that does not answer, or a lost
            or filtered datagram). No answer that such a socket would take, but one that tells more:
            ``answered-elsewhere`` (from another address or port), ``bad-checksum``. ``inconclusive``: the time was
            over while something was still on its way.
        reply: the payload of the answer; empty without one.
        sender: sender of the deciding packet; None without one.
        rtt: seconds until the answer; None without one.
        error: the ICMP error, what the node's own kernel said, or what was wrong with the answer; else None.
        in_flight: where the datagram or its answer may still be, if ``inconclusive``; else None.
        bound_to: the source address or interface given; None: chosen by the routes.

    Example:
        >>> result = red.udp(blue, 9, b"hello", timeout=0.1)
        >>> result.state, result.reply
    """

    source: str
    destination: str
    address: Address
    port: int
    state: UdpState
    reply: bytes = b""
    sender: Address | None = None
    rtt: float | None = None
    error: ProbeError | None = None
    in_flight: str | None = None
    bound_to: Source | None = None

    def __bool__(self) -> bool:
        return self.state == "answered"

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination} udp port {self.port}: {self.state}"
        if self.error is not None:
            text += f", {self.error}"
        elif self.state == "answered":
            text += f" by {len(self.reply)} bytes from {self.sender}"
        elif self.in_flight is not None:
            text += f", {self.in_flight}"
        return f"<UdpResult {text}>"


def udp(
    node: BaseNode,
    destination: Destination,
    port: int,
    payload: bytes = b"",
    *,
    timeout: float = 1.0,
    ttl: int | None = None,
    source: Source | None = None,
) -> UdpResult:
    """Send a datagram from a connected socket and wait for what comes back. Truthy if it was answered.

    An answer from another address or port is none, as for any connected socket; but any member answers for a
    multicast group, and any host for a broadcast address.

    Args:
        destination: a node, an interface or an address.
        port: 1 to 65535.
        payload: bytes to send.
        timeout: seconds to wait for an answer, 0 to 3600.
        ttl: time to live, or hop limit; None for the kernel's default.
        source: an address or an interface of this node, by object or name, to send from; None: chosen by
            the routes.

    Raises:
        TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
            be understood; or the source is none of this node's.
        ValueError: a number is out of range.

    Example:
        >>> red.udp(blue, 7, b"hello").reply
    """
    result = ask_udp(
        node,
        destination,
        port,
        payload,
        timeout=timeout,
        ttl=ttl,
        source=source,
        in_flight=partial(transit.in_flight, node),
    )
    if not result:
        probe_failed(node, result, "udp", payload)
    return result


def ask_udp(
    node: Namespace,
    destination: Destination,
    port: int,
    payload: bytes = b"",
    *,
    timeout: float = 1.0,
    ttl: int | None = None,
    source: Source | None = None,
    in_flight: InFlight = nowhere,
) -> UdpResult:
    """``udp`` without events: a failure is not recorded."""
    bound = origin(node, source)
    target = resolve(node, destination, bound)
    check_port(port)
    check_range("timeout", timeout, 0, 3600)
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"payload is {payload!r}; expected bytes")
    if ttl is not None:
        check_whole("ttl", ttl, 1, 255)
    version = target.address.version
    with uninterrupted:  # but in its waits, where it can close its sockets
        datagrams, listener = open_sockets(node, version, (socket.SOCK_DGRAM, 0), (socket.SOCK_RAW, socket.IPPROTO_UDP))
        try:
            tell_errors(datagrams, version)
            if ttl is not None:
                set_ttl(datagrams, version, ttl)
                set_group_ttl(datagrams, version, ttl)
            bound.bind(datagrams)
            return _Question(bound, target, port, datagrams, listener).ask(payload, timeout, in_flight)
        finally:
            datagrams.close()
            listener.close()


class _Question:
    def __init__(
        self, bound: Origin, target: Target, port: int, datagrams: socket.socket, listener: socket.socket
    ) -> None:
        self._bound = bound
        self._target = target
        self._port = port
        self._version = target.address.version
        self._socket = datagrams
        self._strays = Strays(listener, self._version, socket.IPPROTO_UDP)
        self._waiter = Waiter(datagrams, listener)
        self._own_port = 0
        self._start = 0.0
        self._dropped: ProbeError | None = None
        self._refusal: ProbeError | None = None

    def _result(self, state: UdpState, **rest: object) -> UdpResult:
        target = self._target
        asked = {"bound_to": self._bound.source, **rest}
        return UdpResult(self._bound.node.name, target.label, target.address, self._port, state, **asked)  # type: ignore[arg-type]

    def ask(self, payload: bytes, timeout: float, in_flight: InFlight) -> UdpResult:
        try:
            group = self._connect()
            self._own_port = self._socket.getsockname()[1]
            self._start = monotonic()
            self._send(payload, group)
        except OSError as error:
            return self._result("unreachable", error=local_error(error))
        self._own_port = self._socket.getsockname()[1]
        if (result := self._awaited(self._start + timeout)) is not None:
            return result
        address = self._target.address
        where = in_flight(address, monotonic() - self._start, self._port)
        if (result := self._awaited(0.0)) is not None:
            return result
        if not group and (stray := self._strays.first(address, self._port)) is not None:
            return self._result(stray.flaw, sender=stray.sender, error=stray.error)
        return self._result("silent" if where is None else "inconclusive", error=self._dropped, in_flight=where)

    def _connect(self) -> bool:
        """Connect the socket, unless to a group, whose members answer from their own addresses: True then."""
        address = self._target.address
        if address.is_multicast:
            if index := self._target.scope or group_interface(self._bound, address):
                set_group_interface(self._socket, self._version, index)
            return True
        try:
            self._socket.connect(self._target.at(self._port))
        except PermissionError as error:  # a broadcast address, or a route that prohibits: sending tells
            self._refusal = local_error(error)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            return True
        return False

    def _send(self, payload: bytes, group: bool) -> None:
        try:
            if group:
                self._socket.sendto(payload, self._target.at(self._port))
            else:
                self._socket.send(payload)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # a queue of its own has dropped it, which a socket without IP_RECVERR is not told
            self._dropped = local_error(error)

    def _awaited(self, until: float) -> UdpResult | None:
        """What the socket is told; None if it is told nothing until then."""
        while readable := self._waiter.wait(until):
            if self._socket not in readable:
                self._strays.take(self._own_port)
                continue
            rtt = monotonic() - self._start
            number, error = told_error(self._socket, self._version)
            if number:
                return self._refused(number, error or local_error(OSError(number, "")), rtt)
            try:
                data, sender = self._socket.recvfrom(1 << 17)
            except BlockingIOError:  # it was damaged, which the kernel finds out when it is read
                continue
            who = type(self._target.address)(sender[0].partition("%")[0])
            if self._refusal is not None and who == self._target.address:
                # It is the address of a host, which only the own prefix takes for everybody's. The kernel says no then.
                return self._refused(errno.EACCES, self._refusal, None)
            return self._result("answered", reply=data, sender=who, rtt=rtt)
        return None

    def _refused(self, number: int, error: ProbeError, rtt: float | None) -> UdpResult:
        state: UdpState = "closed" if number == errno.ECONNREFUSED else "unreachable"
        return self._result(state, sender=error.sender, rtt=rtt if error.sender else None, error=error)
