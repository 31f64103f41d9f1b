"""Where a probe comes from: an address or an interface of the node that asks, or whatever its routes say."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

from pytest_netns.addresses import Address, AddressWithPrefix
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

#: What ``source=`` takes: an address of the node, or an interface of it, by object or name.
Source = Interface | str | IPv4Address | IPv6Address | IPv4Interface | IPv6Interface

# From <linux/in.h>; the kernel looks at it on sockets of both families.
_IP_BIND_ADDRESS_NO_PORT = 24


@dataclass(frozen=True, slots=True)
class Origin:
    """What a probe's sockets are bound to.

    Attributes:
        node: who asks.
        address: the source address; None leaves it to the routes.
        interface: the only interface that packets leave and answers come in by (SO_BINDTODEVICE, socket(7)); None
            leaves it to the routes.
    """

    node: Namespace
    address: Address | None = None
    interface: Interface | None = None

    @property
    def source(self) -> Source | None:
        """What ``source=`` would have to be for the same; None if it is bound to nothing."""
        if self.address is not None and self.interface is not None:
            return f"{self.address}%{self.interface.name}"
        return self.interface or self.address

    def addresses(self) -> list[AddressWithPrefix]:
        """Those of the node that the probe may come from."""
        own = self.node.addresses() if self.interface is None else self.interface.addresses
        return own if self.address is None else [each for each in own if each.ip == self.address]

    def bind(self, sock: socket.socket) -> None:
        """Bind a socket that has no port yet.

        Raises:
            TopologyError: the address is none of the node's.
            KernelError: the kernel refused otherwise.
        """
        try:
            if self.interface is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.name.encode())
            if self.address is not None:
                if sock.type != socket.SOCK_RAW:  # the port is chosen by connect(), as without an address
                    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                text = str(self.address)
                scope = self.interface.index if self.interface is not None else 0
                sock.bind((text, 0) if self.address.version == 4 else (text, 0, 0, scope))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                shown = ", ".join(map(str, self.node.addresses())) or "none"
                raise TopologyError(
                    f"source={self.address}: {self.node.name!r} has no such address; its addresses: {shown}"
                ) from None
            raise KernelError.of(error, f"bind to {self.interface or self.address}", self.node.name) from error


def origin(node: Namespace, source: Source | None) -> Origin:
    """What ``source=`` of a probe means.

    Raises:
        TopologyError: an interface that the node does not have, or neither an address nor an interface.
    """
    if source is None:
        return Origin(node)
    if isinstance(source, Interface):
        if source.node.inode != node.inode:
            raise TopologyError(f"source={source!r}: it is not an interface of {node.name!r}")
        return Origin(node, interface=source)
    if isinstance(source, IPv4Interface | IPv6Interface):
        source = source.ip
    if not isinstance(source, str | IPv4Address | IPv6Address):
        raise TopologyError(
            f"source={source!r}: expected an address or an interface of {node.name!r}, not {type(source).__name__}"
        )
    text, _, zone = str(source).partition("%")
    try:
        address = ip_address(text)
    except ValueError:
        if text in node.interfaces:
            return Origin(node, interface=node.interface(text))
        names = ", ".join(node.interfaces)
        raise TopologyError(
            f"source={source!r}: it is neither an address nor an interface of {node.name!r} (interfaces: {names})"
        ) from None
    if zone:
        return Origin(node, address, node.interface(zone))
    if address.version == 6 and address.is_link_local:
        having = [each for each in node.interfaces.values() if any(a.ip == address for a in each.addresses)]
        if len(having) == 1:
            return Origin(node, address, having[0])
    return Origin(node, address)
