"""Is a TCP port open: the kernel's own connect(), and what became of it."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from pytest_netns.addresses import Address
from pytest_netns.checks import check_port, check_range
from pytest_netns.clock import monotonic
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.scapy_import import prepare_scapy
from pytest_netns.probe.icmp import ProbeError, local_error
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.probe_sockets import Waiter, open_sockets, set_ttl, tell_errors, told_error
from pytest_netns.probe.strays import Strays
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Origin, Source, origin
from pytest_netns.topology import transit
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from scapy.packet import Packet

TcpState = Literal["open", "closed", "filtered", "unreachable", "answered-elsewhere", "bad-checksum", "inconclusive"]

# On close(), send a RST rather than a FIN: socket(7), SO_LINGER.
_ABORT = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class TcpResult:
    """The state of a TCP port. Truthy if it is open.

    Attributes:
        source: name of the node that sent the probe.
        destination: name and address of the destination.
        address: that address.
        port: the port.
        state: what connect(2) said: ``open``; ``closed`` (refused: a RST, or the ICMP error port unreachable);
            ``unreachable`` (another ICMP error, or no route); ``filtered`` (no answer at all). No answer that a
            connection would take, but one that tells more: ``answered-elsewhere`` (from another address or port),
            ``bad-checksum``. ``inconclusive``: the time was over while something was still on its way.
        sender: sender of the deciding packet; None without one.
        rtt: seconds until the answer; None without one.
        error: the ICMP error, what the node's own kernel said, or what was wrong with the answer; else None.
        in_flight: where the request or its answer may still be, if ``inconclusive``; else None.
        bound_to: the source address or interface given; None: chosen by the routes.

    Example:
        >>> result = red.tcp(blue, 81)
        >>> result.state, result.rtt
    """

    source: str
    destination: str
    address: Address
    port: int
    state: TcpState
    sender: Address | None = None
    rtt: float | None = None
    error: ProbeError | None = None
    in_flight: str | None = None
    bound_to: Source | None = None
    _raw: bytes | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.state == "open"

    @property
    def reply(self) -> Packet | None:
        """The answer as a scapy packet from the TCP header on, dissected now; None without one."""
        prepare_scapy()
        from scapy.layers.inet import TCP

        return None if self._raw is None else TCP(self._raw)

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination} port {self.port}: {self.state}"
        if self.error is not None:
            text += f", {self.error}"
        elif self.state == "closed":
            text += f", RST from {self.sender}"
        elif self.state == "filtered":
            text += ", no answer"
        elif self.in_flight is not None:
            text += f", {self.in_flight}"
        return f"<TcpResult {text}>"


def tcp(
    node: BaseNode, destination: Destination, port: int, *, timeout: float = 1.0, source: Source | None = None
) -> TcpResult:
    """Ask whether a TCP port is open, by the kernel's own connect(2). Truthy if it is.

    The SYN-ACK is answered with a RST (RFC 9293 3.10.7.4), so no server sees a connection.

    Args:
        destination: a node, an interface or an address.
        port: 1 to 65535.
        timeout: seconds to wait for an answer, 0 to 3600; the kernel retransmits a lost SYN after 1 s.
        source: an address or an interface of this node, by object or name, to send from; None: chosen by
            the routes.

    Raises:
        TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
            be understood; or the source is none of this node's.
        ValueError: the port is out of range.

    Example:
        >>> assert red.tcp(blue, 80)
        >>> assert red.tcp(blue, 81).state == "closed"
    """
    result = ask_tcp(
        node, destination, port, timeout=timeout, source=source, in_flight=partial(transit.in_flight, node)
    )
    if not result:
        probe_failed(node, result, "tcp")
    return result


def ask_tcp(
    node: Namespace,
    destination: Destination,
    port: int,
    *,
    timeout: float = 1.0,
    ttl: int | None = None,
    source: Source | None = None,
    in_flight: InFlight = nowhere,
) -> TcpResult:
    """``tcp`` without events: a failure is not recorded."""
    bound = origin(node, source)
    target = resolve(node, destination, bound)
    check_port(port)
    check_range("timeout", timeout, 0, 3600)
    version = target.address.version
    stream, raw = (socket.SOCK_STREAM, 0), (socket.SOCK_RAW, socket.IPPROTO_TCP)
    with uninterrupted:  # but in its waits, where it can close its sockets
        connection, listener = open_sockets(node, version, stream, raw)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            # connect() succeeds when the SYN-ACK is there. With quick acknowledgements off the kernel holds back the
            # ACK, so that our RST comes before it, and no server ever sees a connection.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            tell_errors(connection, version)
            if ttl is not None:
                set_ttl(connection, version, ttl)
            bound.bind(connection)
            return _Attempt(bound, target, port, connection, listener).run(timeout, in_flight)
        finally:
            connection.close()
            listener.close()


class _Attempt:
    def __init__(
        self, bound: Origin, target: Target, port: int, connection: socket.socket, listener: socket.socket
    ) -> None:
        self._bound = bound
        self._target = target
        self._port = port
        self._connection = connection
        self._strays = Strays(listener, target.address.version, socket.IPPROTO_TCP)
        self._waiter = Waiter(listener)
        self._waiter.also_writable(connection)
        self._own_port = 0
        self._start = 0.0

    def _result(self, state: TcpState, **rest: object) -> TcpResult:
        target = self._target
        asked = {"bound_to": self._bound.source, **rest}
        return TcpResult(self._bound.node.name, target.label, target.address, self._port, state, **asked)  # type: ignore[arg-type]

    def run(self, timeout: float, in_flight: InFlight) -> TcpResult:
        self._start = monotonic()
        number = self._connection.connect_ex(self._target.at(self._port))
        if number not in (0, errno.EINPROGRESS, errno.ECONNREFUSED):
            return self._result("unreachable", error=local_error(OSError(number, "")))
        self._own_port = self._connection.getsockname()[1]
        if (result := self._awaited(self._start + timeout)) is not None:
            return result
        address = self._target.address
        where = in_flight(address, monotonic() - self._start)
        if (result := self._awaited(0.0)) is not None:
            return result
        if (stray := self._strays.first(address, self._port)) is not None:
            return self._result(stray.flaw, sender=stray.sender, error=stray.error, _raw=stray.data)
        return self._result("filtered" if where is None else "inconclusive", in_flight=where)

    def _awaited(self, until: float) -> TcpResult | None:
        """What connect() says; None if it has said nothing until then."""
        while readable := self._waiter.wait(until):
            if self._connection in readable:
                return self._verdict(monotonic() - self._start)
            self._strays.take(self._own_port)
        return None

    def _verdict(self, rtt: float) -> TcpResult:
        number, error = told_error(self._connection, self._target.address.version)
        self._strays.take(self._own_port)
        address = self._target.address
        itself = number == 0 and self._connection.getsockname()[:2] == self._connection.getpeername()[:2]
        if number == 0 and not itself:
            return self._result("open", sender=address, rtt=rtt, _raw=self._strays.reply(address, self._port))
        sender = error.sender if error is not None else None
        if number == errno.ECONNREFUSED or itself:  # it has met itself: TCP's simultaneous open, and nobody listens
            reply = self._strays.reply(address, self._port)
            return self._result("closed", sender=sender or address, rtt=rtt, error=error, _raw=reply)
        local = error or local_error(OSError(number, ""))
        return self._result("unreachable", sender=sender, rtt=rtt if sender else None, error=local)
