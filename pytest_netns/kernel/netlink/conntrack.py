"""Requests about connection tracking (ctnetlink), and what the kernel answers, as frozen values.

Encoding and decoding only, no sockets. The numbers are those of <linux/netfilter/nfnetlink_conntrack.h>.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from pytest_netns.addresses import Address
from pytest_netns.kernel.netlink.socket import Request, attribute, attributes

_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NESTED = 0x8000
_NFGENMSG = 4  # bytes of struct nfgenmsg

_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_INFO, _TIMEOUT, _MARK, _COUNTERS, _COUNTERS_REPLY = 1, 2, 3, 4, 7, 8, 9, 10
_ID, _ZONE = 12, 18
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_SEEN_REPLY, _ASSURED, _SOURCE_NAT, _DESTINATION_NAT = 0x02, 0x04, 0x10, 0x20
_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132

_PROTOCOLS = {_ICMP: "icmp", _TCP: "tcp", _UDP: "udp", 33: "dccp", 47: "gre", _ICMPV6: "icmpv6", _SCTP: "sctp"}
_TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)


@dataclass(frozen=True, slots=True)
class ConnectionSide:
    """What the packets of one direction of a connection look like, before this node translates them.

    Attributes:
        source: address that they come from.
        destination: address that they are sent to.
        source_port: of TCP, UDP and SCTP; None for other protocols.
        destination_port: likewise.
        icmp: type, code and identifier of ICMP and ICMPv6; None for other protocols.
    """

    source: Address
    destination: Address
    source_port: int | None = None
    destination_port: int | None = None
    icmp: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        words = [f"src={self.source}", f"dst={self.destination}"]
        if self.icmp is not None:
            words += [f"{name}={value}" for name, value in zip(("type", "code", "id"), self.icmp, strict=True)]
        if self.source_port is not None:
            words += [f"sport={self.source_port}", f"dport={self.destination_port}"]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Connection:
    """An entry of the connection tracking table: a line of ``conntrack -L`` (conntrack(8)).

    Attributes:
        protocol: ``"tcp"``, ``"udp"``, ``"icmp"``, ``"icmpv6"``, ``"sctp"``, or the number of another as text.
        original: the packets of whoever began.
        reply: the packets that come back. Without NAT it is ``original`` the other way round.
        state: of TCP: ``"SYN_SENT"``, ``"ESTABLISHED"``, ``"TIME_WAIT"``, ...; None for other protocols.
        timeout: seconds until the kernel forgets it if no packet comes.
        replied: whether a packet of the other direction was seen.
        assured: whether the kernel keeps it when the table is full.
        source_nat: whether its source is translated (SNAT, masquerade).
        destination_nat: whether its destination is (DNAT, a forwarded port).
        mark: its ct mark; 0 if none was set.
        zone: its ct zone; 0 is the default.
        packets: of both directions; None unless ``net.netfilter.nf_conntrack_acct`` is 1.
        bytes: in them, from the IP header on; likewise.
    """

    protocol: str
    original: ConnectionSide
    reply: ConnectionSide
    state: str | None = None
    timeout: int = 0
    replied: bool = False
    assured: bool = False
    source_nat: bool = False
    destination_nat: bool = False
    mark: int = 0
    zone: int = 0
    packets: int | None = None
    bytes: int | None = None

    def __str__(self) -> str:
        words = [self.protocol, *([self.state] if self.state else []), str(self.original), "|", str(self.reply)]
        flags = (
            ("[UNREPLIED]", not self.replied),
            ("[ASSURED]", self.assured),
            ("[SNAT]", self.source_nat),
            ("[DNAT]", self.destination_nat),
        )
        words += [flag for flag, is_set in flags if is_set]
        words += [f"mark={self.mark}"] if self.mark else []
        words += [f"zone={self.zone}"] if self.zone else []
        words += [f"packets={self.packets} bytes={self.bytes}"] if self.packets is not None else []
        return " ".join([*words, f"({self.timeout} s)"])


class Entry(NamedTuple):
    """A connection, and what the kernel knows it by.

    Attributes:
        connection: what is shown of it.
        family: AF_INET or AF_INET6.
        key: attributes that name it in a request.
    """

    connection: Connection
    family: int
    key: bytes


def connection_dump() -> Request:
    """``conntrack -L``, of both families."""
    return Request(_GET, 0, bytes(_NFGENMSG), "conntrack -L")


def connection_delete(entry: Entry) -> Request:
    """``conntrack -D`` of one entry. ENOENT: it is gone, and there may be another between the same two."""
    return Request(_DELETE, 0, _general(entry.family) + entry.key, f"conntrack -D: {entry.connection}")


def _general(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def decode_connection(body: bytes) -> Entry:
    """Decode the body of an IPCTNL_MSG_CT_NEW message."""
    found = attributes(body, _NFGENMSG)
    number, original = _side(found[_ORIGINAL])
    _, reply = _side(found[_REPLY])
    status = _u32(found.get(_STATUS))
    there, back = _counters(found.get(_COUNTERS)), _counters(found.get(_COUNTERS_REPLY))
    key = attribute(_ORIGINAL | _NESTED, found[_ORIGINAL])
    key += b"".join(attribute(kind, found[kind]) for kind in (_ZONE, _ID) if kind in found)
    connection = Connection(
        protocol=_PROTOCOLS.get(number, str(number)),
        original=original,
        reply=reply,
        state=_state(number, found.get(_PROTOCOL_INFO, b"")),
        timeout=_u32(found.get(_TIMEOUT)),
        replied=bool(status & _SEEN_REPLY),
        assured=bool(status & _ASSURED),
        source_nat=bool(status & _SOURCE_NAT),
        destination_nat=bool(status & _DESTINATION_NAT),
        mark=_u32(found.get(_MARK)),
        zone=struct.unpack("!H", found[_ZONE])[0] if _ZONE in found else 0,
        packets=there[0] + back[0] if there and back else None,
        bytes=there[1] + back[1] if there and back else None,
    )
    return Entry(connection, body[0], key)


def _u32(raw: bytes | None) -> int:
    return struct.unpack("!I", raw)[0] if raw else 0


def _u16(raw: bytes | None) -> int:
    return struct.unpack("!H", raw)[0] if raw else 0


def _side(raw: bytes) -> tuple[int, ConnectionSide]:
    """The number of the protocol, and the rest of a tuple."""
    parts = attributes(raw)
    ip, protocol = attributes(parts[_TUPLE_IP]), attributes(parts[_TUPLE_PROTOCOL])
    source, destination = (ip[1], ip[2]) if 1 in ip else (ip[3], ip[4])
    number = protocol[1][0]
    sent_port = got_port = icmp = None
    if number in (_ICMP, _ICMPV6):
        first = 4 if number == _ICMP else 7  # identifier, type, code
        icmp = (protocol[first + 1][0], protocol[first + 2][0], _u16(protocol[first]))
    elif 2 in protocol:
        sent_port, got_port = _u16(protocol[2]), _u16(protocol[3])
    return number, ConnectionSide(ip_address(source), ip_address(destination), sent_port, got_port, icmp)


def _state(number: int, info: bytes) -> str | None:
    if number != _TCP:
        return None
    of_tcp = attributes(attributes(info).get(1, b"")).get(1)
    if of_tcp is None:
        return None
    return _TCP_STATES[of_tcp[0]] if of_tcp[0] < len(_TCP_STATES) else str(of_tcp[0])


def _counters(raw: bytes | None) -> tuple[int, int] | None:
    if raw is None:
        return None
    found = attributes(raw)
    return struct.unpack("!Q", found[1])[0], struct.unpack("!Q", found[2])[0]
