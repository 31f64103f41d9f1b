"""A DNS question to a certain server, whatever the machine's resolver thinks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pytest_netns.checks import check_text
from pytest_netns.kernel.scapy_import import prepare_scapy
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.udp import UdpResult, ask_udp
from pytest_netns.stack.destination import Destination
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Source
from pytest_netns.topology import transit
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from scapy.packet import Packet

_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class DnsResult:
    """The answer of a DNS server. Truthy if it has answer records.

    Attributes:
        name: the queried name.
        qtype: the record type.
        rcode: ``NOERROR``, ``NXDOMAIN``, ... (RFC 1035 4.1.1); None if there was no answer, or none that is DNS.
        answers: the data of the answer records as text, in order.
        udp: the result of the datagram.

    Example:
        >>> red.dns(blue, "www.example.com").rcode
    """

    name: str
    qtype: str
    rcode: str | None
    answers: tuple[str, ...]
    udp: UdpResult
    _reply: Packet | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.answers)

    @property
    def reply(self) -> Packet | None:
        """The answer as a scapy DNS packet; None without one."""
        return self._reply

    def __repr__(self) -> str:
        asked = f"{self.udp.source} asks {self.udp.destination} for {self.name} {self.qtype}"
        if self.rcode is None:
            return f"<DnsResult {asked}: {self.udp.error or self.udp.in_flight or self.udp.state}>"
        return f"<DnsResult {asked}: {self.rcode} {', '.join(self.answers) or 'without answers'}>"


def dns(
    node: BaseNode,
    server: Destination,
    name: str,
    qtype: str = "A",
    *,
    port: int = 53,
    timeout: float = 1.0,
    source: Source | None = None,
) -> DnsResult:
    """Query a DNS server (RFC 1035) over UDP. Truthy if the answer has records.

    Args:
        server: a node, an interface or an address.
        name: the name to query.
        qtype: ``"A"``, ``"AAAA"``, ``"MX"``, ...
        port: UDP port of the server, 1 to 65535.
        timeout: seconds to wait for the answer.
        source: an address or an interface of this node, by object or name, to send from; None: chosen by
            the routes.

    Raises:
        TopologyError: the server has no address of a family that this node has.
        ValueError: an unknown kind of record, or a number out of range.

    Example:
        >>> red.dns(blue, "www.example.com", "AAAA", timeout=0.2).answers
    """
    result = ask_dns(
        node, server, name, qtype, port=port, timeout=timeout, source=source, in_flight=partial(transit.in_flight, node)
    )
    if not result:
        probe_failed(node, result, "dns")
    return result


def ask_dns(
    node: Namespace,
    server: Destination,
    name: str,
    qtype: str = "A",
    *,
    port: int = 53,
    timeout: float = 1.0,
    source: Source | None = None,
    in_flight: InFlight = nowhere,
) -> DnsResult:
    """``dns`` without events: a failure is not recorded."""
    prepare_scapy()
    from scapy.layers.dns import DNS, DNSQR, dnsqtypes

    known = {kind: number for number, kind in dnsqtypes.items()}
    check_text("name", name)
    if not isinstance(qtype, str) or qtype not in known:
        raise ValueError(f"qtype is {qtype!r}; it can be A, AAAA, MX, NS, PTR, SOA, SRV, TXT, ... (RFC 1035 3.2.2)")
    identifier = int.from_bytes(os.urandom(2), "big")
    question = bytes(DNS(id=identifier, rd=1, qd=DNSQR(qname=name, qtype=qtype)))
    result = ask_udp(node, server, port, question, timeout=timeout, source=source, in_flight=in_flight)
    if not result or len(result.reply) < 12 or result.reply[:2] != question[:2]:
        return DnsResult(name, qtype, None, (), result)
    try:
        reply = DNS(result.reply)
        records = [record for record in (reply.an or []) if record.type == known[qtype]]
        answers = tuple(_text(record) for record in records)
    except Exception:  # scapy raises whatever a malformed answer makes it raise
        return DnsResult(name, qtype, None, (), result)
    return DnsResult(name, qtype, _RCODES.get(reply.rcode, str(reply.rcode)), answers, result, reply)


def _text(record: Packet) -> str:
    value = getattr(record, "rdata", None)
    if value is None:
        shown = (f"{name}={record.getfieldval(name)}" for name in record.fields if name not in ("rrname", "type"))
        return " ".join(shown)
    if isinstance(value, list):
        value = b" ".join(part if isinstance(part, bytes) else str(part).encode() for part in value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
