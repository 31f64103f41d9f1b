"""Damage: answers whose checksums a router has made wrong."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

from pytest_netns import Host, Router

_ETHTOOL_STXCSUM, _SIOCETHTOOL = 0x17, 0x8946


def no_offload(host: Host) -> None:
    """Have the kernel finish checksums before frames leave, as ``ethtool -K NAME tx off`` does.

    Between namespaces it leaves them out else, so that none can be wrong.
    """
    for name in host.interfaces:
        if name != "lo":
            value = array.array("I", [_ETHTOOL_STXCSUM, 0])
            request = struct.pack("16sP", name.encode(), value.buffer_info()[0])
            with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                fcntl.ioctl(sock, _SIOCETHTOOL, request.ljust(40, b"\0"))


def damage(router: Router, kind: str, version: int, port: int) -> None:
    """What comes from a port, or echo replies, leaves a router with a wrong checksum.

    Args:
        router: on the way back.
        kind: ``"tcp"``, ``"udp"`` or ``"ping"``.
        version: of IP.
        port: of TCP or UDP.
    """
    family, icmp = ("ip", "icmp") if version == 4 else ("ip6", "icmpv6")
    match = f"{icmp} type echo-reply {icmp}" if kind == "ping" else f"{kind} sport {port} {kind}"
    rule = f"{match} checksum set 0x1234"
    router.nft(f"table {family} damage {{ chain c {{ type filter hook postrouting priority 300; {rule}; }}; }}")
