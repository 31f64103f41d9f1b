"""Requests for connection tracking (ctnetlink), and decoding of the answers to frozen values.

Encoding and decoding only, by pyroute2; no sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from pytest_netns.addresses import Address
from pytest_netns.kernel.netlink.pyroute2_codec import (
    Message,
    attribute_of,
    decode,
    encode,
    nested_in,
    prepare_pyroute2,
)
from pytest_netns.kernel.netlink.socket import Request

# From <linux/netfilter/nfnetlink.h>, nfnetlink_conntrack.h and nf_conntrack_common.h.
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_SEEN_REPLY, _ASSURED, _SOURCE_NAT, _DESTINATION_NAT = 0x02, 0x04, 0x10, 0x20
_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132

_PROTOCOLS = {_ICMP: "icmp", _TCP: "tcp", _UDP: "udp", 33: "dccp", 47: "gre", _ICMPV6: "icmpv6", _SCTP: "sctp"}
# Not pyroute2's names: the ninth state is SYN_SENT2, as in conntrack(8).
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
    """The tuple of one direction of a connection, as its packets are before this node's NAT.

    Attributes:
        source: source address.
        destination: destination address.
        source_port: source port of TCP, UDP and SCTP; None for other protocols.
        destination_port: destination port, likewise.
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
        protocol: ``"tcp"``, ``"udp"``, ``"icmp"``, ``"icmpv6"``, ``"sctp"``, or another protocol's number as text.
        original: the direction of the first packet.
        reply: the opposite direction. Without NAT, it is ``original`` with source and destination swapped.
        state: TCP state: ``"SYN_SENT"``, ``"ESTABLISHED"``, ``"TIME_WAIT"``, ...; None for other protocols.
        timeout: seconds until the entry expires if no more packets come.
        replied: whether a packet in the reply direction was seen.
        assured: whether the kernel keeps the entry when the table is full.
        source_nat: whether the source is translated (SNAT, masquerade).
        destination_nat: whether the destination is translated (DNAT, a forwarded port).
        mark: conntrack mark; 0 if none was set.
        zone: conntrack zone; 0 is the default.
        packets: packets of both directions; None unless ``net.netfilter.nf_conntrack_acct`` is 1.
        bytes: bytes of these packets including the IP header; likewise.
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
    """A connection, and the key of its entry in the kernel.

    Attributes:
        connection: the connection as shown to users.
        family: AF_INET or AF_INET6.
        key: the attributes that identify the entry in a request.
    """

    connection: Connection
    family: int
    key: Mapping[str, object]


def connection_dump() -> Request:
    """``conntrack -L``, for both families."""
    return _request(_GET, 0, {}, "conntrack -L")


def connection_delete(entry: Entry) -> Request:
    """``conntrack -D`` for one entry. ENOENT: the entry is gone; a new one may have the same addresses and ports."""
    return _request(_DELETE, entry.family, entry.key, f"conntrack -D: {entry.connection}")


def _request(kind: int, family: int, attributes: Mapping[str, object], words: str) -> Request:
    prepare_pyroute2()
    from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

    return Request(kind, 0, encode(nfct_msg, {"nfgen_family": family}, attributes.items()), words)


def decode_connection(body: bytes) -> Entry:
    """Decode the body of an IPCTNL_MSG_CT_NEW message."""
    prepare_pyroute2()
    from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

    message = decode(nfct_msg, body)
    number, original = _side(message, "CTA_TUPLE_ORIG")
    _, reply = _side(message, "CTA_TUPLE_REPLY")
    status = attribute_of(message, "CTA_STATUS", 0)
    there, back = _counters(message, "CTA_COUNTERS_ORIG"), _counters(message, "CTA_COUNTERS_REPLY")
    connection = Connection(
        protocol=_PROTOCOLS.get(number, str(number)),
        original=original,
        reply=reply,
        state=_state(number, message),
        timeout=attribute_of(message, "CTA_TIMEOUT", 0),
        replied=bool(status & _SEEN_REPLY),
        assured=bool(status & _ASSURED),
        source_nat=bool(status & _SOURCE_NAT),
        destination_nat=bool(status & _DESTINATION_NAT),
        mark=attribute_of(message, "CTA_MARK", 0),
        zone=attribute_of(message, "CTA_ZONE", 0),
        packets=there[0] + back[0] if there and back else None,
        bytes=there[1] + back[1] if there and back else None,
    )
    key: dict[str, object] = {"CTA_TUPLE_ORIG": _nested(message, "CTA_TUPLE_ORIG").dump()}
    key |= {name: value for name in ("CTA_ZONE", "CTA_ID") if (value := message.get_attr(name)) is not None}
    return Entry(connection, body[0], key)


def _nested(message: Message, *names: str) -> Message:
    found = nested_in(message, *names)
    assert found is not None, f"the kernel tells no {names[-1]} of a connection"
    return found


def _side(message: Message, direction: str) -> tuple[int, ConnectionSide]:
    """Decode a tuple: the protocol number, and the addresses and ports."""
    ip = _nested(message, direction, "CTA_TUPLE_IP")
    protocol = _nested(message, direction, "CTA_TUPLE_PROTO")
    version = "V4" if ip.get_attr("CTA_IP_V4_SRC") is not None else "V6"
    number = attribute_of(protocol, "CTA_PROTO_NUM", 0)
    icmp = None
    if number in (_ICMP, _ICMPV6):
        prefix = "CTA_PROTO_ICMP" if number == _ICMP else "CTA_PROTO_ICMPV6"
        kind, code, identifier = (attribute_of(protocol, f"{prefix}_{name}", 0) for name in ("TYPE", "CODE", "ID"))
        icmp = (kind, code, identifier)
    return number, ConnectionSide(
        source=ip_address(attribute_of(ip, f"CTA_IP_{version}_SRC", "")),
        destination=ip_address(attribute_of(ip, f"CTA_IP_{version}_DST", "")),
        source_port=attribute_of(protocol, "CTA_PROTO_SRC_PORT", None),
        destination_port=attribute_of(protocol, "CTA_PROTO_DST_PORT", None),
        icmp=icmp,
    )


def _state(number: int, message: Message) -> str | None:
    of_tcp = nested_in(message, "CTA_PROTOINFO", "CTA_PROTOINFO_TCP") if number == _TCP else None
    if of_tcp is None:
        return None
    state = attribute_of(of_tcp, "CTA_PROTOINFO_TCP_STATE", 0)
    return _TCP_STATES[state] if state < len(_TCP_STATES) else str(state)


def _counters(message: Message, name: str) -> tuple[int, int] | None:
    counters = nested_in(message, name)
    if counters is None:
        return None
    return attribute_of(counters, "CTA_COUNTERS_PACKETS", 0), attribute_of(counters, "CTA_COUNTERS_BYTES", 0)
