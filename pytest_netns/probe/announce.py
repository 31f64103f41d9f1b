"""Announcements: a host that was plugged in somewhere says so, and switches and neighbours learn where it is now."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.errors import KernelError
from pytest_netns.probe.icmp import checksum
from pytest_netns.probe.probe_sockets import close_later, packet_socket
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

_BROADCAST, _ALL_NODES_MAC = b"\xff" * 6, bytes.fromhex("333300000001")
_ALL_NODES = IPv6Address("ff02::1").packed
_ICMPV6 = 58
_ROUTER, _OVERRIDE = 0x80000000, 0x20000000


def announce(node: Namespace, interface: Interface, *, router: bool = False) -> None:
    """Announce every address of an interface to its link, once; nothing happens if no frame can leave.

    By a gratuitous ARP request (RFC 5227 section 3), and an unsolicited neighbour advertisement to all nodes
    (RFC 4861 section 7.2.6).

    Args:
        node: whose the interface is.
        interface: whose addresses, all of them, link-local ones too.
        router: whether its node forwards IPv6, which the advertisement says.

    Raises:
        KernelError: the kernel refused, other than because the interface is down or gone.
    """
    frames = list(_frames(bytes.fromhex(interface.mac.replace(":", "")), interface.addresses, router))
    if not frames:
        return
    try:
        sock = packet_socket(node, interface.name, 0)  # deaf: it has no protocol
    except KernelError as error:
        if error.errno in (errno.ENETDOWN, errno.ENODEV):
            return
        raise
    try:
        for frame in frames:
            sock.send(frame)
    except OSError as error:
        if error.errno not in (errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.ENOBUFS):
            raise KernelError.of(error, f"announcing {interface}", node.name) from error
    finally:
        close_later(sock)


def _frames(mac: bytes, addresses: list[AddressWithPrefix], router: bool) -> Iterator[bytes]:
    for address in addresses:
        packed = address.ip.packed
        if address.version == 4:
            yield (
                _BROADCAST
                + mac
                + struct.pack("!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, 1, mac, packed, bytes(6), packed)
            )
        else:
            yield _ALL_NODES_MAC + mac + b"\x86\xdd" + _advertisement(mac, packed, router)


def _advertisement(mac: bytes, address: bytes, router: bool) -> bytes:
    """An IPv6 packet with a neighbour advertisement and its target link-layer address option (RFC 4861 4.4, 4.6.1)."""
    flags = _OVERRIDE | (_ROUTER if router else 0)
    body = struct.pack("!BBHI16sBB6s", 136, 0, 0, flags, address, 2, 1, mac)
    pseudo = address + _ALL_NODES + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255) + address + _ALL_NODES + body
