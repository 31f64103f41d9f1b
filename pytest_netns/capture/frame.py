"""Frame: one Ethernet frame as it passed an interface. Pure; scapy is imported when one is dissected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_netns.capture.offload import Offload, finished, segments
from pytest_netns.kernel.scapy_import import prepare_scapy

if TYPE_CHECKING:
    from scapy.packet import Packet

ETH_IPV4, ETH_ARP, ETH_IPV6, ETH_VLAN = b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00"
ETH_SERVICE_VLAN = b"\x88\xa8"  # the outer one of two (IEEE 802.1ad)

#: EtherType of our own frames: IEEE 802 local experimental 1.
ETH_CANARY = b"\x88\xb5"
CANARY = ETH_CANARY + b"pytest-netns canary "

_HOP_BY_HOP, _IGMP, _ICMPV6 = 0, 2, 58
# Multicast listener discovery (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861), redirects included.
_SEARCH6 = frozenset({135, 136})
_CHATTER6 = frozenset({130, 131, 132, 133, 134, 135, 136, 137, 143})


@dataclass(slots=True, eq=False)
class Frame:
    """One frame at one interface.

    Attributes:
        time: nanoseconds since 1970, from the kernel; the clock is the same for all interfaces.
        node: name of the namespace.
        interface: name of the interface in it.
        outgoing: True if the node sent it there, False if it arrived.
        raw: as the kernel has handed it over, from the Ethernet header on; from the IP header on for devices without.
        ethernet: whether it begins with an Ethernet header.
        comment: a remark that ``Capture.save`` writes beside it.
        offload: what the kernel has left to the device; None if nothing.

    Example:
        >>> with red.capture() as capture:
        ...     red.ping(blue)
        >>> [(frame.place, frame.outgoing, len(frame.raw)) for frame in capture.frames]
    """

    time: int
    node: str
    interface: str
    outgoing: bool
    raw: bytes
    ethernet: bool = True
    comment: str = ""
    offload: Offload | None = None
    _data: bytes | None = field(default=None, repr=False)
    _parts: tuple[Frame, ...] = field(default=(), repr=False)
    _packet: Packet | None = field(default=None, repr=False)

    @property
    def data(self) -> bytes:
        """As on a wire: with its checksum finished."""
        if self.offload is None:
            return self.raw
        if self._data is None:
            self._data = finished(self.raw, self.offload)
        return self._data

    @property
    def parts(self) -> tuple[Frame, ...]:
        """The frames that a device would have made of it; itself, unless it holds several segments of TCP or UDP."""
        if self.offload is None or not self.offload.size:
            return (self,)
        if not self._parts:
            pieces = segments(self.raw, _network_offset(self.raw, self.ethernet), self.offload)
            whole = f"{len(self.raw)} bytes that the kernel has handed on in one piece (offload)"
            self._parts = tuple(
                Frame(
                    self.time,
                    self.node,
                    self.interface,
                    self.outgoing,
                    piece,
                    self.ethernet,
                    f"part {number} of {len(pieces)} of {whole}",
                )
                for number, piece in enumerate(pieces, 1)
            )
            if not pieces:
                self.comment = self.comment or f"{whole}, to be sent in segments of {self.offload.size}"
                self._parts = (self,)
        return self._parts

    @property
    def packet(self) -> Packet:
        """As a scapy packet, dissected at the first access; ``time`` and ``sniffed_on`` are set."""
        if self._packet is None:
            self._packet = dissect(self.data, self.ethernet)
            self._packet.time = self.time / 1_000_000_000  # integers: 1e9 would round twice
            self._packet.sniffed_on = f"{self.node}:{self.interface}"
        return self._packet

    @property
    def place(self) -> str:
        """``red:eth0``."""
        return f"{self.node}:{self.interface}"

    def __repr__(self) -> str:
        return f"<Frame {self.place} {'out' if self.outgoing else 'in'}: {summary(self)}>"


def dissect(data: bytes, ethernet: bool = True) -> Packet:
    """A frame as a scapy packet. Bytes that make no sense end up in a Raw layer; nothing is raised."""
    prepare_scapy()
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    first = Ether if ethernet else (IPv6 if data[:1] and data[0] >> 4 == 6 else IP)
    try:
        return first(data)
    except Exception:  # scapy's dissectors raise whatever a hostile packet makes them raise
        return Raw(data)


def summary(frame: Frame) -> str:
    """One line about a frame, by scapy."""
    packet = frame.packet
    text = str(packet.summary())
    for name in ("TCP", "UDP"):  # numbers, not what /etc/services calls them
        if (layer := packet.getlayer(name)) is not None:
            for field in ("sport", "dport"):
                text = text.replace(f":{layer.sprintf(f'%{name}.{field}%')} ", f":{layer.getfieldval(field)} ")
    return text.removeprefix("Ether / ").replace(" / Padding", "").replace(" / Raw", "")


def is_canary(data: bytes) -> bool:
    """Whether it is a frame of ours that proves a capture to be alive."""
    return data[12:14] == ETH_CANARY and data[12 : 12 + len(CANARY)] == CANARY


def _network_offset(data: bytes, ethernet: bool) -> int:
    """At which byte the IP header begins, behind one or two VLAN tags."""
    if not ethernet:
        return 0
    offset = 12
    while data[offset : offset + 2] in (ETH_VLAN, ETH_SERVICE_VLAN):
        offset += 4
    return offset + 2


def _network(data: bytes, ethernet: bool) -> tuple[bytes, bytes]:
    """EtherType and what is behind it, one VLAN tag skipped."""
    if not ethernet:
        return ETH_IPV6 if data[:1] and data[0] >> 4 == 6 else ETH_IPV4, data
    if data[12:14] == ETH_VLAN:
        return data[16:18], data[18:]
    return data[12:14], data[14:]


def _icmpv6_type(ip: bytes) -> int | None:
    """The type of an ICMPv6 message in an IPv6 packet, behind a hop-by-hop header too; None if it is none."""
    if len(ip) < 41:
        return None
    header, offset = ip[6], 40
    if header == _HOP_BY_HOP and len(ip) > 42:
        header, offset = ip[40], 40 + 8 * (ip[41] + 1)
    return ip[offset] if header == _ICMPV6 and len(ip) > offset else None


def is_chatter(data: bytes, ethernet: bool = True) -> bool:
    """Whether it is IPv6 neighbour discovery, multicast listener discovery or IGMP: what hosts do unasked."""
    kind, ip = _network(data, ethernet)
    if kind == ETH_IPV4:
        return len(ip) > 9 and ip[9] == _IGMP
    return kind == ETH_IPV6 and _icmpv6_type(ip) in _CHATTER6


def is_search(data: bytes, ethernet: bool = True) -> bool:
    """Whether it asks for the MAC address of a neighbour, or tells it: ARP, neighbour solicitation, advertisement."""
    kind, ip = _network(data, ethernet)
    return kind == ETH_ARP or (kind == ETH_IPV6 and _icmpv6_type(ip) in _SEARCH6)
