"""Carriers: devices whose own packets carry those of a probe, and how such a packet is told from others."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from pytest_netns.devices.builder import Device
from pytest_netns.explain.nft_trace.headers import Headers
from pytest_netns.lab.host import Host
from pytest_netns.lab.lab import Lab

_GRE = frozenset({socket.IPPROTO_GRE})
_UDP = frozenset({socket.IPPROTO_UDP})
#: Numbers of the IP protocols that a kind of device sends.
_PROTOCOLS: dict[str, frozenset[int]] = {
    "geneve": _UDP,
    "gre": _GRE,
    "gretap": _GRE,
    "ip6gre": _GRE,
    "ip6gretap": _GRE,
    "ip6tnl": frozenset({socket.IPPROTO_IPIP, socket.IPPROTO_IPV6}),
    "ipip": frozenset({socket.IPPROTO_IPIP}),
    "sit": frozenset({socket.IPPROTO_IPV6}),
    "vxlan": _UDP,
}


def carriers(lab: Lab) -> Iterator[Device]:
    """Those of a lab whose far end is known."""
    for node in lab:
        if isinstance(node, Host) and not node.closed:
            yield from (each for each in node.devices if each.remote is not None and each.kind in _PROTOCOLS)


def protocols(lab: Lab) -> set[int]:
    """What they send, by numbers of IP protocols."""
    return {number for device in carriers(lab) for number in _PROTOCOLS[device.kind]}


def carrier_of(lab: Lab, packet: Headers) -> Device | None:
    """The device that sent a packet; None if none did."""
    for device in carriers(lab):
        fits = packet.destination == device.remote and packet.protocol in _PROTOCOLS[device.kind]
        fits = fits and device.port in (None, packet.ports[1])
        if fits and any(packet.source == address.ip for address in device.node.addresses()):
            return device
    return None
