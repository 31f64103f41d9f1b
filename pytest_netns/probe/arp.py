"""Who has an address: ARP for IPv4, neighbour solicitation for IPv6."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from ipaddress import IPv6Address
from socket import AF_INET6, inet_pton
from typing import TYPE_CHECKING

from pytest_netns.addresses import Address
from pytest_netns.checks import check_range
from pytest_netns.clock import monotonic
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.scapy_import import prepare_scapy
from pytest_netns.probe.icmp import ProbeError, local_error
from pytest_netns.probe.in_flight import InFlight, nowhere
from pytest_netns.probe.probe_sockets import ETH_P_ARP, ETH_P_IPV6, Waiter, close_later, packet_socket
from pytest_netns.stack.destination import Destination, Target, resolve
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.source import Origin, Source, origin
from pytest_netns.topology import transit
from pytest_netns.topology.network_events import probe_failed
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from scapy.packet import Packet

# scapy is imported on use, here and in ``dns``: it takes 200 ms.

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_NEIGHBOUR_ADVERTISEMENT = 136
#: How often the question is repeated within the timeout.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class ArpResult:
    """The answer to an ARP request or neighbour solicitation. Truthy if there was one.

    Attributes:
        source: name of the node that sent the probe.
        destination: name and address of the destination.
        address: that address.
        interface: name of the interface on which it asked.
        mac: MAC address in the first answer; None without one.
        macs: MAC addresses in all answers; more than one means a duplicate address.
        rtt: seconds until that answer; None without one.
        error: the kernel's error when sending; else None.
        in_flight: where the request or its answer may still have been at the timeout; else None.

    Example:
        >>> assert red.arp(blue).mac == blue.mac
    """

    source: str
    destination: str
    address: Address
    interface: str
    mac: str | None = None
    macs: tuple[str, ...] = ()
    rtt: float | None = None
    error: ProbeError | None = None
    in_flight: str | None = None
    _raw: bytes | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.mac is not None

    @property
    def reply(self) -> Packet | None:
        """The answer as a scapy packet, dissected now; None without one."""
        prepare_scapy()
        from scapy.layers.l2 import Ether

        return None if self._raw is None else Ether(self._raw)

    def __repr__(self) -> str:
        asked = f"{self.source}:{self.interface} asks who has {self.destination}"
        if len(self.macs) > 1:
            return f"<ArpResult {asked}: DUPLICATE, {' and '.join(self.macs)}>"
        if self.mac is not None and self.rtt is not None:
            return f"<ArpResult {asked}: {self.mac}, {self.rtt * 1000:.3f} ms>"
        return f"<ArpResult {asked}: {self.error or self.in_flight or 'no answer'}>"


def arp(
    node: BaseNode, destination: Destination, *, timeout: float = 1.0, dad: bool = False, source: Source | None = None
) -> ArpResult:
    """Resolve an address: ARP (RFC 826) for IPv4, neighbour solicitation (RFC 4861) for IPv6.

    Truthy if there was an answer. The kernel's neighbour cache is neither used nor changed.

    Args:
        destination: a node, an interface or an address on the same link.
        timeout: seconds to wait for an answer, 0 to 3600.
        dad: probe for duplicates: without a source address, as a host does before it configures one (RFC 5227
            2.1.1, RFC 4862 5.4), and wait for the whole timeout, so that ``macs`` lists every owner.
        source: an address or an interface of this node, by object or name, that asks; None: on the interface whose
            subnet the address is on.

    Raises:
        TopologyError: no interface of this node is on a link with that address.

    Example:
        >>> red.arp(blue).mac
        >>> red.arp("192.168.15.9", dad=True, timeout=0.1).macs
    """
    result = ask_arp(
        node, destination, timeout=timeout, dad=dad, source=source, in_flight=partial(transit.in_flight, node)
    )
    if not result:
        probe_failed(node, result, "arp")
    return result


def ask_arp(
    node: Namespace,
    destination: Destination,
    *,
    timeout: float = 1.0,
    dad: bool = False,
    source: Source | None = None,
    in_flight: InFlight = nowhere,
) -> ArpResult:
    """``arp`` without events: a failure is not recorded."""
    bound = origin(node, source)
    target = resolve(node, destination, bound)
    check_range("timeout", timeout, 0, 3600)
    interface = _interface_towards(bound, target)
    version = target.address.version
    question = _question(interface, target.address, dad, bound.address)
    ethertype = ETH_P_ARP if version == 4 else ETH_P_IPV6
    result = ArpResult(node.name, target.label, target.address, interface.name)
    with uninterrupted:  # but in its waits, where it can close its sockets
        try:
            sock = packet_socket(node, interface.name, ethertype)
        except KernelError as error:
            if error.errno == 100:  # ENETDOWN: the interface is down, which is an answer
                return _with(result, error=ProbeError("Network is down", errno=error.errno))
            raise
        try:
            return _asked(result, sock, question, timeout, dad, in_flight)
        finally:
            close_later(sock)


def _asked(
    result: ArpResult, sock: socket.socket, question: bytes, timeout: float, dad: bool, in_flight: InFlight
) -> ArpResult:
    """The result with what became of the question, which is sent several times."""
    waiter = Waiter(sock)
    start = monotonic()
    for attempt in range(_TRIES):
        try:
            sock.send(question)
        except OSError as error:
            return _with(result, error=local_error(error))
        result = _answered(result, sock, waiter, start, start + timeout * (attempt + 1) / _TRIES, dad)
        if result and not dad:
            return result
    if not result:
        where = in_flight(result.address, monotonic() - start)
        result = _answered(result, sock, waiter, start, 0.0, dad)
        result = result if result else _with(result, in_flight=where)
    return result


def _answered(
    result: ArpResult, sock: socket.socket, waiter: Waiter, start: float, until: float, dad: bool
) -> ArpResult:
    """The result with the answers that come until then; with the first one, unless duplicates are looked for."""
    while waiter.wait(until):
        frame = sock.recv(1 << 16)
        mac = _answer(frame, result.address.packed)
        if mac is None or mac in result.macs:
            continue
        if result.mac is None:
            result = _with(result, mac=mac, rtt=monotonic() - start, _raw=frame)
        result = _with(result, macs=(*result.macs, mac))
        if not dad:
            break
    return result


def _with(result: ArpResult, **changes: object) -> ArpResult:
    return replace(result, **changes)  # type: ignore[arg-type]


def _interface_towards(bound: Origin, target: Target) -> Interface:
    if bound.interface is not None:
        return bound.interface
    node = bound.node
    others = [interface for name, interface in node.interfaces.items() if name != "lo"]
    if target.scope:
        return next(interface for interface in others if interface.index == target.scope)
    having = [i for i in others if bound.address is None or any(a.ip == bound.address for a in i.addresses)]
    if bound.address is not None and not having:
        shown = ", ".join(map(str, node.addresses())) or "none"
        raise TopologyError(f"source={bound.address}: {node.name!r} has no such address; its addresses: {shown}")
    for interface in having:
        if any(target.address in address.network for address in interface.addresses):
            return interface
    if bound.address is not None and len(having) == 1:
        return having[0]
    if len(others) == 1:
        return others[0]
    shown = "; ".join(f"{i.name}: {', '.join(map(str, i.addresses)) or 'no address'}" for i in others) or "none"
    raise TopologyError(f"{node.name!r} has no interface on the link of {target.address}; its interfaces: {shown}")


def _question(interface: Interface, target: Address, dad: bool, source: Address | None) -> bytes:
    """The frame that asks for an address."""
    own = [] if dad else [a for a in interface.addresses if a.version == target.version]
    # From the subnet of the address if possible; for IPv6 from the link-local one, which comes last. Without an
    # address of its own it asks as a prober does (RFC 5227 2.1.1, RFC 4862 5.4.2).
    near = [a for a in own if target in a.network] if target.version == 4 else own[-1:]
    sender = str(source or [*near, *own][0].ip) if own else None
    build = _who_has if target.version == 4 else _solicitation
    return build(interface.mac, sender, str(target))


@lru_cache(maxsize=256)
def _who_has(mac: str, sender: str | None, target: str) -> bytes:
    prepare_scapy()
    from scapy.layers.l2 import ARP, Ether

    frame = Ether(src=mac, dst=_BROADCAST) / ARP(
        op=1, hwsrc=mac, psrc=sender or "0.0.0.0", hwdst="00:00:00:00:00:00", pdst=target
    )
    return bytes(frame)


@lru_cache(maxsize=256)
def _solicitation(mac: str, sender: str | None, target: str) -> bytes:
    prepare_scapy()
    from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
    from scapy.layers.l2 import Ether
    from scapy.utils6 import in6_getnsma, in6_getnsmac

    group = in6_getnsma(inet_pton(AF_INET6, target))
    frame = (
        Ether(src=mac, dst=in6_getnsmac(group))
        / IPv6(src=sender or "::", dst=str(IPv6Address(group)), hlim=255)
        / ICMPv6ND_NS(tgt=target)
    )
    if sender:  # from :: the option is not allowed (RFC 4861 4.3)
        frame /= ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return bytes(frame)


def _answer(frame: bytes, address: bytes) -> str | None:
    """The MAC address that a frame declares for an address; None if it is about something else."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETH_P_ARP and len(frame) >= 42 and frame[20:22] == b"\0\x02" and frame[28:32] == address:
        return frame[22:28].hex(":")
    if (
        ethertype == ETH_P_IPV6
        and len(frame) >= 78
        and frame[20] == 58
        and frame[54] == _NEIGHBOUR_ADVERTISEMENT
        and frame[62:78] == address
    ):
        # the target link-layer address option, or, where that was left out, the sender of the frame
        return (frame[80:86] if frame[78:80] == b"\x02\x01" and len(frame) >= 86 else frame[6:12]).hex(":")
    return None
