"""Segments: which interfaces another one reaches without a router, and what blocks the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_netns.addresses import Address, is_of_link
from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink.rtnetlink import IFF_UP
from pytest_netns.kernel.netlink.tables import LinkState
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab, lab_of
from pytest_netns.lab.link import Link
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface
from pytest_netns.topology import graph


@dataclass(slots=True)
class Obstacle:
    """Something that keeps frames from passing.

    Attributes:
        cause: one sentence with the node's name.
        node: name of the node at fault.
        behind: the interfaces that are unreachable because of it.
        cures: fixes, as calls of this package.
    """

    cause: str
    node: str
    behind: list[Interface] = field(default_factory=list)
    cures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reach:
    """What an interface reaches.

    Attributes:
        members: interfaces that receive its frames, including bridge devices.
        obstacles: why other interfaces do not.
    """

    members: list[Interface] = field(default_factory=list)
    obstacles: list[Obstacle] = field(default_factory=list)

    def owners(self, address: Address) -> list[Interface]:
        """The members whose node has an address: Linux answers for all of a node's addresses on each interface."""
        return [member for member in self.members if has_address(member.node, address)]

    def obstacle_to(self, node: Node) -> Obstacle | None:
        """What stands between the interface and a node."""
        return next((o for o in self.obstacles if any(i.node.inode == node.inode for i in o.behind)), None)


def has_address(node: object, address: Address) -> bool:
    """Whether a node has an address."""
    return isinstance(node, Node) and not node.closed and any(a.ip == address for a in node.addresses())


def _state(interface: Interface) -> LinkState | None:
    try:
        return interface.state
    except NetnsError:
        return None


def down_reason(interface: Interface) -> str | None:
    """Why an interface carries no frames by its own doing; None if it does."""
    state = _state(interface)
    if state is None:
        return f"interface {interface.name!r} of {interface.node.name!r} was removed"
    if not state.flags & IFF_UP:
        return f"interface {interface.name!r} of {interface.node.name!r} is down (ip link set {interface.name} up)"
    return None


def _down(interface: Interface) -> Obstacle | None:
    reason = down_reason(interface)
    return (
        None
        if reason is None
        else Obstacle(
            reason,
            interface.node.name,
            cures=up_again(lab_of(interface.node), interface) if isinstance(interface.node, Node) else [],
        )
    )


def up_again(lab: Lab, interface: Interface) -> list[str]:
    """Calls that bring an interface back, with the routes that the kernel took away with it."""
    if _state(interface) is None:
        return []
    routed = any(node.sysctl.get("net.ipv4.ip_forward") == "1" for node in lab if not node.closed)
    return [f"{interface.node.name}.interfaces[{interface.name!r}].up()", *(["lab.autoroute()"] if routed else [])]


def _link_of(lab: Lab, interface: Interface) -> Link | None:
    return next((link for link in lab.links if any(_same(end, interface) for end in link.interfaces)), None)


def _same(one: Interface, other: Interface) -> bool:
    return one.index == other.index and one.node.inode == other.node.inode


def _port_obstacle(port: Interface) -> Obstacle | None:
    """Why a bridge does not forward at one of its ports."""
    reason = _port_reason(port)
    mendable = reason is not None and reason.endswith(f"is down (ip link set {port.name} up)")
    cures = [f"{port.node.name}.interfaces[{port.name!r}].up()"] if mendable else []
    return None if reason is None else Obstacle(reason, port.node.name, cures=cures)


def _port_reason(port: Interface) -> str | None:
    bridge = port.node
    state = _state(port)
    if state is None:
        return f"port {port.name!r} of bridge {bridge.name!r} was removed"
    if not state.master:
        return f"port {port.name!r} is detached from bridge {bridge.name!r}"
    if not state.flags & IFF_UP:
        return f"port {port.name!r} of bridge {bridge.name!r} is down (ip link set {port.name} up)"
    # A bridge that is down disables its ports: this comes before their state.
    device = bridge.device if isinstance(bridge, Bridge) else None
    if device is not None and down_reason(device) is not None:
        return f"bridge {bridge.name!r} is down (ip link set {device.name} up)"
    if state.is_up and state.port_state != "forwarding":
        return (
            f"port {port.name!r} of bridge {bridge.name!r} is {state.port_state}, not forwarding (spanning tree, "
            "IEEE 802.1D)"
        )
    return None


def reach(lab: Lab, interface: Interface) -> Reach:
    """Everything that an interface reaches on its segment, and the obstacles to the rest."""
    found = Reach()
    link = _link_of(lab, interface)
    if link is None:
        if isinstance(interface.node, Bridge):
            _across_bridge(lab, interface.node, None, found, None, set())
        else:
            _same_subnet(lab, interface, found)
        return found
    far = link.b if _same(link.a, interface) else link.a
    if isinstance(far.node, Bridge):
        _into_port(lab, far, found, _down(interface), set())
    else:
        _note(found, far, _down(interface) or _down(far))
    return found


def _same_subnet(lab: Lab, interface: Interface, found: Reach) -> None:
    """For a VLAN, a tunnel and the like: the interfaces that share a subnet with it. Lower devices are not checked."""
    networks = {address.network for address in interface.addresses if not is_of_link(address)}
    for node in lab:
        if node.closed or node.inode == interface.node.inode:
            continue
        for name, other in node.interfaces.items():
            if name != "lo" and any(address.network in networks for address in other.addresses):
                _note(found, other, _down(interface) or _down(other))


def _into_port(lab: Lab, port: Interface, found: Reach, blocked: Obstacle | None, seen: set[int]) -> None:
    bridge = port.node
    assert isinstance(bridge, Bridge)
    _across_bridge(lab, bridge, port, found, blocked or _port_obstacle(port), seen)


def _across_bridge(
    lab: Lab, bridge: Bridge, entry: Interface | None, found: Reach, blocked: Obstacle | None, seen: set[int]
) -> None:
    if bridge.inode in seen:
        return
    seen.add(bridge.inode)
    _note(found, bridge.device, blocked or _down(bridge.device))
    for link in bridge.links:
        port = link.end(bridge)
        far = link.b if link.a is port else link.a
        if entry is not None and _same(port, entry):
            continue
        obstacle = blocked or _port_obstacle(port)
        if isinstance(far.node, Bridge):
            _into_port(lab, far, found, obstacle, seen)
        else:
            _note(found, far, obstacle or _down(far))


def _note(found: Reach, interface: Interface, obstacle: Obstacle | None) -> None:
    if obstacle is None:
        found.members.append(interface)
        return
    known = next((o for o in found.obstacles if o.cause == obstacle.cause), None)
    if known is None:
        found.obstacles.append(Obstacle(obstacle.cause, obstacle.node, [interface], obstacle.cures))
    else:
        known.behind.append(interface)


def connected(lab: Lab, one: Node, other: Node) -> bool:
    """Whether there is any chain of links between two nodes, up or down."""
    found = graph.ways(one, lambda node: _neighbours(lab, node), lambda node: node.inode)
    return any(way[-1].inode == other.inode for way in found)


def _neighbours(lab: Lab, node: Node) -> Iterable[Node]:
    for link in lab.links:
        nodes = [end.node for end in link.interfaces]
        if any(n.inode == node.inode for n in nodes):
            yield from (n for n in nodes if isinstance(n, Node))
