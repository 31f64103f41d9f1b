"""Sent: whether a probe left its node; if it did not, a missing answer proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from socket import IPPROTO_TCP

from pytest_netns.addresses import Address
from pytest_netns.capture.frame import ETH_ARP, ETH_IPV6, Frame
from pytest_netns.errors import NetnsError
from pytest_netns.explain.nft_trace.rule_trace import RuleTrace
from pytest_netns.explain.observation.observed_packets import Kind, observed_packets
from pytest_netns.lab.lab import lab_of
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.tcp import ask_tcp

#: Seconds to wait for a SYN that does not leave its node.
_PATIENCE = 0.02
_SOLICITATION, _ADVERTISEMENT = 135, 136


def was_sent(frames: Sequence[Frame], kind: Kind, source: Node, address: Address, port: int = 0) -> bool:
    """Whether a probe has left its node, or at least an ARP request or neighbour solicitation that was not answered.

    An unresolved gateway does not count: nothing was sent to the destination then. It counts if the test itself has
    put a fault on the lab.
    """
    found = observed_packets(list(frames), kind, source.name, address, port)
    if any(s.role == "request" and s.frame.outgoing for s in found):
        return True
    if _gateway(source, address) is not None and not lab_of(source)._in_force():
        return False
    asked = {target for frame in frames if frame.outgoing and (target := sought(frame))}
    answered = {target for frame in frames if not frame.outgoing and (target := answered_for(frame))}
    return bool(asked - answered) or _is_searched(source, address)


def drops_its_own(source: Node, address: Address, port: int) -> bool:
    """Whether the node's own firewall drops its SYN, which connect(2) does not report. Sends one more SYN.

    Rules of the netdev family do not count: faults use them to drop frames on the wire.
    """
    with RuleTrace(lab_of(source), {IPPROTO_TCP}) as trace:
        ask_tcp(source, address, port, timeout=_PATIENCE)
        trace.read()
    dropped = (drop.packet for drop in trace.drops if drop.node.inode == source.inode and drop.family != "netdev")
    return any(packet and (packet.destination, packet.ports[1]) == (address, port) for packet in dropped)


def has_asked(frames: Sequence[Frame], address: Address) -> bool:
    """Whether an ARP request or a neighbour solicitation for an address is among the frames."""
    return any(frame.outgoing and sought(frame) == address.packed for frame in frames)


def _gateway(source: Node, address: Address) -> Address | None:
    try:
        return source.route_to(address).gateway
    except NetnsError:
        return None


def _is_searched(source: Node, address: Address) -> bool:
    """Whether the kernel is already resolving the next hop, or has just given up; it sends one request per second."""
    try:
        hop = source.route_to(address).gateway or address
    except NetnsError:
        return False
    return any(n.address == hop and n.state in ("INCOMPLETE", "FAILED") for n in source.neighbours())


def sought(frame: Frame) -> bytes | None:
    """The address that an ARP request or a neighbour solicitation asks for."""
    data = frame.data
    if data[12:14] == ETH_ARP and len(data) >= 42 and data[20:22] == b"\0\1":
        return data[38:42]
    return _target(data, _SOLICITATION)


def answered_for(frame: Frame) -> bytes | None:
    """The address that an ARP reply or a neighbour advertisement resolves."""
    data = frame.data
    if data[12:14] == ETH_ARP and len(data) >= 42 and data[20:22] == b"\0\2":
        return data[28:32]
    return _target(data, _ADVERTISEMENT)


def _target(data: bytes, kind: int) -> bytes | None:
    # Ethernet, IPv6 without extension headers (RFC 4861), four bytes of ICMPv6, four reserved ones
    if data[12:14] == ETH_IPV6 and len(data) >= 78 and data[20] == 58 and data[54] == kind:
        return data[62:78]
    return None
