"""Is a TCP port open: a SYN, and what comes back."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from scapy.layers.inet import TCP
from scapy.packet import Packet

from pytest_netns.addresses import Address
from pytest_netns.checks import check_port, check_range
from pytest_netns.clock import monotonic
from pytest_netns.kernel.sockets import Socket
from pytest_netns.kernel.syscalls import entered
from pytest_netns.probe import icmp
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.sockets import IPV6_CHECKSUM, Waiter, raw_socket, set_ttl
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.namespace import Namespace

_SYN, _RST, _ACK = 0x02, 0x04, 0x10
#: How often the SYN is sent within the timeout.
_TRIES = 3

TcpState = Literal["open", "closed", "filtered", "unreachable"]


@dataclass(frozen=True, slots=True)
class TcpResult:
    """The state of a TCP port. Truthy if it is open.

    Attributes:
        source: name of the node that asked.
        destination: name and address of whom it asked.
        address: that address.
        port: the port.
        state: ``open`` (SYN-ACK), ``closed`` (RST), ``unreachable`` (an ICMP error, or no route), ``filtered``
            (no answer at all).
        sender: who sent the deciding packet; None without one.
        rtt: seconds until the answer; None without one.
        error: the ICMP error, or what the node's own kernel said; else None.
    """

    source: str
    destination: str
    address: Address
    port: int
    state: TcpState
    sender: Address | None = None
    rtt: float | None = None
    error: ProbeError | None = None
    _raw: bytes | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.state == "open"

    @property
    def reply(self) -> Packet | None:
        """The answer as a scapy packet from the TCP header on, dissected now; None without one."""
        return None if self._raw is None else TCP(self._raw)

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination} port {self.port}: {self.state}"
        if self.error is not None:
            text += f", {self.error}"
        elif self.state == "closed":
            text += f", RST from {self.sender}"
        elif self.state == "filtered":
            text += ", no answer"
        return f"<TcpResult {text}>"


@lru_cache(maxsize=1)
def _template() -> bytes:
    """A SYN with ports, sequence number and checksum 0."""
    return bytes(TCP(sport=0, dport=0, seq=0, flags="S", window=64240, chksum=0, options=[("MSS", 1460)]))


def tcp(node: Namespace, destination: Destination, port: int, *, timeout: float = 1.0, ttl: int = 64) -> TcpResult:
    """See ``Node.tcp``."""
    target = resolve(node, destination)
    check_port(port)
    check_range("timeout", timeout, 0, 3600)
    check_range("ttl", ttl, 1, 255)
    with ExitStack() as stack:
        return _Scan(node, target, port, ttl, stack).run(timeout)


class _Scan:
    def __init__(self, node: Namespace, target: Target, port: int, ttl: int, stack: ExitStack) -> None:
        self._ttl = ttl
        self._node = node
        self._target = target
        self._port = port
        self._stack = stack
        self._version = target.address.version
        address = str(target.address)
        self._to = (address, 0) if self._version == 4 else (address, 0, 0, target.scope)
        self._sequence = int.from_bytes(os.urandom(4), "big")

    def _result(self, state: TcpState, **rest: object) -> TcpResult:
        target = self._target
        return TcpResult(self._node.name, target.label, target.address, self._port, state, **rest)  # type: ignore[arg-type]

    def run(self, timeout: float) -> TcpResult:
        family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        with entered(self._node):
            # A bound TCP socket keeps its port from everybody else. It does not listen and is not connected, so the
            # kernel answers the SYN-ACK with a RST: the half-open connection at the server ends at once.
            holder = self._stack.enter_context(Socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
            router = self._stack.enter_context(Socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        try:
            # connect() of a datagram socket sends nothing; it tells which source address the kernel would use.
            router.connect((self._to[0], self._port, *self._to[2:]))
            source = router.getsockname()[0]
            holder.bind(("", 0))
        except OSError as error:
            return self._result("unreachable", error=icmp.local_error(error))
        own_port = holder.getsockname()[1]
        tcp_socket = self._stack.enter_context(raw_socket(self._node, self._version, socket.IPPROTO_TCP))
        if self._version == 6:
            tcp_socket.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, 16)
        set_ttl(tcp_socket, self._version, self._ttl)
        protocol = socket.IPPROTO_ICMP if self._version == 4 else socket.IPPROTO_ICMPV6
        icmp_socket = self._stack.enter_context(raw_socket(self._node, self._version, protocol))
        waiter = Waiter(tcp_socket, icmp_socket)
        syn = self._syn(source.partition("%")[0], own_port)
        start = monotonic()
        for attempt in range(_TRIES):
            try:
                tcp_socket.sendto(syn, self._to)
            except OSError as error:
                return self._result("unreachable", error=icmp.local_error(error))
            until = start + timeout * (attempt + 1) / _TRIES
            while readable := waiter.wait(until):
                for sock in readable:
                    data, sender = sock.recvfrom(1 << 16)
                    read = self._reply if sock is tcp_socket else self._error
                    result = read(data, sender[0], own_port, monotonic() - start)
                    if result is not None:
                        return result
        return self._result("filtered")

    def _syn(self, source: str, own_port: int) -> bytes:
        data = bytearray(_template())
        struct.pack_into("!HHI", data, 0, own_port, self._port, self._sequence)
        if self._version == 4:  # for IPv6 the kernel adds the checksum (IPV6_CHECKSUM)
            pseudo = socket.inet_aton(source) + self._target.address.packed + struct.pack("!HH", 6, len(data))
            struct.pack_into("!H", data, 16, icmp.checksum(pseudo + bytes(data)))
        return bytes(data)

    def _reply(self, data: bytes, sender: str, own_port: int, rtt: float) -> TcpResult | None:
        segment = data[(data[0] & 15) * 4 :] if self._version == 4 else data
        if len(segment) < 20:
            return None
        from_port, to_port, _, acknowledged = struct.unpack_from("!HHII", segment)
        flags = segment[13]
        if (from_port, to_port) != (self._port, own_port) or acknowledged != (self._sequence + 1) & 0xFFFFFFFF:
            return None
        who = type(self._target.address)(sender.partition("%")[0])
        if flags & _RST:
            return self._result("closed", sender=who, rtt=rtt, _raw=segment)
        if flags & (_SYN | _ACK) == _SYN | _ACK:
            return self._result("open", sender=who, rtt=rtt, _raw=segment)
        return None

    def _error(self, data: bytes, sender: str, own_port: int, rtt: float) -> TcpResult | None:
        ports = (own_port, self._port)
        error = icmp.port_error(self._version, data, sender, socket.IPPROTO_TCP, self._target.address, ports)
        if error is None:
            return None
        return self._result("unreachable", sender=error.sender, rtt=rtt, error=error)
