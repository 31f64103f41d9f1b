"""Send scapy packets from a node: ``send``, ``sr`` and ``sr1`` as scapy has them for the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_netns.kernel.scapy_import import prepare_scapy
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

if TYPE_CHECKING:
    from scapy.packet import Packet
    from scapy.plist import PacketList, SndRcvList

# ``crafted`` is imported on use: it needs scapy, which takes 200 ms to import.


def send(node: Namespace, packet: Packet, interface: str | Interface | None = None) -> int:
    """Send a scapy packet; returns the number of packets sent (a packet with ranges stands for several).

    Missing fields are filled in from this namespace: source addresses, and the Ethernet header. An IP packet
    without an interface takes the kernel's route and next hop; with one it goes out there, to the broadcast MAC
    unless an Ethernet layer says otherwise. ``ipaddress`` objects may stand in its fields.

    Args:
        packet: a scapy packet, from the Ethernet, ARP, IP or IPv6 layer on.
        interface: which of this node's interfaces it goes out of, by object or name; None: as the routes say.

    Raises:
        TopologyError: it cannot be told which interface is meant.
        KernelError: the kernel refused, e.g. ``Network is unreachable``.
        TypeError: it is no scapy packet.

    Example:
        >>> red.send(IP(dst=blue.ip4) / UDP(dport=5000) / b"hello")
    """
    prepare_scapy()
    from pytest_netns.probe.crafted import send_packet

    return send_packet(node, packet, interface)


def sr(
    node: Namespace, packet: Packet, interface: str | Interface | None = None, *, timeout: float = 1.0
) -> tuple[SndRcvList, PacketList]:
    """Send a scapy packet as ``send`` does, and receive what answers it, as scapy's ``sr`` does.

    Args:
        packet: a scapy packet, from the Ethernet, ARP, IP or IPv6 layer on; one with ranges stands for several.
        interface: which of this node's interfaces it goes out of, by object or name; None: as the routes say.
        timeout: seconds to wait for the answers, 0 to 3600.

    Returns:
        The answered ones, each with its answer, and the unanswered ones.

    Raises:
        TopologyError: it cannot be told which interface is meant.
        KernelError: the kernel refused, e.g. ``Network is unreachable``.
        TypeError: it is no scapy packet.
        ValueError: the timeout is out of range.

    Example:
        >>> answered, unanswered = red.sr(IP(dst=blue.ip4) / TCP(dport=[80, 81], flags="S"))
    """
    prepare_scapy()
    from pytest_netns.probe.crafted import send_and_receive

    return send_and_receive(node, packet, interface, timeout=timeout)


def sr1(
    node: Namespace, packet: Packet, interface: str | Interface | None = None, *, timeout: float = 1.0
) -> Packet | None:
    """Send a scapy packet as ``send`` does, and return the first answer, or None, as scapy's ``sr1`` does.

    Args:
        packet: a scapy packet, from the Ethernet, ARP, IP or IPv6 layer on; one with ranges stands for several.
        interface: which of this node's interfaces it goes out of, by object or name; None: as the routes say.
        timeout: seconds to wait for an answer, 0 to 3600.

    Raises:
        TopologyError: it cannot be told which interface is meant.
        KernelError: the kernel refused, e.g. ``Network is unreachable``.
        TypeError: it is no scapy packet.
        ValueError: the timeout is out of range.

    Example:
        >>> answer = red.sr1(IP(dst=blue.ip4) / ICMP())
    """
    prepare_scapy()
    from pytest_netns.probe.crafted import send_and_receive

    answered, _ = send_and_receive(node, packet, interface, timeout=timeout, first=True)
    return answered[0].answer if answered else None
