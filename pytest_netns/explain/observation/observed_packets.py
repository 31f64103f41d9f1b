"""Sightings: the probe is sent again while every interface of the lab is captured; where its packets were seen."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.capture.frame import ETH_IPV4, ETH_IPV6, Frame
from pytest_netns.probe import icmp

Kind = Literal["ping", "tcp", "udp"]
Role = Literal["request", "reply", "error"]

_PROTOCOLS = {("ping", 4): 1, ("ping", 6): 58, ("tcp", 4): 6, ("tcp", 6): 6, ("udp", 4): 17, ("udp", 6): 17}


@dataclass(frozen=True, slots=True)
class ObservedPacket:
    """One packet of the probe at one interface."""

    frame: Frame
    role: Role
    source: bytes
    destination: bytes
    ports: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        way = "left" if self.frame.outgoing else "arrived at"
        return f"the {self.role} {way} {self.frame.place}"


@dataclass(frozen=True, slots=True)
class IpPacket:
    """What is needed of one: the number of its protocol, its addresses, and what follows its header."""

    protocol: int
    source: bytes
    destination: bytes
    payload: bytes


def _parse(frame: Frame, version: int) -> IpPacket | None:
    data = frame.data
    if frame.ethernet:
        if data[12:14] != (ETH_IPV4 if version == 4 else ETH_IPV6):
            return None
        data = data[14:]
    if version == 4:
        if len(data) < 20 or data[6] & 0x1F or data[7]:  # later fragments have no header of the protocol above
            return None
        return IpPacket(data[9], data[12:16], data[16:20], data[(data[0] & 15) * 4 :])
    if len(data) < 40:
        return None
    protocol, payload = data[6], data[40:]
    if protocol == 44 and len(payload) >= 8:
        protocol, payload = payload[0], payload[8:]
    return IpPacket(protocol, data[8:24], data[24:40], payload)


def parsed(frame: Frame) -> IpPacket | None:
    """The IP packet that a frame carries; None if it carries none, or a later fragment."""
    return _parse(frame, 4) or _parse(frame, 6)


def observed_packets(frames: list[Frame], kind: Kind, source: str, address: Address, port: int) -> list[ObservedPacket]:
    """The frames that belong to a probe, told by what address translation does not change.

    The first request that leaves the source is recognized by its destination; the others, and the answers, by the
    identifier (ICMP), sequence number (TCP) or source port (UDP) that it carries.
    """
    version = address.version
    parsed = [(frame, packet) for frame in frames if (packet := _parse(frame, version)) is not None]
    role_of: Callable[[IpPacket], Role | None] | None = None
    for frame, packet in parsed:
        if frame.node == source and frame.outgoing and packet.destination == address.packed:
            role_of = _recognizer(kind, version, packet, port)
            if role_of is not None:
                break
    if role_of is None:
        return []
    found: list[ObservedPacket] = []
    # From the beginning: an arrival may be stamped some microseconds before its departure.
    for frame, packet in parsed:
        role = role_of(packet)
        if role is not None:
            ports = struct.unpack_from("!HH", packet.payload) if kind != "ping" and role != "error" else (0, 0)
            found.append(ObservedPacket(frame, role, packet.source, packet.destination, (ports[0], ports[1])))
    return found


def _recognizer(kind: Kind, version: int, first: IpPacket, port: int) -> Callable[[IpPacket], Role | None] | None:
    protocol = _PROTOCOLS[kind, version]
    if first.protocol != protocol or len(first.payload) < 8:
        return None
    errors = icmp.ERRORS4 if version == 4 else icmp.ERRORS6
    icmp_protocol = _PROTOCOLS["ping", version]
    key = _key(kind, first.payload)
    if key is None or (kind != "ping" and struct.unpack_from("!H", first.payload, 2)[0] != port):
        return None
    if kind == "ping" and first.payload[0] not in (icmp.ECHO_REQUEST, icmp.ECHO_REQUEST6):
        return None

    def role_of(packet: IpPacket) -> Role | None:
        payload = packet.payload
        if len(payload) < 8:
            return None
        if packet.protocol == icmp_protocol and payload[0] in errors:
            about = icmp.quoted(version, payload[8:])
            return "error" if about and about.protocol == protocol and _key(kind, about.payload) == key else None
        if packet.protocol != protocol:
            return None
        if kind == "ping":
            if payload[4:8] != key:
                return None
            return "request" if payload[0] in (icmp.ECHO_REQUEST, icmp.ECHO_REQUEST6) else "reply"
        if kind == "tcp":
            if len(payload) < 14:  # no flags
                return None
            if payload[4:8] == key and payload[13] & 0x12 == 0x02:
                return "request"
            answer = struct.pack("!I", (struct.unpack("!I", key)[0] + 1) & 0xFFFFFFFF)
            return "reply" if payload[8:12] == answer and payload[13] & 0x10 else None
        return "request" if payload[0:2] == key else "reply" if payload[2:4] == key else None

    return role_of


def _key(kind: Kind, payload: bytes) -> bytes | None:
    if len(payload) < 8:
        return None
    return payload[0:2] if kind == "udp" else payload[4:8]


def first_of(of_role: list[ObservedPacket]) -> ObservedPacket:
    """Where it came from: who sent it and did not get it before. Stamps alone may be out of order."""
    passed_on = {each.frame.node for each in of_role if not each.frame.outgoing}
    departures = [each for each in of_role if each.frame.outgoing]
    return next((each for each in departures if each.frame.node not in passed_on), (departures or of_role)[0])


def last_of(of_role: list[ObservedPacket]) -> ObservedPacket:
    """Where it was seen last. Stamps of one packet within microseconds may be out of order: arriving comes last."""
    last = of_role[-1]
    close = [each for each in of_role if last.frame.time - each.frame.time < 50_000 and not each.frame.outgoing]
    return close[-1] if last.frame.outgoing and close and _follows(close[-1], of_role) else last


def _follows(arrived: ObservedPacket, of_role: list[ObservedPacket]) -> bool:
    return not any(each.frame.outgoing and each.frame.node == arrived.frame.node for each in of_role)
