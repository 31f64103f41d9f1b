"""Group members: who on a link is to answer for a multicast group or a broadcast address, and why they do not."""

from __future__ import annotations

from socket import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_UDP

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.route_lookup import sysctl
from pytest_netns.explain.way.flow import Flow
from pytest_netns.explain.way.on_link import Reach
from pytest_netns.kernel.netlink.sock_diag import listeners
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.multicast import groups
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface


def unanswered_by_members(lab: Lab, node: Node, out: Interface, flow: Flow, within: Reach) -> Diagnosis | None:
    """Why none of those that a packet to many is meant for answers; None if somebody should."""
    address = flow.destination
    takers = [member for member in within.members if _takes(member, flow)]
    if not takers:
        if within.obstacles and not within.members:
            first = within.obstacles[0]
            return Diagnosis(first.cause, first.node, cures=first.cures)
        if address.is_multicast and not any(_joined(other, flow) for other in lab if other is not node):
            return Diagnosis(
                f"no other node of the lab is a member of group {address}", node.name, _memberships(within)
            )
        return None
    hosts = {member.node.name: member.node for member in takers if isinstance(member.node, Node)}
    who = "no member of it on the link of" if address.is_multicast else "nobody on the link of"
    if flow.protocol in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        return _deaf(hosts, address.version, f"{who} {out} answers a ping to {address}")
    if flow.protocol == IPPROTO_UDP and flow.ports[1]:
        there = {name: listeners(host.fd, "udp") for name, host in hosts.items()}
        if any(each.port == flow.ports[1] for found in there.values() for each in found):
            return None
        evidence = [f"{name}: listening: {', '.join(map(str, found)) or 'nothing'}" for name, found in there.items()]
        return Diagnosis(f"{who} {out} listens on udp port {flow.ports[1]} for {address}", next(iter(hosts)), evidence)
    return None


def _deaf(hosts: dict[str, Node], version: int, asked: str) -> Diagnosis | None:
    name = "net.ipv4.icmp_echo_ignore_broadcasts" if version == 4 else "net.ipv6.icmp.echo_ignore_multicast"
    if not all(sysctl(host, name.replace(".", "/")) for host in hosts.values()):
        return None
    return Diagnosis(
        f"{asked}: {name} is 1 on {', '.join(map(repr, hosts))}",
        next(iter(hosts)),
        [f"{each}: {name} = 1" for each in hosts],
        cures=[f'{each}.sysctl["{name}"] = 0' for each in hosts],
    )


def _takes(member: Interface, flow: Flow) -> bool:
    node, address = member.node, flow.destination
    if not isinstance(node, Node) or node.closed:
        return False
    if address.is_multicast:
        return address in groups(node).get(member.name, [])
    return any(address == own.network.broadcast_address for own in member.addresses if own.version == 4)


def _joined(node: Node, flow: Flow) -> bool:
    return not node.closed and any(flow.destination in each for each in groups(node).values())


def _memberships(within: Reach) -> list[str]:
    return [
        f"{member}: groups: {', '.join(map(str, groups(member.node).get(member.name, []))) or 'none'}"
        for member in within.members
        if isinstance(member.node, Node)
    ]
