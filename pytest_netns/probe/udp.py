"""What answers on a UDP port."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.checks import check_port, check_range
from pytest_netns.clock import monotonic
from pytest_netns.errors import KernelError
from pytest_netns.kernel.sockets import Socket
from pytest_netns.kernel.syscalls import entered
from pytest_netns.probe import icmp
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.sockets import Waiter, raw_socket, set_ttl
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.namespace import Namespace

UdpState = Literal["answered", "closed", "unreachable", "silent"]

_PORT_UNREACHABLE = {4: (icmp.UNREACHABLE, 3), 6: (icmp.UNREACHABLE6, 4)}


@dataclass(frozen=True, slots=True)
class UdpResult:
    """What a datagram brought about. Truthy if it was answered.

    Attributes:
        source: name of the node that asked.
        destination: name and address of whom it asked.
        address: that address.
        port: the port.
        state: ``answered``; ``closed`` (ICMP port unreachable); ``unreachable`` (another ICMP error, or no route);
            ``silent`` (nothing came back: a server that does not answer, or a lost or filtered datagram).
        reply: the payload of the answer; empty without one.
        sender: who sent the deciding packet; None without one.
        rtt: seconds until the answer; None without one.
        error: the ICMP error, or what the node's own kernel said; else None.
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

    def __bool__(self) -> bool:
        return self.state == "answered"

    def __repr__(self) -> str:
        text = f"{self.source} -> {self.destination} udp port {self.port}: {self.state}"
        if self.error is not None:
            text += f", {self.error}"
        elif self.state == "answered":
            text += f" by {len(self.reply)} bytes from {self.sender}"
        return f"<UdpResult {text}>"


def udp(
    node: Namespace,
    destination: Destination,
    port: int,
    payload: bytes = b"",
    *,
    timeout: float = 1.0,
    ttl: int = 64,
) -> UdpResult:
    """See ``Node.udp``."""
    target = resolve(node, destination)
    check_port(port)
    check_range("timeout", timeout, 0, 3600)
    check_range("ttl", ttl, 1, 255)
    with ExitStack() as stack:
        return _Question(node, target, port, stack).ask(payload, timeout, ttl)


class _Question:
    def __init__(self, node: Namespace, target: Target, port: int, stack: ExitStack) -> None:
        self._node = node
        self._target = target
        self._port = port
        self._version = target.address.version
        family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        try:
            with entered(node):
                self._socket = stack.enter_context(Socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        except OSError as error:
            raise KernelError(error.errno or 0, "UDP socket", node.name) from error
        self._socket.setblocking(False)
        self._socket.bind(("", 0))
        self._own_port = self._socket.getsockname()[1]
        protocol = socket.IPPROTO_ICMP if self._version == 4 else socket.IPPROTO_ICMPV6
        self._errors = stack.enter_context(raw_socket(node, self._version, protocol))

    def _result(self, state: UdpState, **rest: object) -> UdpResult:
        target = self._target
        return UdpResult(self._node.name, target.label, target.address, self._port, state, **rest)  # type: ignore[arg-type]

    def ask(self, payload: bytes, timeout: float, ttl: int) -> UdpResult:
        set_ttl(self._socket, self._version, ttl)
        address = str(self._target.address)
        to = (address, self._port) if self._version == 4 else (address, self._port, 0, self._target.scope)
        waiter = Waiter(self._socket, self._errors)
        start = monotonic()
        try:
            self._socket.sendto(payload, to)
        except OSError as error:
            return self._result("unreachable", error=icmp.local_error(error))
        while readable := waiter.wait(start + timeout):
            for sock in readable:
                data, sender = sock.recvfrom(1 << 17)
                rtt = monotonic() - start
                if sock is self._socket:
                    who = type(self._target.address)(sender[0].partition("%")[0])
                    return self._result("answered", reply=data, sender=who, rtt=rtt)
                refused = self._refused(data, sender[0])
                if refused is not None:
                    closed = (refused.type, refused.code) == _PORT_UNREACHABLE[self._version]
                    state: UdpState = "closed" if closed else "unreachable"
                    return self._result(state, sender=refused.sender, rtt=rtt, error=refused)
        return self._result("silent")

    def _refused(self, data: bytes, sender: str) -> ProbeError | None:
        ports = (self._own_port, self._port)
        return icmp.port_error(self._version, data, sender, socket.IPPROTO_UDP, self._target.address, ports)
