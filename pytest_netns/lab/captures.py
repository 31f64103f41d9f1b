"""Captures: the frames of a node, of a link, or of a whole lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_netns.errors import TopologyError
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.network import Network, network_of
from pytest_netns.topology.network_events import CaptureOpened
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.pattern import Pattern

# ``Capture`` is imported on use: many tests capture nothing.


def capture_node(
    node: BaseNode,
    interface: str | Interface | None = None,
    filter: str | Pattern | None = None,
    *,
    chatter: bool = False,
) -> Capture:
    """Capture on one interface of this node, or on all; use it in a ``with`` statement.

    Args:
        interface: one interface; None for all, later ones included.
        filter: which frames: a pcap-filter(7) expression (applied by the kernel), in which the names of
            hosts are those of the lab and of ``lab.dns``; a scapy packet (matches on the fields that were set), a
            scapy layer class, or a function of a packet.
        chatter: keep neighbour discovery, MLD and IGMP, the background traffic of hosts.

    Raises:
        TopologyError: no such interface.
        TypeError, ValueError: not a valid filter.
        UnsupportedError: the filter is text, and libpcap is not installed.

    Example:
        >>> with red.capture("eth0") as capture:
        ...     red.ping(blue)
        >>> print(capture.ladder())
    """
    from pytest_netns.capture.capture import Capture

    if isinstance(interface, Interface) and interface.node is not node:
        raise TopologyError(f"{interface!r} is not an interface of {node.name!r}")
    if not isinstance(interface, Interface | str | None):
        raise TypeError(f"interface={interface!r}: expected a name or an interface of {node.name!r}")
    name = interface.name if isinstance(interface, Interface) else interface
    label = f"{node.name}:{name}" if name else node.name
    capture = Capture(label, lambda: [(node, name)], filter, chatter, names=node.lab.dns.known())
    network = network_of(node)
    network.events.publish(CaptureOpened, network, capture)
    return capture


def capture_link(
    link: Cable,
    filter: str | Pattern | None = None,
    *,
    chatter: bool = False,
) -> Capture:
    """Capture the frames on this link, both directions, each once; use it in a ``with`` statement.

    Args:
        filter: which frames: a pcap-filter(7) expression (applied by the kernel), in which the names of
            hosts are those of the lab and of ``lab.dns``; a scapy packet (matches on the fields that were set), a
            scapy layer class, or a function of a packet.
        chatter: keep neighbour discovery, MLD and IGMP, the background traffic of hosts.

    Raises:
        TopologyError: the link was removed.
        TypeError, ValueError: not a valid filter.
        UnsupportedError: the filter is text, and libpcap is not installed.

    Example:
        >>> with link.capture(filter=ICMP) as capture:
        ...     red.ping(blue)
        >>> capture.expect(ICMP(type="echo-reply"))
    """
    from pytest_netns.capture.capture import Capture

    link._check()
    capture = Capture(
        f"{link.a}--{link.b}",
        lambda: [(link.nodes[0], link.a.name)],
        filter,
        chatter,
        names=link.lab.dns.known(),
    )
    network = network_of(link.nodes[0])
    network.events.publish(CaptureOpened, network, capture)
    return capture


def capture_lab(
    lab: Network,
    filter: str | Pattern | None = None,
    *,
    chatter: bool = False,
) -> Capture:
    """Capture on every interface of every node, timestamped by one clock; use it in a ``with`` statement.

    A frame is captured at each interface it passes: when it leaves a node, and when it arrives at the next.

    Args:
        filter: which frames: a pcap-filter(7) expression (applied by the kernel), in which the names of
            hosts are those of the lab and of ``lab.dns``; a scapy packet (matches on the fields that were set), a
            scapy layer class, or a function of a packet.
        chatter: keep neighbour discovery, MLD and IGMP, the background traffic of hosts.

    Raises:
        TopologyError: the lab is closed.
        TypeError, ValueError: not a valid filter.
        UnsupportedError: the filter is text, and libpcap is not installed.

    Example:
        >>> with lab.capture() as capture:
        ...     red.ping(green)
        >>> print(capture.ladder())
    """
    from pytest_netns.capture.capture import Capture

    def places() -> list[tuple[Namespace, str | None]]:
        by_namespace = {node.inode: node for node in lab if not node.closed}
        return [(node, None) for node in by_namespace.values()]

    def switches() -> list[str]:
        return [node.name for node in lab if node.is_switch]

    def owners() -> dict[bytes, str]:
        return {a.ip.packed: node.name for node in lab if not node.closed for a in node.addresses()}

    lab._check_open()
    capture = Capture(
        f"lab {lab.name}",
        places,
        filter,
        chatter,
        whole=True,
        switches=switches,
        owners=owners,
        names=lab.dns.known(),
    )
    lab.events.publish(CaptureOpened, lab, capture)
    return capture
