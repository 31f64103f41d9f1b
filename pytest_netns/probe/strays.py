"""Strays: answers that a real socket does not take for its own, from elsewhere or damaged, so that they can be told.

The verdict of a probe is that of the kernel's socket. A raw socket beside it sees what comes in before the kernel has
looked at the sender and the checksum (raw(7)), and tells why the answer was none.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.probe.icmp import ProbeError, is_intact

#: What was wrong with the only answer that came.
Flaw = Literal["answered-elsewhere", "bad-checksum"]

_SYN, _RST, _ACK = 0x02, 0x04, 0x10


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment or UDP datagram as it came in.

    Attributes:
        source: address of the sender.
        destination: the own address that it came to.
        data: from the header of TCP or UDP on.
    """

    source: bytes
    destination: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Stray:
    """An answer that the kernel did not give to the socket that asked.

    Attributes:
        flaw: what was wrong with it.
        sender: who sent it.
        error: the same in words.
        data: from the header of TCP or UDP on.
    """

    flaw: Flaw
    sender: Address
    error: ProbeError
    data: bytes


class Strays:
    """What comes in for a port.

    Args:
        sock: a raw socket of the namespace and protocol.
        version: 4 or 6.
        protocol: IPPROTO_TCP or IPPROTO_UDP.
    """

    def __init__(self, sock: socket.socket, version: int, protocol: int) -> None:
        self._socket = sock
        self._version = version
        self._protocol = protocol
        self._found: list[Segment] = []
        if version == 6:  # the checksum covers the address that it came to
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def take(self, port: int) -> None:
        """Read what is queued, and keep the answers to a port of our own."""
        while True:
            try:
                data, control, _, sender = self._socket.recvmsg(1 << 17, 64)
            except BlockingIOError:
                return
            if self._version == 4:
                segment = Segment(data[12:16], data[16:20], data[(data[0] & 15) * 4 :])
            else:
                source = socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0])
                destination = next((value[:16] for _, kind, value in control if kind == socket.IPV6_PKTINFO), bytes(16))
                segment = Segment(source, destination, data)
            if segment.data[2:4] == port.to_bytes(2, "big") and self._is_answer(segment.data):
                self._found.append(segment)

    def _is_answer(self, data: bytes) -> bool:
        if self._protocol == socket.IPPROTO_UDP:
            return len(data) >= 8
        return len(data) >= 20 and bool(data[13] & _RST or data[13] & (_SYN | _ACK) == _SYN | _ACK)

    def reply(self, address: Address, port: int) -> bytes | None:
        """The answer that came from where it was asked, from its TCP or UDP header on; None if it went by unseen."""
        for each in self._found:
            if each.source == address.packed and each.data[:2] == port.to_bytes(2, "big"):
                return each.data
        return None

    def first(self, address: Address, port: int) -> Stray | None:
        """The first answer that the kernel did not take; None if there is none.

        Args:
            address: who was asked.
            port: on which port.
        """
        for each in self._found:
            sender, from_port = ip_address(each.source), struct.unpack_from("!H", each.data)[0]
            if not is_intact(self._protocol, each.source, each.destination, each.data):
                error = ProbeError(f"the answer of {sender} has a wrong checksum", sender)
                return Stray("bad-checksum", sender, error, each.data)
            if sender != address:
                error = ProbeError(f"the answer came from {sender}, not from {address}", sender)
                return Stray("answered-elsewhere", sender, error, each.data)
            if from_port != port:
                error = ProbeError(f"the answer came from port {from_port} of {sender}, not from port {port}", sender)
                return Stray("answered-elsewhere", sender, error, each.data)
        return None
