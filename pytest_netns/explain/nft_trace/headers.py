"""Headers: what a trace tells of a packet."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from socket import IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP

from pytest_netns.addresses import Address
from pytest_netns.explain.nft_trace import parts


@dataclass(frozen=True, slots=True)
class Headers:
    """What a trace tells of a packet.

    Attributes:
        source: None for ARP.
        destination: None for ARP.
        ports: source and destination port of TCP and UDP; else zeros.
        neighbour: whether it is ARP or neighbour discovery.
        protocol: number of the IP protocol; 0 for ARP.
    """

    source: Address | None
    destination: Address | None
    ports: tuple[int, int] = (0, 0)
    neighbour: bool = False
    protocol: int = 0

    @property
    def destination_bytes(self) -> bytes:
        """The destination as it is in a packet; empty for ARP."""
        return self.destination.packed if self.destination is not None else b""


def headers_of(family: str, found: dict[int, bytes]) -> Headers | None:
    """What the attributes of a trace message tell; None if they hold no packet."""
    network, transport = found.get(parts.TRACE_NETWORK_HEADER, b""), found.get(parts.TRACE_TRANSPORT_HEADER, b"")
    if family == "arp" or network[:4] == b"\0\x01\x08\0":  # Ethernet and IPv4: the head of an ARP packet
        return Headers(None, None, neighbour=True)
    version = network[0] >> 4 if network else 0
    if version == 4 and len(network) >= 20:
        protocol, source, destination = network[9], network[12:16], network[16:20]
    elif version == 6 and len(network) >= 40:
        protocol, source, destination = network[6], network[8:24], network[24:40]
    else:
        return None
    ports = (
        struct.unpack_from("!HH", transport)
        if protocol in (IPPROTO_TCP, IPPROTO_UDP) and len(transport) >= 4
        else (0, 0)
    )
    neighbour = protocol == IPPROTO_ICMPV6 and transport[:1] in (b"\x87", b"\x88")
    return Headers(ip_address(source), ip_address(destination), (ports[0], ports[1]), neighbour, protocol)
