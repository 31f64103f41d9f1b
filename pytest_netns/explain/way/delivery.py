"""Delivery: whether the node with a packet's destination address delivers the packet locally."""

from __future__ import annotations

import struct

from pytest_netns.addresses import Address
from pytest_netns.errors import KernelError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.route_lookup import has_route, route_of, why_refused
from pytest_netns.explain.way.flow import Flow, selector
from pytest_netns.explain.way.forwarding import rp_filter_fault
from pytest_netns.explain.way.on_link import has_address
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

_LOCAL_TABLE = 255

_TENTATIVE, _DAD_FAILED = 0x40, 0x08


def not_taken(node: Node, entered_by: Interface, flow: Flow) -> Diagnosis | None:
    """Whether the node that has the address delivers the packet locally."""
    if flow.source is None or has_address(node, flow.source):
        return None
    if (fault := rp_filter_fault(node, entered_by, flow)) is not None:
        return fault
    packet = selector(flow, entered_by)
    try:
        route_of(node, flow.destination, packet)
    except KernelError as error:
        why = why_refused(node, flow.destination, packet, entered_by.name, error)
        if why is not None:
            return Diagnosis(f"{node.name!r} {why.reason}", node.name, why.evidence)
    return None if flow.destination.is_loopback else not_local(node, entered_by, flow.destination)


def not_local(node: Node, place: Interface, address: Address) -> Diagnosis | None:
    """Whether a node's local table lacks an address that it has: then it accepts no packets and answers no ARP."""
    if (fault := _tentative(node, place, address)) is not None or has_route(node, _LOCAL_TABLE, address):
        return fault
    return Diagnosis(
        f"{node.name!r} has the address {address}, but does not take packets for it: its local table (ip route show "
        "table "
        "local) has no entry for it",
        node.name,
        [f"{node.name}: ip route show table local: nothing for {address}"],
        cures=[
            f"{node.name}.run(['ip', 'route', 'add', 'local', '{address}', 'dev', '{place.name}', 'table', 'local'])"
        ],
    )


def _tentative(node: Node, place: Interface, address: Address) -> Diagnosis | None:
    for body in node.rtnl.dump(rtnetlink.address_dump()):
        _, _, flags, _, _ = struct.unpack_from("=BBBBI", body)
        if address.packed in body and flags & (_TENTATIVE | _DAD_FAILED):
            word = "dadfailed" if flags & _DAD_FAILED else "tentative"
            why = "somebody else has it (duplicate address detection)" if word == "dadfailed" else "not in use yet"
            return Diagnosis(
                f"{node.name!r} does not answer for {address}: the address is {word} on {place.name!r}: {why}",
                node.name,
                [f"{node.name}: ip address show {place.name}: {address} {word}"],
            )
    return None
