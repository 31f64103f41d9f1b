"""Encapsulation: tunnel devices that carry a probe's packets, and how to recognize their outer packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_netns.addresses import Address
from pytest_netns.devices.builder import Device
from pytest_netns.devices.wireguard import WireGuard
from pytest_netns.errors import NetnsError
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


@dataclass(frozen=True, slots=True)
class Outer:
    """What a device sends to carry packets.

    Attributes:
        device: which.
        remote: to whom.
        protocols: numbers of the IP protocols.
        port: the destination port; None if there is none.
    """

    device: Device
    remote: Address
    protocols: frozenset[int]
    port: int | None


def carriers(lab: Lab) -> Iterator[Outer]:
    """What those devices of a lab send whose far end is known."""
    for node in lab:
        if not isinstance(node, Host) or node.closed:
            continue
        for device in node.devices:
            if isinstance(device, WireGuard):
                for endpoint in _endpoints(device):
                    yield Outer(device, endpoint[0], _UDP, endpoint[1])
            elif device.remote is not None and device.kind in _PROTOCOLS:
                yield Outer(device, device.remote, _PROTOCOLS[device.kind], device.port)


def far_end_of(device: Device, inner: Address) -> Address | None:
    """To whom a device sends what carries a packet for an address; None if that is not known."""
    if not isinstance(device, WireGuard):
        return device.remote
    endpoint = endpoint_for(device, inner)
    return endpoint[0] if endpoint is not None else None


def endpoint_for(device: WireGuard, inner: Address) -> tuple[Address, int] | None:
    """Where a WireGuard device looks for the peer that takes packets for an address; None if that is not known."""
    try:
        peers = device.peers
    except NetnsError:
        return None
    takers = [peer for peer in peers if any(inner in network for network in peer.allowed_ips)]
    return next((peer.endpoint for peer in takers if peer.endpoint is not None), None)


def protocols(lab: Lab) -> set[int]:
    """What they send, by numbers of IP protocols."""
    return {number for outer in carriers(lab) for number in outer.protocols}


def carrier_of(lab: Lab, packet: Headers) -> Device | None:
    """The device that sent a packet; None if none did."""
    for outer in carriers(lab):
        fits = packet.destination == outer.remote and packet.protocol in outer.protocols
        fits = fits and outer.port in (None, packet.ports[1])
        if fits and any(packet.source == address.ip for address in outer.device.node.addresses()):
            return outer.device
    return None


def _endpoints(device: WireGuard) -> list[tuple[Address, int]]:
    try:
        return [peer.endpoint for peer in device.peers if peer.endpoint is not None]
    except NetnsError:
        return []
