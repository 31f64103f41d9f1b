"""WireGuard: an encrypted tunnel between peers that know each other's public keys (https://www.wireguard.com)."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from pytest_netns.addresses import Address, Network, is_of_link
from pytest_netns.checks import is_whole
from pytest_netns.devices.builder import Device, DeviceBuilder
from pytest_netns.devices.tunnels import far_end
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink import wireguard_genl as wireguard
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netlink.wireguard_genl import Peer, PeerChange, Shown
from pytest_netns.kernel.syscalls import entered
from pytest_netns.stack.destination import Destination

#: Where WireGuard listens by custom.
PORT = 51820

Networks = str | IPv4Network | IPv6Network | Iterable[str | IPv4Network | IPv6Network]


class WireGuard(Device):
    """A WireGuard device. Created by ``Host.add_wireguard``.

    Attributes:
        userspace: whether wireguard-go implements it instead of the kernel.

    Example:
        >>> a = red.add_wireguard("wg0", address="10.50.0.1/24")
        >>> b = blue.add_wireguard("wg0", address="10.50.0.2/24")
        >>> a.add_peer(b)
        >>> b.add_peer(a)
    """

    userspace = False
    _generic: NetlinkSocket | None = None
    _family = 0

    def _release(self) -> None:
        """Called before its host is closed."""
        if self._generic is not None:
            self._generic.close()

    def remove(self) -> None:
        """Take the device away; allowed more than once.

        Example:
            >>> red.add_wireguard("wg0").remove()
        """
        super().remove()
        self._release()

    @property
    def _socket(self) -> NetlinkSocket:
        if self._generic is None:
            with entered(self.node):
                self._generic = NetlinkSocket(self.node.name, wireguard.NETLINK_GENERIC)
            self._family = wireguard.family(self._generic)
        return self._generic

    def configure(self, private_key: bytes, port: int) -> None:
        """Give it its key and its UDP port.

        Args:
            private_key: 32 bytes.
            port: where it listens.

        Raises:
            KernelError: the kernel refused.
        """
        link = self._socket
        link.batch([wireguard.set_device(self._family, self.index, self.name, private_key=private_key, port=port)])

    def set_peer(self, change: PeerChange) -> None:
        """Add, change or remove a peer."""
        link = self._socket
        link.batch([wireguard.set_device(self._family, self.index, self.name, peer=change)])

    def shown(self) -> Shown:
        """What ``wg show`` shows."""
        link = self._socket
        return wireguard.decode_device(link.dump(wireguard.get_device(self._family, self.index, self.name)))

    @property
    def public_key(self) -> str:
        """Its public key in base64, which peers must know."""
        key = self.shown().public_key
        return "" if key is None else b64encode(key).decode()

    @property
    def listen_port(self) -> int:
        """The UDP port on which it listens."""
        return self.shown().port

    @property
    def peers(self) -> list[Peer]:
        """Its peers, as the kernel has them now: endpoints, handshakes, bytes."""
        return self.shown().peers

    def peer(self, key: str | WireGuard) -> Peer:
        """One of its peers. Raises TopologyError if there is none of that key.

        Example:
            >>> a, b = red.add_wireguard("wg0"), blue.add_wireguard("wg0")
            >>> a.add_peer(b)
            >>> a.peer(b)
        """
        wanted = key.public_key if isinstance(key, WireGuard) else key
        for peer in self.peers:
            if peer.public_key == wanted:
                return peer
        raise TopologyError(f"{self!r} has no peer {wanted!r}")

    def add_peer(
        self,
        peer: str | WireGuard,
        *,
        endpoint: Destination | tuple[Destination, int] | None = None,
        allowed_ips: Networks | None = None,
        preshared_key: str | None = None,
        keepalive: int = 0,
    ) -> None:
        """``wg set peer``: add a peer, or replace its settings. Each side must be a peer of the other.

        Args:
            peer: the far device, or its public key in base64.
            endpoint: where it listens: a node, an interface or an address, with a UDP port if not 51820. For a device
                that is its host, unless another is named; None for a bare key: the peer calls, or is
                where it was known to be.
            allowed_ips: the networks behind it; for a device, its addresses unless others are named. No routes are
                made of them (``host.add_route(network, interface=...)`` does).
            preshared_key: an additional symmetric key shared by both, in base64.
            keepalive: seconds between keepalives, 0 to 65535; 0: none.

        Raises:
            TopologyError: a bad key, endpoint or network.
            KernelError: the kernel refused.

        Example:
            >>> a, b = red.add_wireguard("wg0"), blue.add_wireguard("wg0")
            >>> a.add_peer(b, allowed_ips=["10.50.0.0/24"], keepalive=25)
        """
        where = f"peer of {self!r}"
        device = peer if isinstance(peer, WireGuard) else None
        public_key = decode_key(peer.public_key if isinstance(peer, WireGuard) else peer, where)
        if allowed_ips is not None:
            allowed = _networks(allowed_ips, where)
        else:
            allowed = [ip_network(a.ip) for a in device.addresses if not is_of_link(a)] if device is not None else []
        if not is_whole(keepalive, 0, 65535):
            raise TopologyError(f"{where}: keepalive is {keepalive!r}; it can be 0 to 65535 seconds")
        self.set_peer(
            PeerChange(
                public_key,
                endpoint=self._endpoint(endpoint, device, where),
                allowed_ips=tuple(allowed),
                preshared_key=bytes(32) if preshared_key is None else decode_key(preshared_key, where),
                keepalive=keepalive,
            )
        )

    def _endpoint(
        self, endpoint: Destination | tuple[Destination, int] | None, device: WireGuard | None, where: str
    ) -> tuple[Address, int] | None:
        if endpoint is None:
            return None if device is None else (far_end(self, device.node), device.listen_port)
        if not isinstance(endpoint, tuple):
            return far_end(self, endpoint), PORT if device is None else device.listen_port
        destination, port = endpoint
        return far_end(self, destination), check_port("port", port, where)

    def remove_peer(self, peer: str | WireGuard) -> None:
        """``wg set peer ... remove``. Raises TopologyError if it is none.

        Example:
            >>> a, b = red.add_wireguard("wg0"), blue.add_wireguard("wg0")
            >>> a.add_peer(b)
            >>> a.remove_peer(b)
        """
        known = self.peer(peer)
        self.set_peer(PeerChange(decode_key(known.public_key, repr(self)), remove=True))


def decode_key(key: object, where: str) -> bytes:
    """The bytes of a key in base64. Raises TopologyError."""
    try:
        raw = b64decode(key, validate=True) if isinstance(key, str) else b""
    except binascii.Error:
        raw = b""
    if len(raw) != wireguard.KEY_LENGTH:
        raise TopologyError(f"{where}: {key!r} is not a key; expected 32 bytes in base64, as wg genkey prints them")
    return raw


def check_port(keyword: str, port: object, where: str) -> int:
    """A UDP port number. Raises TopologyError."""
    if not is_whole(port, 1, 65535):
        raise TopologyError(f"{where}: {keyword} is {port!r}; it can be 1 to 65535")
    return port


def _networks(given: Networks, where: str) -> list[Network]:
    several = [given] if isinstance(given, str | IPv4Network | IPv6Network) else list(given)
    try:
        return [ip_network(each) for each in several]
    except ValueError as error:
        raise TopologyError(f"{where}: allowed_ips: {error}") from None


def checked_key(private_key: str | None, where: str) -> bytes:
    """A private key: the one given, or a random one."""
    return os.urandom(wireguard.KEY_LENGTH) if private_key is None else decode_key(private_key, where)


def make(builder: DeviceBuilder, key: bytes, port: int) -> WireGuard:
    """Make a WireGuard device of the kernel."""
    return builder.build(WireGuard, has_mac=False, finish=lambda device: device.configure(key, port))
