"""The two ends of a tunnel compared: what one sends, the other has to expect."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address

from pytest_netns.addresses import Address
from pytest_netns.devices.wireguard import WireGuard
from pytest_netns.errors import NetnsError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.links import LinkDetails, details
from pytest_netns.explain.way.on_link import has_address
from pytest_netns.kernel.netlink.linkinfo import OPTIONS
from pytest_netns.kernel.netlink.rtnetlink import AF_BRIDGE, neighbour_dump
from pytest_netns.kernel.netlink.socket import attributes
from pytest_netns.kernel.netlink.tables import mac_text
from pytest_netns.lab.host import Host
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

#: Options that both ends must have alike, with what they are called; keys go crosswise.
_ALIKE = {
    "vxlan": {"vni": "VNI", "port": "UDP port"},
    "geneve": {"vni": "VNI", "port": "UDP port"},
    "vlan": {"vid": "VLAN id"},
}
_CROSSWISE = {"_ikey": "_okey", "_okey": "_ikey"}
# <linux/neighbour.h>: attributes of an entry, and the states of one that is not learnt
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_STATIC = 0x80 | 0x40
_GRE_KINDS = {"gre", "gretap", "ip6gre", "ip6gretap"}


def tunnel_fault(lab: Lab, near: Interface, far: Interface | None, inner: Address) -> Diagnosis | None:
    """What does not fit between the device that a packet enters and that of the node which has its destination."""
    if not isinstance(near.node, Node):
        return None
    if _device(near) is not None:
        return wireguard_fault(lab, near, inner)
    if near.kind not in OPTIONS or far is None or not isinstance(far.node, Node) or far.kind != near.kind:
        return None
    one, other = details(near.node)[near.name], details(far.node)[far.name]
    for keyword, words in _ALIKE.get(near.kind, {}).items():
        mine, theirs = _value(one, near.kind, keyword), _value(other, near.kind, keyword)
        if mine != theirs:
            return _differ(near, far, words, mine, theirs)
    if near.kind in _GRE_KINDS:
        for keyword, opposite in _CROSSWISE.items():
            mine, theirs = _value(one, near.kind, keyword), _value(other, near.kind, opposite)
            if mine != theirs:
                return _differ(near, far, "key", mine, theirs)
    for here, there, seen in ((near, far, one), (far, near, other)):
        if (fault := _leads_elsewhere(here, there, seen) or _entry_leads_elsewhere(here, there)) is not None:
            return fault
    return None


def _differ(near: Interface, far: Interface, what: str, mine: int, theirs: int) -> Diagnosis:
    return Diagnosis(
        f"{far} ({far.kind}) has {what} {theirs}, and {near}, from which the packet comes, has {mine}",
        far.node.name,
        [f"{i.node.name}: ip -d link show {i.name}: {what} {v}" for i, v in ((near, mine), (far, theirs))],
    )


def _value(link: LinkDetails, kind: str, keyword: str) -> int:
    option = OPTIONS[kind].get(keyword)
    raw = link.options.get(option.number, b"") if option is not None else b""
    if keyword in ("port", "_ikey", "_okey") and len(raw) in (2, 4):
        return int.from_bytes(raw, "big")
    return int.from_bytes(raw, "little" if struct.pack("=H", 1)[0] else "big")


def _leads_elsewhere(here: Interface, there: Interface, seen: LinkDetails) -> Diagnosis | None:
    """Whether one end sends to somebody who is not the other."""
    remotes = list(_remotes(here, seen))
    node = here.node
    if not remotes or any(has_address(there.node, remote) for remote in remotes):
        return None
    shown = ", ".join(map(str, remotes))
    return Diagnosis(
        f"{here} ({here.kind}) leads to remote {shown}, which is no address of {there.node.name!r}, where {there} is",
        node.name,
        [f"{node.name}: ip -d link show {here.name}: remote {shown}"],
    )


def _entry_leads_elsewhere(here: Interface, there: Interface) -> Diagnosis | None:
    """Whether the forwarding database of one end has the other's MAC address behind somebody who is not the other."""
    node = here.node
    assert isinstance(node, Node)
    for body in node.rtnl.dump(neighbour_dump(AF_BRIDGE)):
        _, index, state = struct.unpack_from("=B3xiH", body)
        found = attributes(body, 12)
        raw = found.get(_NDA_DST, b"")
        if index != here.index or mac_text(found.get(_NDA_LLADDR, b"")) != there.mac or len(raw) not in (4, 16):
            continue
        remote = ip_address(raw)
        if has_address(there.node, remote):
            continue
        word = "static entry" if state & _NUD_STATIC else "entry"
        return Diagnosis(
            f"the forwarding database of {here} ({here.kind}) has a {word} that leads {there.mac} to {remote}, and it "
            "is "
            f"the MAC address of {there}",
            node.name,
            [f"{node.name}: bridge fdb show dev {here.name}: {there.mac} dst {remote}"],
            cures=[f"{node.name}.run(['bridge', 'fdb', 'del', '{there.mac}', 'dev', '{here.name}'])"],
        )
    return None


def _remotes(device: Interface, seen: LinkDetails) -> Iterable[Address]:
    option = OPTIONS[device.kind].get("remote")
    if option is None:
        return
    for number in (option.number, option.number6):
        raw = seen.options.get(number, b"") if number else b""
        if len(raw) in (4, 16) and any(raw):
            yield ip_address(raw)


def wireguard_fault(lab: Lab, near: Interface, inner: Address) -> Diagnosis | None:
    """Whether a peer takes the packet, and the two know each other."""
    device = near if isinstance(near, WireGuard) else _device(near)
    if device is None:
        return None
    try:
        peers = device.peers
        key = device.public_key
    except NetnsError:
        return None
    node = near.node.name
    shown = [
        f"{node}: wg show {near.name}: peer {p.public_key[:8]}... allowed ips {_text(p.allowed_ips)}" for p in peers
    ]
    taker = next((p for p in peers if any(inner in network for network in p.allowed_ips)), None)
    if taker is None:
        what = "no peer" if not peers else "no peer's allowed_ips has it"
        return Diagnosis(
            f"{near} (wireguard) takes no packet for {inner}: {what}"
            f"{f' ({_text(n for p in peers for n in p.allowed_ips)})' if peers else ''}",
            node,
            shown,
            cures=[f'{node}: device.add_peer(peer, allowed_ips=["{inner}/{inner.max_prefixlen}"])'],
        )
    far = next((each for each in _wireguards(lab) if each.public_key == taker.public_key), None)
    if far is None:
        return Diagnosis(
            f"{near} (wireguard) knows the peer for {inner} by the public key {taker.public_key}, and no device of the "
            "lab has that key",
            node,
            shown,
        )
    back = next((p for p in far.peers if p.public_key == key), None)
    if back is None:
        known = ", ".join(p.public_key for p in far.peers) or "nobody"
        return Diagnosis(
            f"{far} (wireguard) does not know {near} by its public key {key}: it knows {known}, so there is no "
            "handshake",
            far.node.name,
            [*shown, f"{far.node.name}: wg show {far.name}: peers {known}"],
        )
    own = [a.ip for a in near.addresses if a.version == inner.version]
    if own and not any(address in network for address in own for network in back.allowed_ips):
        return Diagnosis(
            f"{far} (wireguard) drops what {near} sends: its allowed_ips for that peer are {_text(back.allowed_ips)}, "
            f"without {own[0]}",
            far.node.name,
            shown,
        )
    if taker.last_handshake is None:
        where = f"{taker.endpoint[0]} port {taker.endpoint[1]}" if taker.endpoint is not None else "unknown"
        reachable = taker.endpoint is not None and has_address(far.node, taker.endpoint[0])
        if taker.endpoint is None or not reachable or taker.endpoint[1] != far.listen_port:
            return Diagnosis(
                f"{near} (wireguard) looks for its peer at the endpoint {where}, and {far} listens on port "
                f"{far.listen_port} of {far.node.name!r}: there was no handshake",
                node,
                shown,
            )
    return None


def _text(networks: Iterable[object]) -> str:
    return ", ".join(map(str, networks)) or "none"


def _device(interface: Interface) -> WireGuard | None:
    return next((each for each in _of(interface.node) if each == interface), None)


def _of(node: object) -> list[WireGuard]:
    return [each for each in node.devices if isinstance(each, WireGuard)] if isinstance(node, Host) else []


def _wireguards(lab: Lab) -> Iterable[WireGuard]:
    for node in lab:
        if not node.closed:
            yield from _of(node)
