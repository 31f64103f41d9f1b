"""Conversations: whether a node is reached over TCP or UDP, and as whom it sees the caller."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from slowness import patient

from pytest_netns import Interface, Namespace
from pytest_netns.kernel.netlink.tables import Route

Address = IPv4Address | IPv6Address

#: Seconds; whoever is reached answers in a millisecond.
PATIENCE = patient(20.0)


def address_of(node: Namespace | Interface, version: int) -> Address:
    """The first address of a family, link-local ones left out."""
    addresses = node.addresses if isinstance(node, Interface) else node.addresses()
    return next(a.ip for a in addresses if a.version == version and not a.is_link_local)


def settled_routes(node: Namespace) -> list[Route]:
    """Its routes without those of link-local addresses, which the kernel makes in its own good time."""
    return [route for route in node.routes() if not route.destination.is_link_local]


def listen(server: Namespace, port: int, protocol: str = "tcp", address: str = "::") -> socket.socket:
    """A socket that waits for callers of both families, or on one address."""
    version = ip_address(address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    listener = server.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    if version == 6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, port))
    listener.settimeout(PATIENCE)
    if protocol == "tcp":
        listener.listen()
    return listener


class Call:
    """A connection, or a UDP socket, with something said in both directions.

    Attributes:
        caller: the caller's socket.
        callee: the socket of who was called.
        peer: the address that the callee sees the caller under.
    """

    def __init__(self, client: Namespace, address: Address, port: int, listener: socket.socket) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self.caller = client.socket(family, listener.type)
        self.caller.settimeout(PATIENCE)
        self.caller.connect((str(address), port))
        if listener.type == socket.SOCK_STREAM:
            self.callee, self._there = listener.accept()
            self.callee.settimeout(PATIENCE)
        else:
            self.caller.send(b"hello")
            self.callee = listener
            self._there = listener.recvfrom(100)[1]
        found = ip_address(self._there[0])
        self.peer: Address = getattr(found, "ipv4_mapped", None) or found
        self.talk()

    def talk(self) -> None:
        """Say something in both directions. Raises TimeoutError if it does not arrive."""
        if self.callee.type == socket.SOCK_STREAM:
            self.callee.sendall(b"answer")
        else:
            self.callee.sendto(b"answer", self._there)
        assert self.caller.recv(100) == b"answer"
        self.caller.send(b"again")
        assert self.callee.recv(100) == b"again"

    def end(self) -> None:
        """Hang up."""
        self.caller.close()
        if self.callee.type == socket.SOCK_STREAM:
            self.callee.close()


def seen_as(client: Namespace, address: Address, port: int, listener: socket.socket) -> Address:
    """Call, talk and hang up; the address under which the listener sees the caller."""
    call = Call(client, address, port, listener)
    call.end()
    return call.peer
