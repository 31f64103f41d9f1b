"""Forwarding: whether a node forwards packets that come in at one of its interfaces."""

from __future__ import annotations

from pytest_netns.errors import KernelError
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.route_lookup import sysctl
from pytest_netns.explain.way.flow import Flow
from pytest_netns.kernel.netlink.tables import Route
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def forwarding_fault(node: Node, entered_by: Interface, flow: Flow) -> Diagnosis | None:
    """Why a node does not forward: a sysctl, or rp_filter; None if it does."""
    version = flow.destination.version
    whole = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    deciding = f"net/ipv4/conf/{entered_by.name}/forwarding" if version == 4 else whole
    if not sysctl(node, deciding):
        partly = bool(sysctl(node, whole))
        shown, what = (deciding, f" that comes in at {entered_by.name!r}") if partly else (whole, "")
        return Diagnosis(
            f"{node.name!r} does not forward IPv{version}{what}: {shown.replace('/', '.')} is {sysctl(node, shown)}",
            node.name,
            [
                f"{node.name}: sysctl {name.replace('/', '.')} = {sysctl(node, name)}"
                for name in dict.fromkeys((whole, deciding))
            ],
            cures=[f'{node.name}.sysctl["{shown}"] = 1'],
        )
    return rp_filter_fault(node, entered_by, flow)


def rp_filter_fault(node: Node, entered_by: Interface, flow: Flow) -> Diagnosis | None:
    """Whether reverse-path filtering drops a packet: the route to its source uses another interface (RFC 3704)."""
    if flow.destination.version != 4 or flow.source is None:
        return None
    of_interface = sysctl(node, f"net/ipv4/conf/{entered_by.name}/rp_filter")
    value = max(sysctl(node, "net.ipv4.conf.all.rp_filter"), of_interface)
    if not value:
        return None
    try:
        back: Route | None = node.route_to(flow.source)
    except KernelError:
        back = None
    if back is not None and (value == 2 or back.interface == entered_by.name):
        return None
    way = f"its route back is {back}" if back else "it has no route back"
    return Diagnosis(
        f"rp_filter={value} on {entered_by} drops packets from {flow.source}: {way}",
        node.name,
        [f"{node.name}: sysctl net.ipv4.conf.{entered_by.name}.rp_filter = {of_interface}"],
        cures=[f'{node.name}.sysctl["net/ipv4/conf/{name}/rp_filter"] = 0' for name in ("all", entered_by.name)],
    )
