"""Scapy packets: missing fields are filled in from the namespace, not from the machine."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from scapy.plist import PacketList, QueryAnswer, SndRcvList

from pytest_netns.capture.frame import dissect
from pytest_netns.capture.offload import received
from pytest_netns.checks import check_range
from pytest_netns.clock import monotonic, wall_ns
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.packet_socket import ETH_P_ALL, PACKET_VNET_HDR, SOL_PACKET, open_packet_socket
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import bind_packet_socket, entered
from pytest_netns.probe.probe_sockets import Waiter, close_later
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.views import own_interface

_IPV6_HDRINCL = 36
_OUTGOING = 4


def plain(packet: Packet) -> Packet:
    """A copy whose fields are what scapy expects: addresses of ``ipaddress`` become text."""
    copy: Packet = packet.copy()
    layer = copy
    while layer:
        for name, value in list(layer.fields.items()):
            if isinstance(value, IPv4Address | IPv6Address):
                layer.setfieldval(name, str(value))
        layer = layer.payload
    return copy


def _source_for(node: Namespace, destination: str) -> str:
    """The address that the kernel would send from."""
    version = ip_address(destination).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with entered(node), Socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect((destination, 9))  # sends nothing
        except OSError as error:
            raise KernelError.of(error, f"ip route get {destination}", node.name) from error
        return str(probe.getsockname()[0]).partition("%")[0]


def _filled(node: Namespace, packet: Packet) -> Packet:
    """Set the source addresses that were left open."""
    layer = packet.getlayer(IP) or packet.getlayer(IPv6)
    if layer is not None and "src" not in layer.fields:
        if "dst" not in layer.fields:
            raise TopologyError(f"{packet.summary()}: its destination address is not set")
        layer.src = _source_for(node, str(layer.dst))
    return packet


def _interface(node: Namespace, interface: str | Interface | None, packet: Packet) -> Interface:
    if interface is not None:
        return own_interface(node, interface)
    others = [each for name, each in node.interfaces.items() if name != "lo"]
    arp = packet.getlayer(ARP)
    if arp is not None and "pdst" in arp.fields:
        wanted = ip_address(str(arp.pdst))
        others = [i for i in others if any(wanted in a.network for a in i.addresses)] or others
    if len(others) != 1:
        raise TopologyError(
            f"{node.name!r} has {len(others)} interfaces; say which one {packet.summary()} goes out of: "
            f"interface={others[0].name if others else 'eth0'!r}"
        )
    return others[0]


def _framed(packet: Packet, interface: Interface) -> bytes:
    """An Ethernet frame: addresses that were left open are the interface's own, and broadcast."""
    frame = packet if packet.haslayer(Ether) else Ether(dst="ff:ff:ff:ff:ff:ff") / packet
    ether = frame[Ether]
    if "src" not in ether.fields:
        ether.src = interface.mac
    if "dst" not in ether.fields:
        ether.dst = "ff:ff:ff:ff:ff:ff"
    arp = frame.getlayer(ARP)
    if arp is not None:
        if "hwsrc" not in arp.fields:
            arp.hwsrc = interface.mac
        if "psrc" not in arp.fields:
            arp.psrc = str(next((a.ip for a in interface.addresses if a.version == 4), "0.0.0.0"))
    return bytes(frame)


def _needs_frame(packet: Packet, interface: object) -> bool:
    return interface is not None or not isinstance(packet, IP | IPv6)


def send_packet(node: Namespace, packet: Packet, interface: str | Interface | None = None) -> int:
    """Send a scapy packet; returns how many it stood for."""
    each = _expanded(node, packet)
    for one in each:
        _send_one(node, one, interface)
    return len(each)


def _expanded(node: Namespace, packet: Packet) -> list[Packet]:
    """The packets that one stands for, completed."""
    if not isinstance(packet, Packet):
        raise TypeError(f"expected a scapy packet, not {packet!r}")
    return [_filled(node, plain(one)) for one in plain(packet)]


def _send_one(node: Namespace, packet: Packet, interface: str | Interface | None) -> None:
    try:
        _put_on_the_wire(node, packet, interface)
    except OSError as error:
        raise KernelError.of(error, f"send {packet.summary()}", node.name) from error


def _put_on_the_wire(node: Namespace, packet: Packet, interface: str | Interface | None) -> None:
    if _needs_frame(packet, interface):
        out = _interface(node, interface, packet)
        data = _framed(packet, out)
        # Closed at once: it never listened, so nothing has to be waited for.
        with open_packet_socket(node) as sock:
            sock.sendto(data, (out.name, int.from_bytes(data[12:14], "big")))
        return
    version = 4 if isinstance(packet, IP) else 6
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with entered(node), Socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as raw:
        if version == 6:
            raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
        raw.sendto(bytes(packet), (str(packet.dst), 0))


def send_and_receive(
    node: Namespace,
    packet: Packet,
    interface: str | Interface | None = None,
    *,
    timeout: float = 1.0,
    first: bool = False,
) -> tuple[SndRcvList, PacketList]:
    """Send a scapy packet; returns what was answered, and what was not. ``first``: stop at the first answer."""
    check_range("timeout", timeout, 0, 3600)
    questions = _expanded(node, packet)
    with uninterrupted:  # but in its waits, where it can close its sockets
        listener = open_packet_socket(node)
        try:
            listener.setblocking(False)
            listener.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            bind_packet_socket(listener.fileno(), ETH_P_ALL, 0)
            waiter = Waiter(listener)
            for question in questions:
                _send_one(node, question, interface)
                question.sent_time = wall_ns() / 1e9
            pending, answered = list(questions), []
            deadline = monotonic() + timeout
            while pending and waiter.wait(deadline):
                try:
                    data, (_, _, kind, hardware, _) = listener.recvfrom(1 << 18)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # several segments in one piece, and not of TCP or UDP: no answer
                        raise
                    continue
                if kind == _OUTGOING:
                    continue
                answer = dissect(received(data), hardware in (1, 772))
                found = next((question for question in pending if _answers(answer, question)), None)
                if found is not None:
                    pending.remove(found)
                    answered.append(QueryAnswer(found, answer))
                    if first:
                        break
            return SndRcvList(answered, "Answered"), PacketList(pending, "Unanswered")
        finally:
            close_later(listener)


def _answers(received: Packet, question: Packet) -> bool:
    layer = received if question.haslayer(Ether) else received.getlayer(type(question)) or received.payload
    try:
        return bool(layer.answers(question))
    except Exception:  # a packet that scapy cannot make sense of is no answer
        return False
