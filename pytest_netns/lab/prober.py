"""Prober: the questions that a node can put on the wire. Each is told in a module of ``pytest_netns.probe``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_netns.addresses import Address
from pytest_netns.errors import TopologyError
from pytest_netns.kernel import backlog
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

if TYPE_CHECKING:
    from scapy.packet import Packet
    from scapy.plist import PacketList, SndRcvList

    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.pattern import Pattern
    from pytest_netns.probe.arp import ArpResult
    from pytest_netns.probe.dns import DnsResult
    from pytest_netns.probe.path_mtu import PathMtuResult
    from pytest_netns.probe.ping import PingResult
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.trace import Method, TraceResult
    from pytest_netns.probe.udp import UdpResult
    from pytest_netns.stack.destination import Destination
    from pytest_netns.stack.source import Source


class Prober(Namespace):
    """A namespace that can ask."""

    def note_failure(self, result: object, question: str, *details: object) -> None:
        """Called with every result that is falsy, and every trace, should somebody want to know why.

        Args:
            result: what came of it.
            question: which method of a node, or of a lab, asked.
            details: what else it takes to ask again.
        """

    def note_capture(self, capture: Capture) -> None:
        """Called with every capture, should somebody want to see its last packets."""

    def node_names(self) -> dict[Address, str]:
        """Which node of its lab has an address."""
        return {}

    def known_names(self) -> Mapping[str, Sequence[Address]]:
        """The names of its lab, with their addresses."""
        return {}

    def in_flight(self, address: Address, waited: float, udp_port: int = 0) -> str | None:
        """Where a request, or its answer, may still be, in words; None if nothing is on its way any more.

        Lets the kernel finish what it has queued first, so that an answer which was late may be there now.

        Args:
            address: whom was asked.
            waited: seconds since.
            udp_port: on which port; 0 unless it was a datagram.
        """
        del address, waited, udp_port
        backlog.settle()
        return None

    def capture(
        self,
        interface: str | Interface | None = None,
        filter: str | Pattern | None = None,
        *,
        chatter: bool = False,
    ) -> Capture:
        """Capture the frames that pass an interface of this node, or all of them; use it in a ``with`` statement.

        Args:
            interface: one interface; None for all, later ones included.
            filter: which frames: text in the words of pcap-filter(7) (applied by the kernel), in which the names of
                hosts are those of the lab and of ``lab.dns``; a scapy packet (compared in the fields that were set), a
                scapy layer class, or a function of a packet.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.

        Raises:
            TopologyError: no such interface.
            TypeError, ValueError: no such filter.
            UnsupportedError: the filter is text, and libpcap is not installed.
        """
        from pytest_netns.capture.capture import Capture

        if isinstance(interface, Interface) and interface.node is not self:
            raise TopologyError(f"{interface!r} is not an interface of {self.name!r}")
        if not isinstance(interface, Interface | str | None):
            raise TypeError(f"interface={interface!r}: expected a name or an interface of {self.name!r}")
        name = interface.name if isinstance(interface, Interface) else interface
        label = f"{self.name}:{name}" if name else self.name
        capture = Capture(label, lambda: [(self, name)], filter, chatter, names=self.known_names())
        self.note_capture(capture)
        return capture

    # ----------------------------------------------------------------- probes
    # Imported on use: some need scapy, which takes 200 ms to import.

    def ping(
        self,
        destination: Destination,
        *,
        count: int = 1,
        interval: float = 0.0,
        timeout: float = 1.0,
        size: int = 56,
        ttl: int = 64,
        df: bool = False,
        source: Source | None = None,
    ) -> PingResult:
        """Send ICMP echo requests (RFC 792, RFC 4443) and wait for the replies. Truthy if all were answered.

        A reply from another address than was asked, or with a wrong checksum, is none; ``error`` tells of it. Of a
        broadcast address or a multicast group all who reply within the timeout are listed in ``responders``.

        Args:
            destination: a node, an interface or an address.
            count: how many requests.
            interval: seconds between them; 0 sends the next one when the reply is there.
            timeout: seconds to wait for each reply.
            size: bytes of payload, as ``ping -s``.
            ttl: time to live, or hop limit.
            df: forbid fragments, as ``ping -M do``.
            source: an address or an interface of this node, by object or name, that it comes from; None leaves that to
                the routes.

        Raises:
            TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
                be understood; or the source is none of this node's.
            ValueError: a number is out of range.
        """
        from pytest_netns.probe.ping import ping

        result = ping(
            self,
            destination,
            count=count,
            interval=interval,
            timeout=timeout,
            size=size,
            ttl=ttl,
            df=df,
            source=source,
            in_flight=self.in_flight,
        )
        if not result:
            self.note_failure(result, "ping", {"size": size, "ttl": ttl, "df": df})
        return result

    def arp(
        self, destination: Destination, *, timeout: float = 1.0, dad: bool = False, source: Source | None = None
    ) -> ArpResult:
        """Ask who has an address: ARP (RFC 826) for IPv4, neighbour solicitation (RFC 4861) for IPv6.

        Truthy if somebody answered. The kernel's own cache is neither used nor changed.

        Args:
            destination: a node, an interface or an address on the same link.
            timeout: seconds to wait for an answer.
            dad: detect duplicates: ask without an address of one's own, as a host does before it takes one (RFC 5227
                2.1.1, RFC 4862 5.4), and wait for the whole timeout, so that ``macs`` lists everybody who has it.
            source: an address or an interface of this node, by object or name, that asks; None: on the interface whose
                subnet the address is on.

        Raises:
            TopologyError: no interface of this node is on a link with that address.
        """
        from pytest_netns.probe.arp import arp

        result = arp(self, destination, timeout=timeout, dad=dad, source=source, in_flight=self.in_flight)
        if not result:
            self.note_failure(result, "arp")
        return result

    def trace(
        self,
        destination: Destination,
        *,
        method: Method = "icmp",
        port: int | None = None,
        max_hops: int = 30,
        timeout: float = 1.0,
        source: Source | None = None,
    ) -> TraceResult:
        """Find the way to a destination, hop by hop, by packets with a growing time to live.

        Truthy if it was reached. Stops after three hops in a row that do not answer.

        Args:
            destination: a node, an interface or an address.
            method: ``"icmp"`` echo requests, ``"udp"`` datagrams or ``"tcp"`` SYNs.
            port: for ``udp`` (33434 if None) and ``tcp`` (80 if None); a closed one answers too.
            max_hops: the largest time to live to try, 1 to 255.
            timeout: seconds to wait for each hop.
            source: an address or an interface of this node, by object or name, that it comes from; None leaves that to
                the routes.

        Raises:
            TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
                be understood; or the source is none of this node's.
            ValueError: a number is out of range.
        """
        from pytest_netns.probe.trace import trace

        result = trace(
            self,
            destination,
            method=method,
            port=port,
            max_hops=max_hops,
            timeout=timeout,
            source=source,
            name_of=self.node_names().get,
        )
        self.note_failure(result, "trace", method, port)  # one that was reached may have gone the wrong way
        return result

    def tcp(
        self, destination: Destination, port: int, *, timeout: float = 1.0, source: Source | None = None
    ) -> TcpResult:
        """Ask whether a TCP port is open, by the kernel's own connect(2). Truthy if it is.

        The SYN-ACK is answered with a RST (RFC 9293 3.10.7.4), so no server sees a connection.

        Args:
            destination: a node, an interface or an address.
            port: 1 to 65535.
            timeout: seconds to wait for an answer; the kernel repeats a SYN that was lost after 1 s.
            source: an address or an interface of this node, by object or name, that it comes from; None leaves that to
                the routes.

        Raises:
            TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
                be understood; or the source is none of this node's.
            ValueError: the port is out of range.
        """
        from pytest_netns.probe.tcp import tcp

        result = tcp(self, destination, port, timeout=timeout, source=source, in_flight=self.in_flight)
        if not result:
            self.note_failure(result, "tcp")
        return result

    def udp(
        self,
        destination: Destination,
        port: int,
        payload: bytes = b"",
        *,
        timeout: float = 1.0,
        ttl: int | None = None,
        source: Source | None = None,
    ) -> UdpResult:
        """Send a datagram from a connected socket and wait for what comes back. Truthy if it was answered.

        An answer from another address or port is none, as for any connected socket; but any member answers for a
        multicast group, and any host for a broadcast address.

        Args:
            destination: a node, an interface or an address.
            port: 1 to 65535.
            payload: bytes to send.
            timeout: seconds to wait for an answer.
            ttl: time to live, or hop limit; None for the kernel's default.
            source: an address or an interface of this node, by object or name, that it comes from; None leaves that to
                the routes.

        Raises:
            TopologyError: the destination has no address of a family that this node has, is of another lab, or cannot
                be understood; or the source is none of this node's.
            ValueError: a number is out of range.
        """
        from pytest_netns.probe.udp import udp

        result = udp(
            self,
            destination,
            port,
            payload,
            timeout=timeout,
            ttl=ttl,
            source=source,
            in_flight=self.in_flight,
        )
        if not result:
            self.note_failure(result, "udp", payload)
        return result

    def dns(
        self,
        server: Destination,
        name: str,
        qtype: str = "A",
        *,
        port: int = 53,
        timeout: float = 1.0,
        source: Source | None = None,
    ) -> DnsResult:
        """Ask a DNS server (RFC 1035) over UDP. Truthy if the answer has records.

        Args:
            server: a node, an interface or an address.
            name: what to ask for.
            qtype: ``"A"``, ``"AAAA"``, ``"MX"``, ...
            port: of the server.
            timeout: seconds to wait for the answer.
            source: an address or an interface of this node, by object or name, that it comes from; None leaves that to
                the routes.

        Raises:
            TopologyError: the server has no address of a family that this node has.
            ValueError: an unknown kind of record, or a number out of range.
        """
        from pytest_netns.probe.dns import dns

        result = dns(self, server, name, qtype, port=port, timeout=timeout, source=source, in_flight=self.in_flight)
        if not result:
            self.note_failure(result, "dns")
        return result

    def path_mtu(
        self, destination: Destination, *, timeout: float = 0.5, source: Source | None = None
    ) -> PathMtuResult:
        """Find the largest IP packet that gets through unfragmented, in bytes. Truthy if it was found.

        Args:
            destination: a node, an interface or an address.
            timeout: seconds to wait for each answer; a black hole takes about a dozen of them.
            source: an address or an interface of this node, by object or name, that it comes from; None leaves that to
                the routes.

        Raises:
            TopologyError: the destination has no address of a family that this node has.
        """
        from pytest_netns.probe.path_mtu import path_mtu

        result = path_mtu(self, destination, timeout=timeout, source=source, in_flight=self.in_flight)
        if not result or result.black_hole:
            self.note_failure(result, "path_mtu")
        return result

    def send(self, packet: Packet, interface: str | Interface | None = None) -> int:
        """Send a scapy packet made by hand; returns how many went out (a packet with ranges stands for several).

        What is missing is filled in from this namespace: source addresses, and the Ethernet header. An IP packet
        without an interface takes the kernel's route and next hop; with one it goes out there, to the broadcast MAC
        unless an Ethernet layer says otherwise. ``ipaddress`` objects may stand in its fields.

        Args:
            packet: a scapy packet, from the Ethernet, ARP, IP or IPv6 layer on.
            interface: which of this node's interfaces it goes out of, by object or name; None: as the routes say.

        Raises:
            TopologyError: it cannot be told which interface is meant.
            KernelError: the kernel refused, e.g. ``Network is unreachable``.
            TypeError: it is no scapy packet.
        """
        from pytest_netns.probe.crafted import send

        return send(self, packet, interface)

    def sr(
        self, packet: Packet, interface: str | Interface | None = None, *, timeout: float = 1.0
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
        """
        from pytest_netns.probe.crafted import sr

        return sr(self, packet, interface, timeout=timeout)

    def sr1(self, packet: Packet, interface: str | Interface | None = None, *, timeout: float = 1.0) -> Packet | None:
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
        """
        from pytest_netns.probe.crafted import sr

        answered, _ = sr(self, packet, interface, timeout=timeout, first=True)
        return answered[0].answer if answered else None
