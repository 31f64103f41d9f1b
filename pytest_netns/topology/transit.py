"""Transit: what may still hold up a packet between two nodes when somebody has waited for its answer in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.kernel import backlog
from pytest_netns.kernel.netlink.sock_diag import unread
from pytest_netns.topology import graph
from pytest_netns.topology.network import Network, network_of
from pytest_netns.units import measured_time

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.topology.node import BaseNode

#: Seconds within which a server gets its turn on a machine that is busy; and a relay of ours, which comes first.
_TURN, _RELAY_TURN = 1.0, 0.1


def in_flight(node: BaseNode, address: Address, waited: float, udp_port: int = 0) -> str | None:
    """Where a request of a node, or its answer, may be, in words; None if nothing is on its way any more.

    Lets the kernel finish what it has queued first, so that an answer which was late may be there now.

    Args:
        node: who asked.
        address: whom.
        waited: seconds since.
        udp_port: on which port; 0 unless it was a datagram.
    """
    backlog.settle()
    lab = network_of(node)
    holders = [n for n in lab if not n.closed and any(each.ip == address for each in n.addresses())]
    held_up = _held_up(lab, node, holders, waited)
    if held_up is not None or not udp_port or waited >= _TURN:
        return held_up
    for holder in holders:
        if (size := unread(holder.fd, udp_port)) and not _is_stopped(lab, holder):
            return f"{size} bytes wait at {holder.name!r} for whoever listens on udp port {udp_port} to read them"
    return None


def _is_stopped(lab: Network, node: BaseNode) -> bool:
    """Whether somebody has seen to it that nobody there reads anything."""
    return any(fault.stops([node], "udp") is node for fault in lab.faults)


def _held_up(lab: Network, node: BaseNode, holders: list[BaseNode], waited: float) -> str | None:
    impairments = lab.impairments
    if not impairments.in_force():
        return None
    way = graph.between(lab, node, {holder.inode for holder in holders}) if holders else None
    ends = [end for link in (lab.links if way is None else way) if not link._is_gone for end in link.interfaces]
    slow: list[tuple[Interface, str]] = []
    delay = 0.0
    for end in ends:
        if (setting := impairments.setting(end)) is not None:
            impairment = setting[0]
            if impairment.delay:
                slow.append((end, f"{end} ({impairment})"))
            delay += impairment.delay + impairment.jitter
    if waited < delay:
        shown = ", ".join(words for _, words in slow)
        return f"waited {measured_time(waited)}, and there and back may take {measured_time(delay)}: {shown}"
    for end in ends:
        setting = impairments.setting(end)
        if setting is None or (setting[0].rate is None and waited >= delay + _RELAY_TURN):
            continue
        try:
            waiting = impairments.waiting(end)
        except NetnsError:  # whoever impairs it is dead, or was removed: then nothing waits there
            continue
        if waiting:
            return f"waited {measured_time(waited)}, and {waiting} frames are under way from {end} ({setting[0]})"
    return None
