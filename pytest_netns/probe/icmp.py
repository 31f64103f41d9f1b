"""ICMP errors: what came back instead of an answer, and from whom. Pure functions."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pytest_netns.addresses import Address

ECHO_REPLY, UNREACHABLE, ECHO_REQUEST, TIME_EXCEEDED, PARAMETER_PROBLEM = 0, 3, 8, 11, 12
UNREACHABLE6, TOO_BIG6, TIME_EXCEEDED6, PARAMETER_PROBLEM6, ECHO_REQUEST6, ECHO_REPLY6 = 1, 2, 3, 4, 128, 129

ERRORS4 = frozenset({UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM})
ERRORS6 = frozenset({UNREACHABLE6, TOO_BIG6, TIME_EXCEEDED6, PARAMETER_PROBLEM6})

_TCP, _UDP, _ICMPV6 = 6, 17, 58
_CHECKSUM_AT = {_TCP: 16, _UDP: 6, _ICMPV6: 2}

# The words of ping(8), so that they can be searched for.
_WORDS4 = {
    (3, 0): "Destination Net Unreachable",
    (3, 1): "Destination Host Unreachable",
    (3, 2): "Destination Protocol Unreachable",
    (3, 3): "Destination Port Unreachable",
    (3, 4): "Fragmentation needed and DF set",
    (3, 9): "Destination Net Prohibited",
    (3, 10): "Destination Host Prohibited",
    (3, 13): "Packet filtered",
    (11, 0): "Time to live exceeded",
    (11, 1): "Fragment reassembly time exceeded",
    (12, 0): "Parameter problem",
}
_WORDS6 = {
    (1, 0): "No route",
    (1, 1): "Administratively prohibited",
    (1, 2): "Beyond scope of source address",
    (1, 3): "Address unreachable",
    (1, 4): "Port unreachable",
    (1, 5): "Source address failed ingress/egress policy",
    (1, 6): "Reject route to destination",
    (2, 0): "Packet too big",
    (3, 0): "Time exceeded: Hop limit",
    (3, 1): "Fragment reassembly time exceeded",
    (4, 0): "Parameter problem: Wrong header field encountered",
}


@dataclass(frozen=True, slots=True)
class ProbeError:
    """Why there was no answer: an ICMP error, or an error of the sending kernel.

    Attributes:
        text: as ping(8) puts it; the kernel's message for an error of the sending node; or what was wrong with the
            answer.
        sender: sender of the ICMP error or of the answer; None for an error of the sending node's kernel.
        type: ICMP type; None if it is no ICMP error.
        code: ICMP code; None likewise.
        errno: errno of the sending node's kernel; else None.
        mtu: next-hop MTU in bytes, if the packet was too big; else None.

    Example:
        >>> error = red.ping("10.99.0.1").error
        >>> print(error)
    """

    text: str
    sender: Address | None = None
    type: int | None = None
    code: int | None = None
    errno: int | None = None
    mtu: int | None = None

    def __str__(self) -> str:
        size = f" (mtu {self.mtu})" if self.mtu else ""
        return f"{self.text}{size}" + (f", from {self.sender}" if self.sender and self.type is not None else "")


def local_error(error: OSError) -> ProbeError:
    """What the sending node's own kernel said, unchanged."""
    return ProbeError(os.strerror(error.errno or 0), errno=error.errno)


def icmp_error(version: int, sender: str, kind: int, code: int, rest: bytes) -> ProbeError:
    """An ICMP error message: ``rest`` are the four bytes behind its checksum."""
    mtu = None
    if version == 4 and (kind, code) == (UNREACHABLE, 4):
        mtu = struct.unpack("!2xH", rest)[0] or None
    elif version == 6 and kind == TOO_BIG6:
        mtu = struct.unpack("!I", rest)[0]
    return in_words(version, sender, kind, code, mtu)


def in_words(version: int, sender: str, kind: int, code: int, mtu: int | None = None) -> ProbeError:
    """An ICMP error, in the words of ping(8)."""
    words = (_WORDS4 if version == 4 else _WORDS6).get((kind, code), f"ICMP type {kind} code {code}")
    plain = sender.partition("%")[0]
    return ProbeError(words, IPv4Address(plain) if version == 4 else IPv6Address(plain), kind, code, mtu=mtu)


@dataclass(frozen=True, slots=True)
class Quoted:
    """The packet that an ICMP error is about, as far as it was quoted."""

    protocol: int
    destination: bytes
    payload: bytes


def quoted(version: int, data: bytes) -> Quoted | None:
    """Dissect the quotation of an ICMP error; None if it is too short to tell anything."""
    if version == 4:
        if len(data) < 28 or data[0] >> 4 != 4:
            return None
        header = (data[0] & 15) * 4
        if header < 20 or len(data) < header + 8:
            return None
        return Quoted(data[9], data[16:20], data[header:])
    if len(data) < 48 or data[0] >> 4 != 6:
        return None
    protocol, payload = data[6], data[40:]
    if protocol == 44 and len(payload) >= 16:  # a fragment header (RFC 8200 4.5)
        protocol, payload = payload[0], payload[8:]
    return Quoted(protocol, data[24:40], payload)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def is_intact(protocol: int, source: bytes, destination: bytes, data: bytes) -> bool:
    """Whether the checksum of a TCP segment, a UDP datagram or an ICMPv6 message is right.

    One that the sender has left to its network card to finish counts as right: it holds the sum of the pseudo header
    alone, as what was never on a wire does.

    Args:
        protocol: IPPROTO_TCP, IPPROTO_UDP or IPPROTO_ICMPV6.
        source: address of the sender.
        destination: address of the receiver.
        data: from the header of that protocol on.
    """
    offset = _CHECKSUM_AT[protocol]
    if len(data) < offset + 2:
        return False
    stored = int.from_bytes(data[offset : offset + 2], "big")
    if protocol == _UDP and stored == 0 and len(source) == 4:  # none (RFC 768)
        return True
    pseudo = source + destination + struct.pack("!II", len(data), protocol)
    return checksum(pseudo + data) == 0 or stored == ~checksum(pseudo) & 0xFFFF
