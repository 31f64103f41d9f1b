"""Patterns: which packets are meant. Pure; no sockets."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Union

from pytest_netns.capture.frame import ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_VLAN, Frame

if TYPE_CHECKING:
    from scapy.packet import Packet

#: A scapy packet (matches on the fields that were set, layer by layer in order), a scapy layer class (that layer is
#: there), or a function of a packet.
Pattern = Union["Packet", type["Packet"], Callable[["Packet"], object]]

Matcher = Callable[[Frame], bool]

_UNSOLICITED = ("ICMPv6ND", "ICMPv6ML", "ICMPv6MR", "IGMP")


def describe(pattern: Pattern) -> str:
    """A pattern in words, for messages."""
    from scapy.packet import Packet

    if isinstance(pattern, Packet):
        return str(pattern.command())
    return getattr(pattern, "__qualname__", repr(pattern))


def wants_chatter(pattern: Pattern) -> bool:
    """Whether a pattern names what is otherwise left out: neighbour discovery, MLD, IGMP."""
    from scapy.packet import Packet

    if isinstance(pattern, Packet):
        names = [layer.__name__ for layer in pattern.layers()]
    else:
        names = [getattr(pattern, "__name__", "")] if isinstance(pattern, type) else []
    return any(name.startswith(_UNSOLICITED) for name in names)


def matcher(pattern: Pattern) -> Matcher:
    """A function that tells whether a frame matches.

    Raises:
        TypeError: it is not a pattern.
    """
    from scapy.packet import Packet

    if isinstance(pattern, Packet):
        wanted = _layers(pattern)
        suits = _quick([layer for layer, _ in wanted])
        return lambda frame: suits(frame.data, frame.ethernet) and _matches(wanted, frame.packet)
    if isinstance(pattern, type) and issubclass(pattern, Packet):
        cls = pattern
        suits = _quick([cls])
        return lambda frame: suits(frame.data, frame.ethernet) and bool(frame.packet.haslayer(cls))
    if callable(pattern) and not isinstance(pattern, type):
        return lambda frame: bool(pattern(frame.packet))
    raise TypeError(
        f"{pattern!r} is not a pattern; it can be a scapy packet such as IP()/TCP(dport=80), a scapy layer such as ARP "
        "or a function of a packet"
    )


def _layers(pattern: Packet) -> list[tuple[type[Packet], dict[str, object]]]:
    found = []
    layer: Packet = pattern
    while layer:
        fields = {name: layer.getfieldval(name) for name in layer.fields}
        found.append((type(layer), fields))
        layer = layer.payload
    return found


def _matches(wanted: list[tuple[type[Packet], dict[str, object]]], packet: Packet) -> bool:
    layer: Packet = packet
    for cls, fields in wanted:
        while layer and not _is_a(layer, cls):
            layer = layer.payload
        if not layer:
            return False
        if not all(_equal(name, value, layer) for name, value in fields.items()):
            return False
        layer = layer.payload
    return True


def _is_a(layer: Packet, cls: type[Packet]) -> bool:
    """As scapy's ``haslayer`` has it: an ICMPv6EchoReply is no ICMPv6EchoRequest, though it is made from that class."""
    return type(layer) is cls or bool(layer.match_subclass and isinstance(layer, cls))


def _equal(name: str, value: object, layer: Packet) -> bool:
    from scapy.base_classes import Net

    seen = layer.getfieldval(name)
    if isinstance(value, IPv4Address | IPv6Address):
        value = str(value)
    if isinstance(value, Net):  # "10.0.0.0/24"
        return _is_address(seen) and str(seen) in value
    if layer.get_field(name).islist:
        return bool(seen == value)
    several = value if isinstance(value, list) else [value]  # as where scapy sends: dport=[80, (8000, 8999)]
    return any(_same(layer, each, seen) for each in several)


def _is_address(seen: object) -> bool:
    """Whether it is one indeed; scapy would ask the resolver what else it may mean."""
    try:
        ip_address(str(seen))
    except ValueError:
        return False
    return True


def _same(layer: Packet, value: object, seen: object) -> bool:
    from scapy.packet import Raw

    if isinstance(value, tuple):  # from, to
        return len(value) == 2 and isinstance(seen, int) and value[0] <= seen <= value[1]
    if isinstance(layer, Raw) and isinstance(value, bytes):
        return (
            isinstance(seen, bytes) and value in seen
        )  # the payload of a packet is a stream's, or is padded: containing is enough
    if isinstance(value, str) and isinstance(seen, str) and ":" in value:
        return _canonical(value) == _canonical(seen)
    return bool(seen == value)


@lru_cache(maxsize=256)
def _canonical(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        return text.lower()  # a MAC address


def _quick(layers: list[type[Packet]]) -> Callable[[bytes, bool], bool]:
    """A look at a few bytes that spares most frames the dissection, which takes 0.1 ms."""
    names = {layer.__name__ for layer in layers}
    kind = next((k for n, k in (("ARP", ETH_ARP), ("IP", ETH_IPV4), ("IPv6", ETH_IPV6)) if n in names), None)
    if kind is None:
        return lambda _data, _ethernet: True

    def suits(data: bytes, ethernet: bool) -> bool:
        return not ethernet or data[12:14] == kind or data[12:14] == ETH_VLAN or data[12:14] == b"\x88\xa8"

    return suits
