"""One hop: whether a packet fits through it, and goes to the right MAC address."""

from __future__ import annotations

from pytest_netns.addresses import Address
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.links import IFF_NOARP
from pytest_netns.explain.way.flow import Flow
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

_VLAN_TAG = 4

#: Kinds of interfaces on which ARP is on by default.
_WITH_ARP = ("veth", "macvlan", "bridge", "vlan")


def size_fault(node: Node, out: Interface, to: Interface, flow: Flow, sender: bool) -> Diagnosis | None:
    """Whether a packet is too large for an interface, or its fragments for the one at the far end."""
    mtu, far = out.mtu, to.mtu
    whole = flow.df or (flow.destination.version == 6 and not sender)
    if flow.size > mtu and whole:
        return Diagnosis(
            f"the packet has {flow.size} bytes and may not be fragmented, and the mtu of {out.name!r} of {node.name!r} "
            f"is {mtu}",
            node.name,
            [f"{out}: mtu {mtu}"],
        )
    # is_skb_forwardable() allows the MTU plus a VLAN tag
    if min(flow.size, mtu) > far + _VLAN_TAG:
        return Diagnosis(
            f"{out} sends packets of up to {mtu} bytes (its mtu), and the mtu of {to.name!r} of {to.node.name!r} is "
            f"{far}: larger ones are lost without a word",
            to.node.name,
            [f"{out}: mtu {mtu}", f"{to}: mtu {far}"],
            cures=[f"{to.node.name}.interfaces[{to.name!r}].mtu = {mtu}"],
        )
    return None


def wrong_neighbour(node: Node, out: Interface, hop: Address, owners: list[Interface]) -> Diagnosis | None:
    """Whether the node's neighbour entry for its next hop has another interface's MAC address."""
    macs = [owner.mac for owner in owners]
    entries = [n for n in node.neighbours() if (n.address, n.interface) == (hop, out.name) and n.mac is not None]
    if out.kind in _WITH_ARP and out.state.flags & IFF_NOARP and not any(n.mac in macs for n in entries):
        return Diagnosis(
            f"{node.name!r} asks nobody for the MAC address of {hop}, as ARP is switched off on {out.name!r} (NOARP): "
            "it "
            f"sends to its own, {out.mac}",
            node.name,
            [f"{node.name}: ip link show {out.name}: NOARP"],
            cures=[f"{node.name}.run(['ip', 'link', 'set', '{out.name}', 'arp', 'on'])"],
        )
    for known in entries:
        if known.mac not in macs:
            return Diagnosis(
                f"{node.name!r} sends to the wrong MAC address: its neighbour table has {known.mac} ({known.state}) "
                f"for {hop}, and {owners[0]} has {macs[0]}",
                node.name,
                [f"{node.name}: ip neighbour show {hop}: {known.mac} {known.state}"],
                cures=[f"{node.name}.run(['ip', 'neighbour', 'delete', '{hop}', 'dev', '{out.name}'])"],
            )
    return None
