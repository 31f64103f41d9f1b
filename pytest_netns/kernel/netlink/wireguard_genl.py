"""WireGuard's generic netlink messages (<linux/wireguard.h>), by pyroute2: keys, peers and handshakes.

No X25519 here: the kernel derives the public key from the private one, and returns it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import cast

from pytest_netns.addresses import Address, Network
from pytest_netns.kernel.netlink.pyroute2_codec import Message, attribute_of, decode, encode, prepare_pyroute2
from pytest_netns.kernel.netlink.rtnetlink import family_of
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request

NETLINK_GENERIC = 16
KEY_LENGTH = 32

_GET_DEVICE, _SET_DEVICE = 0, 1
_REMOVE_ME, _REPLACE_ALLOWED = 1, 2


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer of a WireGuard device, as in ``wg show``.

    Attributes:
        public_key: in base64, as wg(8) shows it.
        endpoint: the peer's latest address and UDP port; None if not known yet.
        allowed_ips: the networks behind the peer.
        last_handshake: time of the latest handshake in seconds since 1970; None if there was none.
        received: bytes received from the peer.
        sent: bytes sent to the peer.
        keepalive: persistent keepalive interval in seconds, 0 to 65535; 0: off.

    Example:
        >>> a, b = red.add_wireguard("wg0"), blue.add_wireguard("wg0")
        >>> a.add_peer(b)
        >>> [peer.allowed_ips for peer in a.peers]
    """

    public_key: str
    endpoint: tuple[Address, int] | None
    allowed_ips: tuple[Network, ...]
    last_handshake: float | None
    received: int
    sent: int
    keepalive: int


def family(link: NetlinkSocket) -> int:
    """ID of WireGuard's generic netlink family. Raises KernelError (ENOENT) if the kernel lacks it."""
    prepare_pyroute2()
    from pyroute2.netlink import CTRL_CMD_GETFAMILY, GENL_ID_CTRL, ctrlmsg

    fields = {"cmd": CTRL_CMD_GETFAMILY, "version": 1}
    body = encode(ctrlmsg, fields, [("CTRL_ATTR_FAMILY_NAME", "wireguard")])
    answer = link.get(Request(GENL_ID_CTRL, 0, body, "genl ctrl get name wireguard"))
    return attribute_of(decode(ctrlmsg, answer), "CTRL_ATTR_FAMILY_ID", 0)


def _message(command: int, attributes: Sequence[tuple[str, object]]) -> bytes:
    prepare_pyroute2()
    from pyroute2.netlink.generic.wireguard import wgmsg

    return encode(wgmsg, {"cmd": command, "version": 1}, attributes)


def set_device(
    number: int,
    index: int,
    name: str,
    *,
    private_key: bytes | None = None,
    port: int | None = None,
    peer: PeerChange | None = None,
) -> Request:
    """``wg set NAME ...``. ``number`` is the family ID."""
    attributes: list[tuple[str, object]] = [("WGDEVICE_A_IFINDEX", index)]
    words = [f"wg set {name}"]
    if private_key is not None:
        attributes.append(("WGDEVICE_A_PRIVATE_KEY", b64encode(private_key)))
        words.append("private-key ...")
    if port is not None:
        attributes.append(("WGDEVICE_A_LISTEN_PORT", port))
        words.append(f"listen-port {port}")
    if peer is not None:
        attributes.append(("WGDEVICE_A_PEERS", [{"attrs": _peer_attributes(peer)}]))
        words.append("peer ...")
    return Request(number, 0, _message(_SET_DEVICE, attributes), " ".join(words))


@dataclass(frozen=True, slots=True)
class PeerChange:
    """A change to a peer.

    Attributes:
        public_key: the peer's public key, 32 bytes.
        endpoint: address and UDP port; None: unchanged.
        allowed_ips: the networks behind the peer; they replace the present ones.
        preshared_key: 32 bytes; None: unchanged.
        keepalive: persistent keepalive interval in seconds; None: unchanged.
        remove: whether to remove the peer.
    """

    public_key: bytes
    endpoint: tuple[Address, int] | None = None
    allowed_ips: tuple[Network, ...] = ()
    preshared_key: bytes | None = None
    keepalive: int | None = None
    remove: bool = False


def _peer_attributes(peer: PeerChange) -> list[tuple[str, object]]:
    attributes: list[tuple[str, object]] = [
        ("WGPEER_A_PUBLIC_KEY", b64encode(peer.public_key)),
        ("WGPEER_A_FLAGS", _REMOVE_ME if peer.remove else _REPLACE_ALLOWED),
    ]
    if peer.preshared_key is not None:
        attributes.append(("WGPEER_A_PRESHARED_KEY", b64encode(peer.preshared_key)))
    if peer.endpoint is not None:
        address, port = peer.endpoint
        attributes.append(("WGPEER_A_ENDPOINT", {"addr": str(address), "port": port}))
    if peer.keepalive is not None:
        attributes.append(("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", peer.keepalive))
    if peer.allowed_ips:
        attributes.append(("WGPEER_A_ALLOWEDIPS", [{"attrs": _allowed(network)} for network in peer.allowed_ips]))
    return attributes


def _allowed(network: Network) -> list[tuple[str, object]]:
    return [
        ("WGALLOWEDIP_A_FAMILY", family_of(network)),
        ("WGALLOWEDIP_A_IPADDR", network.network_address.packed),
        ("WGALLOWEDIP_A_CIDR_MASK", network.prefixlen),
    ]


def get_device(number: int, index: int, name: str) -> Request:
    """``wg show NAME``, for a dump: a device with many peers comes in several messages."""
    return Request(number, 0, _message(_GET_DEVICE, [("WGDEVICE_A_IFINDEX", index)]), f"wg show {name}")


@dataclass(slots=True)
class Shown:
    """The output of ``wg show``: the public key, or None without a private one; the UDP port; the peers."""

    public_key: bytes | None
    port: int
    peers: list[Peer]


def decode_device(bodies: Sequence[bytes]) -> Shown:
    """Decode the messages of a ``get_device`` dump."""
    prepare_pyroute2()
    from pyroute2.netlink.generic.wireguard import wgmsg

    key = b""
    port = 0
    peers: dict[str, Peer] = {}
    for body in bodies:
        message = decode(wgmsg, body)
        key = attribute_of(message, "WGDEVICE_A_PUBLIC_KEY", key)
        port = attribute_of(message, "WGDEVICE_A_LISTEN_PORT", port)
        for row in attribute_of(message, "WGDEVICE_A_PEERS", list[Message]()):
            peer = _peer(row)
            known = peers.get(peer.public_key)
            # A peer that does not fit into one message continues in the next, with only its key and further networks.
            peers[peer.public_key] = (
                replace(known, allowed_ips=known.allowed_ips + peer.allowed_ips) if known is not None else peer
            )
    raw = b64decode(key)
    return Shown(raw if any(raw) else None, port, list(peers.values()))


def _peer(row: Message) -> Peer:
    handshake = attribute_of(row, "WGPEER_A_LAST_HANDSHAKE_TIME", {"tv_sec": 0, "tv_nsec": 0})
    endpoint = attribute_of(row, "WGPEER_A_ENDPOINT", dict[str, object]())
    return Peer(
        public_key=attribute_of(row, "WGPEER_A_PUBLIC_KEY", b"").decode(),
        endpoint=(ip_address(cast("str", endpoint["addr"])), cast("int", endpoint["port"])) if endpoint else None,
        allowed_ips=tuple(
            ip_network(cast("str", each["addr"])) for each in attribute_of(row, "WGPEER_A_ALLOWEDIPS", list[Message]())
        ),
        last_handshake=handshake["tv_sec"] + handshake["tv_nsec"] / 1e9 if handshake["tv_sec"] else None,
        received=attribute_of(row, "WGPEER_A_RX_BYTES", 0),
        sent=attribute_of(row, "WGPEER_A_TX_BYTES", 0),
        keepalive=attribute_of(row, "WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", 0),
    )
