"""WireGuard's own netlink messages (<linux/wireguard.h>): keys, peers and handshakes.

No X25519 here: the kernel works out a public key from the private one, and tells it.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from pytest_netns.addresses import Address, Network
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6, family_of
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request, attribute, attributes, rows

NETLINK_GENERIC = 16
KEY_LENGTH = 32

_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 0x10, 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_GET_DEVICE, _SET_DEVICE = 0, 1
_IFINDEX, _PRIVATE_KEY, _PUBLIC_KEY, _LISTEN_PORT, _PEERS = 1, 3, 4, 6, 8
_PEER_PUBLIC_KEY, _PEER_PRESHARED_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE = 1, 2, 3, 4, 5
_PEER_HANDSHAKE, _PEER_RECEIVED, _PEER_SENT, _PEER_ALLOWED = 6, 7, 8, 9
_ALLOWED_FAMILY, _ALLOWED_ADDRESS, _ALLOWED_PREFIX = 1, 2, 3
_REMOVE_ME, _REPLACE_ALLOWED = 1, 2
_NESTED = 0x8000

_GENL = struct.Struct("=BBH")


@dataclass(frozen=True, slots=True)
class Peer:
    """A line of ``wg show``: whom a device talks to.

    Attributes:
        public_key: in base64, as wg(8) shows it.
        endpoint: address and UDP port where it was last; None if that is not known yet.
        allowed_ips: the networks behind it.
        last_handshake: when they last agreed on keys, in seconds since 1970; None if never.
        received: bytes from it.
        sent: bytes to it.
        keepalive: seconds between two signs of life; 0 for none.
    """

    public_key: str
    endpoint: tuple[Address, int] | None
    allowed_ips: tuple[Network, ...]
    last_handshake: float | None
    received: int
    sent: int
    keepalive: int


def _message(command: int, body: bytes) -> bytes:
    return _GENL.pack(command, 1, 0) + body


def family(link: NetlinkSocket) -> int:
    """Number of WireGuard's family of generic netlink. Raises KernelError (ENOENT) if the kernel lacks it."""
    body = _message(_CTRL_CMD_GETFAMILY, attribute(_CTRL_ATTR_FAMILY_NAME, b"wireguard\0"))
    found = attributes(link.get(Request(_GENL_ID_CTRL, 0, body, "genl ctrl get name wireguard")), _GENL.size)
    return int(struct.unpack("=H", found[_CTRL_ATTR_FAMILY_ID])[0])


def set_device(
    number: int, index: int, name: str, *, private_key: bytes | None = None, port: int | None = None, peer: bytes = b""
) -> Request:
    """``wg set NAME ...``. ``number`` is that of the family, ``peer`` comes from ``encode_peer``."""
    body = attribute(_IFINDEX, struct.pack("=I", index))
    words = [f"wg set {name}"]
    if private_key is not None:
        body += attribute(_PRIVATE_KEY, private_key)
        words.append("private-key ...")
    if port is not None:
        body += attribute(_LISTEN_PORT, struct.pack("=H", port))
        words.append(f"listen-port {port}")
    if peer:
        body += attribute(_PEERS | _NESTED, attribute(0 | _NESTED, peer))
        words.append("peer ...")
    return Request(number, 0, _message(_SET_DEVICE, body), " ".join(words))


@dataclass(frozen=True, slots=True)
class PeerChange:
    """What is to become of a peer.

    Attributes:
        public_key: its 32 bytes.
        endpoint: address and UDP port; None for what is known.
        allowed_ips: the networks behind it, instead of those known.
        preshared_key: 32 bytes; None for what is known.
        keepalive: seconds between two signs of life; None for what is known.
        remove: whether it goes.
    """

    public_key: bytes
    endpoint: tuple[Address, int] | None = None
    allowed_ips: tuple[Network, ...] = ()
    preshared_key: bytes | None = None
    keepalive: int | None = None
    remove: bool = False


def encode_peer(peer: PeerChange) -> bytes:
    """A peer of ``set_device``."""
    body = attribute(_PEER_PUBLIC_KEY, peer.public_key)
    body += attribute(_PEER_FLAGS, struct.pack("=I", _REMOVE_ME if peer.remove else _REPLACE_ALLOWED))
    if peer.preshared_key is not None:
        body += attribute(_PEER_PRESHARED_KEY, peer.preshared_key)
    if peer.endpoint is not None:
        address, port = peer.endpoint
        if address.version == 4:
            raw = struct.pack("=H", AF_INET) + struct.pack("!H", port) + address.packed + bytes(8)
        else:
            raw = struct.pack("=H", AF_INET6) + struct.pack("!HI", port, 0) + address.packed + bytes(4)
        body += attribute(_PEER_ENDPOINT, raw)
    if peer.keepalive is not None:
        body += attribute(_PEER_KEEPALIVE, struct.pack("=H", peer.keepalive))
    if peer.allowed_ips:
        array = b"".join(attribute(0 | _NESTED, _allowed(network)) for network in peer.allowed_ips)
        body += attribute(_PEER_ALLOWED | _NESTED, array)
    return body


def _allowed(network: Network) -> bytes:
    return (
        attribute(_ALLOWED_FAMILY, struct.pack("=H", family_of(network)))
        + attribute(_ALLOWED_ADDRESS, network.network_address.packed)
        + attribute(_ALLOWED_PREFIX, struct.pack("=B", network.prefixlen))
    )


def get_device(number: int, index: int, name: str) -> Request:
    """``wg show NAME``, to be dumped: a device with many peers comes in several messages."""
    body = _message(_GET_DEVICE, attribute(_IFINDEX, struct.pack("=I", index)))
    return Request(number, 0, body, f"wg show {name}")


@dataclass(slots=True)
class Shown:
    """What ``wg show`` shows: the public key, or None without a private one; the UDP port; the peers."""

    public_key: bytes | None
    port: int
    peers: list[Peer]


def decode_device(bodies: Sequence[bytes]) -> Shown:
    """Decode the messages of a dump."""
    key = b""
    port = 0
    peers: dict[str, Peer] = {}
    for body in bodies:
        found = attributes(body, _GENL.size)
        key = found.get(_PUBLIC_KEY, key)
        port = struct.unpack("=H", found[_LISTEN_PORT])[0] if _LISTEN_PORT in found else port
        for _, row in rows(found.get(_PEERS, b"")):
            peer = _peer(attributes(row))
            known = peers.get(peer.public_key)
            # What does not fit into one message goes on in the next, with the key alone and further networks.
            peers[peer.public_key] = (
                replace(known, allowed_ips=known.allowed_ips + peer.allowed_ips) if known is not None else peer
            )
    return Shown(key if any(key) else None, port, list(peers.values()))


def _peer(found: dict[int, bytes]) -> Peer:
    seconds, nanoseconds = struct.unpack("=qq", found.get(_PEER_HANDSHAKE, bytes(16)))
    return Peer(
        public_key=b64encode(found[_PEER_PUBLIC_KEY]).decode(),
        endpoint=_endpoint(found.get(_PEER_ENDPOINT, b"")),
        allowed_ips=tuple(_network(attributes(row)) for _, row in rows(found.get(_PEER_ALLOWED, b""))),
        last_handshake=seconds + nanoseconds / 1e9 if seconds else None,
        received=struct.unpack("=Q", found.get(_PEER_RECEIVED, bytes(8)))[0],
        sent=struct.unpack("=Q", found.get(_PEER_SENT, bytes(8)))[0],
        keepalive=struct.unpack("=H", found.get(_PEER_KEEPALIVE, bytes(2)))[0],
    )


def _endpoint(raw: bytes) -> tuple[Address, int] | None:
    if len(raw) < 16:
        return None
    family, port = struct.unpack("=H", raw[:2])[0], struct.unpack("!H", raw[2:4])[0]
    return ip_address(raw[4:8] if family == AF_INET else raw[8:24]), port


def _network(found: dict[int, bytes]) -> Network:
    return ip_network((found[_ALLOWED_ADDRESS], found[_ALLOWED_PREFIX][0]))
