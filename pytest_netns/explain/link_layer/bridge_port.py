"""Bridge ports: why a bridge does not pass on at one port what came in at another."""

from __future__ import annotations

import struct

from pytest_netns.capture.frame import ETH_ARP, ETH_VLAN, Frame
from pytest_netns.errors import NetnsError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.frame_size import TAG, packet_size
from pytest_netns.explain.look.links import LinkDetails, details
from pytest_netns.kernel.netlink.linkinfo import BRIDGE_VLAN_FILTERING
from pytest_netns.kernel.netlink.tables import mac_text
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def through_bridge(lab: Lab, bridge: Bridge, entry: Interface, way_out: Interface, frame: Frame) -> Diagnosis | None:
    """Why a bridge does not pass on at one port what came in at another."""
    links = details(bridge)
    came, goes = links[entry.name], links[way_out.name]
    to, source = frame.data[:6], mac_text(frame.data[6:12])
    name, port_in, port_out = bridge.name, entry.name, way_out.name
    table = bridge.fdb()
    port_of = {e.mac: e for e in table if e.port in links and links[e.port].port}

    def port(which: str, flag: str, cause: str, value: str = "off", cure: str = "on") -> Diagnosis:
        return Diagnosis(
            cause,
            name,
            [f"{name}: bridge -d link show dev {which}: {flag} {value}"],
            cures=[f"{name}.set_port({which!r}, {flag}={cure == 'on'})"],
        )

    if came.port.get("locked") and (source not in port_of or port_of[source].port != port_in):
        return port(
            port_in,
            "locked",
            f"port {port_in!r} of bridge {name!r} is locked (802.1X), and {source} was not let in there",
            "on",
            "off",
        )
    if came.port.get("isolated") and goes.port.get("isolated"):
        which = port_out
        return port(
            which,
            "isolated",
            f"ports {port_in!r} and {port_out!r} of bridge {name!r} are both isolated: it passes nothing between them",
            "on",
            "off",
        )
    if (vlan := _vlan_fault(bridge, links, entry, way_out, frame)) is not None:
        return vlan
    if (size := packet_size(frame)) > goes.state.mtu + TAG:
        return Diagnosis(
            f"port {port_out!r} of bridge {name!r} has mtu {goes.state.mtu}, and the frame carries {size} bytes: a "
            "bridge "
            "drops what is too large without a word",
            name,
            [f"{name}: ip link show {port_out}: mtu {goes.state.mtu}"],
            cures=[f"{name}.interfaces[{port_out!r}].mtu = {size}"],
        )
    if to == b"\xff" * 6 and goes.port.get("bcast_flood") is False:
        return port(
            port_out, "bcast_flood", f"port {port_out!r} of bridge {name!r} gets no broadcasts: bcast_flood is off"
        )
    if to[0] & 1 and to != b"\xff" * 6 and goes.port.get("mcast_flood") is False:
        return port(
            port_out, "mcast_flood", f"port {port_out!r} of bridge {name!r} gets no multicasts: mcast_flood is off"
        )
    if goes.port.get("neigh_suppress") and frame.data[12:14] == ETH_ARP:
        return port(
            port_out,
            "neigh_suppress",
            f"port {port_out!r} of bridge {name!r} gets no ARP requests: neigh_suppress is on",
            "on",
            "off",
        )
    if to[0] & 1:
        return None
    known = port_of.get(mac_text(to))
    if known is None:
        if goes.port.get("flood") is False:
            return port(
                port_out,
                "flood",
                f"port {port_out!r} of bridge {name!r} gets no frames for addresses that the bridge does not know: "
                "flood "
                "is off",
            )
        return None
    if known.port != port_out:
        return _wrong_port(lab, bridge, known.mac, known.port, known.state, way_out)
    return None


def _wrong_port(lab: Lab, bridge: Bridge, mac: str, port: str, state: str, right: Interface) -> Diagnosis:
    """The forwarding database leads to another port."""
    name = bridge.name
    evidence = [f"{name}: bridge fdb show: {mac} dev {port} {state}"]
    others = same_mac(lab, mac)
    owner = next((i for i in others if _behind(bridge, port) == i.node), None)
    if owner is not None and len(others) > 1:
        rest = " and ".join(str(i) for i in others if i is not owner)
        return Diagnosis(
            f"{owner} has the same MAC address as {rest} ({mac}), and bridge {name!r} sends frames for it to port "
            f"{port!r}",
            owner.node.name,
            evidence,
        )
    kind = "static entry" if state in ("static", "permanent") else "entry"
    return Diagnosis(
        f"the forwarding database of bridge {name!r} has a {kind} that leads {mac} to port {port!r}, and it is behind "
        f"{right.name!r}",
        name,
        evidence,
        cures=[f"{name}.remove_fdb({mac!r}, {port!r})"],
    )


def _behind(bridge: Bridge, port: str) -> Node | None:
    for link in bridge.links:
        if link.end(bridge).name == port:
            other = link.b.node if link.a.node is bridge else link.a.node
            return other if isinstance(other, Node) else None
    return None


def same_mac(lab: Lab, mac: str) -> list[Interface]:
    """All interfaces of a lab that have a MAC address, bridges' ports left out."""
    return [
        interface
        for node in lab
        if not node.closed
        for interface in node.interfaces.values()
        if interface.mac == mac and not interface.state.master
    ]


def _vlan_fault(
    bridge: Bridge, links: dict[str, LinkDetails], entry: Interface, way_out: Interface, frame: Frame
) -> Diagnosis | None:
    device = links.get(bridge.device.name)
    if device is None or not device.number(BRIDGE_VLAN_FILTERING):
        return None
    try:
        vlans = bridge.vlans()
    except NetnsError:
        return None
    tagged = frame.data[12:14] == ETH_VLAN
    vid = struct.unpack_from("!H", frame.data, 14)[0] & 0xFFF if tagged else 0
    if not vid:
        vid = next((vlan.vid for vlan in vlans.get(entry.name, ()) if vlan.pvid), 0)
    name = bridge.name
    for port in (entry, way_out):
        members = [vlan.vid for vlan in vlans.get(port.name, ())]
        if vid not in members:
            what = f"a frame of VLAN {vid}" if vid else "a frame without a tag"
            return Diagnosis(
                f"port {port.name!r} of bridge {name!r} is not a member of the VLAN of {what} (it has "
                f"{members or 'none'})",
                name,
                [f"{name}: bridge vlan show dev {port.name}: {members}"],
            )
    return None
