"""Offload: what the kernel leaves to devices, done for captured frames, so that they look as on a wire. Pure.

A virtual device takes frames whose checksum is unfinished, and many segments of TCP or UDP in one piece (GSO); nothing
on the way ever finishes or cuts them. A packet socket tells so in a header before each frame (packet(7),
PACKET_VNET_HDR; struct virtio_net_hdr in <linux/virtio_net.h>).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

#: What the option PACKET_VNET_HDR puts before each frame.
HEADER = struct.Struct("=BBHHHH")
_NEEDS_CSUM = 1
_TCP_KINDS, _UDP_KIND, _ECN = {4: 1, 6: 4}, 5, 0x80  # VIRTIO_NET_HDR_GSO_...
_TCP, _UDP = 6, 17
_FIN_AND_PSH, _CWR = 0x09, 0x80


class Offload(NamedTuple):
    """What is left to do for one frame.

    Attributes:
        start: from which byte on the checksum is taken; 0 if it is finished.
        field: at which byte it belongs, counted from ``start``.
        size: bytes of payload of each segment that it stands for; 0 if for one.
        kind: of the segments, a ``VIRTIO_NET_HDR_GSO_`` number
    """

    start: int
    field: int
    size: int
    kind: int

    def behind_tag(self) -> Offload:
        """The same when a VLAN tag has been put back into the frame."""
        return self._replace(start=self.start + 4) if self.start else self


def decode(header: bytes) -> Offload | None:
    """What the header before a frame says; None if nothing is left to do."""
    flags, kind, _, size, start, field = HEADER.unpack(header)
    if not flags & _NEEDS_CSUM:
        start = field = 0
    return Offload(start, field, size, kind & ~_ECN) if start or size else None


def received(data: bytes) -> bytes:
    """What a packet socket with PACKET_VNET_HDR has received: the frame behind the header, with its checksum."""
    offload, frame = decode(data[: HEADER.size]), data[HEADER.size :]
    return frame if offload is None else finished(frame, offload)


def checksum(data: bytes | bytearray) -> int:
    """The Internet checksum (RFC 1071)."""
    rest = int.from_bytes(data, "big") << (8 * (len(data) & 1))
    total = rest % 0xFFFF
    return 0xFFFF - (total or (0xFFFF if rest else 0))


def finished(data: bytes, offload: Offload) -> bytes:
    """A frame with its checksum, whose field holds the sum of the pseudo header so far (skb_checksum_help())."""
    at = offload.start + offload.field
    if not offload.start or at + 2 > len(data):
        return data
    return data[:at] + struct.pack("!H", checksum(data[offload.start :]) or 0xFFFF) + data[at + 2 :]


def segments(data: bytes, network: int, offload: Offload) -> list[bytes]:
    """The frames that a device would have sent for one that holds several segments; none if it is too intricate.

    Args:
        data: the whole frame.
        network: at which byte its IP header begins.
        offload: what is left to do.
    """
    version = data[network] >> 4 if len(data) > network else 0
    if len(data) < network + {4: 28, 6: 48}.get(version, 0):
        return []
    if version == 4:
        transport, protocol = network + (data[network] & 15) * 4, data[network + 9]
        addresses = data[network + 12 : network + 20]
    elif version == 6:
        transport, protocol = network + 40, data[network + 6]
        addresses = data[network + 8 : network + 40]
    else:
        return []
    if offload.start not in (0, transport):
        return []  # of a tunnel: the segments are those of a packet inside
    if protocol == _TCP and offload.kind == _TCP_KINDS[version] and len(data) >= transport + 20:
        payload = transport + (data[transport + 12] >> 4) * 4
    elif protocol == _UDP and offload.kind == _UDP_KIND:
        payload = transport + 8
    else:
        return []
    found = []
    for number, start in enumerate(range(payload, len(data), offload.size)):
        frame = bytearray(data[:payload] + data[start : start + offload.size])
        last = start + offload.size >= len(data)
        _number(frame, network, version, number)
        if protocol == _TCP:
            sequence = struct.unpack_from("!I", frame, transport + 4)[0] + start - payload
            struct.pack_into("!I", frame, transport + 4, sequence & 0xFFFFFFFF)
            frame[transport + 13] &= ~((0 if last else _FIN_AND_PSH) | (_CWR if number else 0)) & 0xFF
        else:
            struct.pack_into("!H", frame, transport + 4, len(frame) - transport)
        at = transport + (16 if protocol == _TCP else 6)
        struct.pack_into("!H", frame, at, 0)
        pseudo = addresses + struct.pack("!II", len(frame) - transport, protocol)
        total = checksum(pseudo + frame[transport:])
        # For UDP, 0 would mean that there is none (RFC 768).
        struct.pack_into("!H", frame, at, total or 0xFFFF if protocol == _UDP else total)
        found.append(bytes(frame))
    return found


def _number(frame: bytearray, network: int, version: int, number: int) -> None:
    """Set the length in the IP header, and for IPv4 its identification and checksum."""
    if version == 6:
        struct.pack_into("!H", frame, network + 4, len(frame) - network - 40)
        return
    identification = (struct.unpack_from("!H", frame, network + 4)[0] + number) & 0xFFFF
    struct.pack_into("!HH", frame, network + 2, len(frame) - network, identification)
    struct.pack_into("!H", frame, network + 10, 0)
    header = frame[network : network + (frame[network] & 15) * 4]
    struct.pack_into("!H", frame, network + 10, checksum(header))
