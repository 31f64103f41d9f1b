"""Multicast groups that a host is a member of."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Self

from pytest_netns.addresses import Address, parse_plain
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.syscalls import entered
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_lookup import named_interface

# From <linux/in.h>: for both families, see RFC 3678.
_JOIN_GROUP, _JOIN_SOURCE_GROUP = 42, 46
_SOCKADDR_STORAGE = 128
_REASONS = {
    errno.ENOBUFS: "it is in as many groups as sysctl net.ipv4.igmp_max_memberships allows a socket",
    errno.ENODEV: "there is no such interface, or it is down",
}


class Membership:
    """Membership of a host in a multicast group, until ``leave()``, the end of a ``with`` block, or of the host.

    The kernel reports it to routers and switches (IGMP, RFC 3376; MLD, RFC 3810) and accepts the packets of the group
    on that interface. Every socket of the host that is bound to their port receives them, not only the one that joined.

    Attributes:
        group: the address of the group.
        interface: name of the interface that it was joined on.
        source: the only sender whose packets are accepted; None: all.

    Example:
        >>> with green.join("239.1.2.3") as membership:
        ...     print(membership.group, membership.interface)
    """

    def __init__(self, group: Address, interface: Interface, source: Address | None, sock: socket.socket) -> None:
        self.group = group
        self.interface = interface
        self.source = source
        self._socket = sock

    def __repr__(self) -> str:
        by = f" of {self.source}" if self.source is not None else ""
        left = ", left" if self._socket.fileno() < 0 else ""
        return f"<Membership {self.group}{by} on {self.interface}{left}>"

    def leave(self) -> None:
        """Leave the group. Further calls do nothing. Other sockets of this host may still be members.

        Example:
            >>> membership = green.join("239.1.2.3")
            >>> membership.leave()
        """
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()


def join(
    host: Node,
    group: str | Address,
    interface: str | Interface | Node | None = None,
    *,
    source: str | Address | None = None,
) -> Membership:
    """Join a multicast group, until ``leave()`` or the end of a ``with`` block.

    Args:
        group: the address of the group, IPv4 or IPv6.
        interface: an interface of the host, by object or name, or a node at its other end; None: the only one.
        source: accept the packets of this sender only (source-specific multicast, RFC 4607).

    Raises:
        TopologyError: not a multicast address, no such interface, or the host has several and none is named.
        KernelError: the kernel refused.

    Example:
        >>> with green.join("239.1.2.3"):
        ...     router.ping("239.1.2.3", source="eth0", timeout=0.1)
    """
    what = f"group of {host.name!r}"
    address = parse_plain(group, what)
    if not address.is_multicast:
        raise TopologyError(f"{what}: {address} is not a multicast address (224.0.0.0/4, ff00::/8)")
    sender = parse_plain(source, f"{what}: source") if source is not None else None
    if sender is not None and sender.version != address.version:
        raise TopologyError(f"{what}: {address} and its source {sender} are of different families")
    port = _only_interface(host, address) if interface is None else named_interface(host, interface, what)
    family, level = (
        (socket.AF_INET, socket.IPPROTO_IP) if address.version == 4 else (socket.AF_INET6, socket.IPPROTO_IPV6)
    )
    request = struct.pack("@I0Q", port.index) + _sockaddr(address)
    option = _JOIN_GROUP
    if sender is not None:
        request, option = request + _sockaddr(sender), _JOIN_SOURCE_GROUP
    sock = host.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(level, option, request)
    except OSError as error:
        sock.close()
        words = f"join {address} on {port.name}{f' from {sender}' if sender is not None else ''}"
        raise KernelError.of(error, words, host.name, _REASONS.get(error.errno or 0, "")) from error
    except BaseException:
        sock.close()
        raise
    return Membership(address, port, sender, sock)


def groups(host: Node) -> dict[str, list[Address]]:
    """The multicast groups of a host by interface, IPv4 first (``ip maddress``). Read from the kernel.

    Example:
        >>> with green.join("239.1.2.3"):
        ...     print(green.groups()["eth0"])
    """
    host._before_entry()
    with entered(host):
        lines4, lines6 = _lines("igmp")[1:], _lines("igmp6")
    found: dict[str, list[Address]] = {}
    name = ""
    for line in lines4:
        words = line.split()
        if not line.startswith("\t"):
            name = words[1].rstrip(":")
        else:  # the address as a number in host byte order
            found.setdefault(name, []).append(IPv4Address(int(words[0], 16).to_bytes(4, sys.byteorder)))
    for line in lines6:
        words = line.split()
        found.setdefault(words[1], []).append(IPv6Address(bytes.fromhex(words[2])))
    return found


def _lines(name: str) -> list[str]:
    try:
        with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
            return file.read().splitlines()
    except FileNotFoundError:  # igmp6 without IPv6
        return []


def _sockaddr(address: Address) -> bytes:
    """struct sockaddr_storage."""
    if address.version == 4:
        found = struct.pack("=HH4s", socket.AF_INET, 0, address.packed)
    else:
        found = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, address.packed, 0)
    return found.ljust(_SOCKADDR_STORAGE, b"\0")


def _only_interface(host: Node, group: Address) -> Interface:
    interfaces = [each for name, each in host.interfaces.items() if name != "lo"]
    if len(interfaces) != 1:
        shown = ", ".join(each.name for each in interfaces) or "none but lo"
        raise TopologyError(f"group {group} of {host.name!r}: say on which interface; it has: {shown}")
    return interfaces[0]
