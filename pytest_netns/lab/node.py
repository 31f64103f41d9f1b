"""Node: a namespace with a place in a lab, and the questions it can put on the wire."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from pytest_netns.errors import TopologyError
from pytest_netns.interface import Interface
from pytest_netns.kernel.isolation import Isolation, Kind
from pytest_netns.kernel.rtnetlink import Address, AddressWithPrefix
from pytest_netns.lab.slots import Slots
from pytest_netns.namespace import Namespace
from pytest_netns.process import Supervisor

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.pattern import Pattern
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.link import Link
    from pytest_netns.probe.arp import ArpResult
    from pytest_netns.probe.destination import Destination
    from pytest_netns.probe.ping import PingResult
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.trace import TraceResult


class Node(Namespace):
    """A host, router or bridge. Made by its lab, not by hand."""

    def __init__(
        self,
        lab: Lab,
        name: str,
        sysctls: Mapping[str, str | int],
        *,
        existing: int | None = None,
        slots: Slots | None = None,
    ) -> None:
        super().__init__(name, sysctls=sysctls, supervisor=lab.supervisor, existing=existing)
        self.lab = lab
        self.slots = slots or Slots()
        self.isolation: Isolation | None = None

    def isolate(self, kinds: Iterable[Kind]) -> None:
        """Give it more of its own than a network; called by its lab before anything runs in it."""
        self.isolation = Isolation(kinds, self.name, self.fd, self.lab.visible)
        self._supervisor = Supervisor(self.isolation)
        self._owns_supervisor = True
        self._supervisor.start()

    def before_entry(self) -> None:
        """Called before a thread or a process of the test goes inside."""
        if self.isolation is not None:
            self.lab.dns.refresh()

    def enter_thread(self) -> None:
        """Move the calling thread inside for good, with all that the host has of its own. Not the main thread."""
        super().enter_thread()
        if self.isolation is not None:
            self.isolation.enter()

    def environment(self) -> dict[str, str]:
        """The environment of its processes unless they are given another."""
        if self.isolation is not None and "mount" in self.isolation.kinds:
            return dict(os.environ)  # its /run is its own, and so are the locks in it
        return super().environment()

    @property
    def links(self) -> list[Link]:
        """The links that end here, in the order of their making."""
        return [link for link in self.lab.links if self in (link.a.node, link.b.node)]

    @property
    def ip4(self) -> IPv4Address:
        """Its first IPv4 address. Raises TopologyError if it has none."""
        for address in self.addresses():
            if isinstance(address.ip, IPv4Address):
                return address.ip
        raise TopologyError(f"{self.name!r} has no IPv4 address")

    @property
    def ip6(self) -> IPv6Address:
        """Its first IPv6 address that is not link-local. Raises TopologyError if it has none."""
        for address in self.addresses():
            if isinstance(address.ip, IPv6Address) and not address.is_link_local:
                return address.ip
        raise TopologyError(f"{self.name!r} has no IPv6 address beyond link-local")

    @property
    def ip(self) -> Address:
        """Its first address, IPv4 if it has one. Raises TopologyError if it has none."""
        for address in self.addresses():
            if not address.is_link_local:
                return address.ip
        raise TopologyError(f"{self.name!r} has no address")

    @property
    def primary(self) -> Interface:
        """Its first interface beside loopback. Raises TopologyError if it has none."""
        for name, interface in self.interfaces.items():
            if name != "lo":
                return interface
        raise TopologyError(f"{self.name!r} has no interface yet; connect it to something")

    @property
    def mac(self) -> str:
        """MAC address of its first interface. Raises TopologyError if it has none."""
        return self.primary.mac

    def add_address(self, address: str | AddressWithPrefix, interface: str | Interface | None = None) -> None:
        """``ip address add``, on the first interface unless another is named.

        Raises:
            TopologyError: no such interface, or an address without a prefix.
            KernelError: the kernel refused it, e.g. because it is there already.
        """
        if interface is None:
            interface = self.primary
        elif isinstance(interface, str):
            interface = self.interface(interface)
        elif interface.node is not self:
            raise TopologyError(f"{interface!r} is not an interface of {self.name!r}")
        interface.add_address(address)

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
            filter: which frames: text in the words of pcap-filter(7) (applied by the kernel), a scapy packet (compared
                in the fields that were set), a scapy layer class, or a function of a packet.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.

        Raises:
            TopologyError: no such interface.
            TypeError, ValueError: no such filter.
        """
        from pytest_netns.capture.capture import Capture

        if isinstance(interface, Interface) and interface.node is not self:
            raise TopologyError(f"{interface!r} is not an interface of {self.name!r}")
        if not isinstance(interface, Interface | str | None):
            raise TypeError(f"interface={interface!r}: expected a name or an interface of {self.name!r}")
        name = interface.name if isinstance(interface, Interface) else interface
        label = f"{self.name}:{name}" if name else self.name
        return Capture(label, lambda: [(self, name)], filter, chatter)

    # ----------------------------------------------------------------- probes
    # Imported on use: they need scapy, which takes 200 ms to import.

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
    ) -> PingResult:
        """Send ICMP echo requests (RFC 792, RFC 4443) and wait for the replies. Truthy if all were answered.

        Args:
            destination: a node, an interface or an address.
            count: how many requests.
            interval: seconds between them; 0 sends the next one when the reply is there.
            timeout: seconds to wait for each reply.
            size: bytes of payload, as ``ping -s``.
            ttl: time to live, or hop limit.
            df: forbid fragments, as ``ping -M do``.

        Raises:
            TopologyError: the destination has no address of a family that this node has, or cannot be understood.
            ValueError: a number is out of range.
        """
        from pytest_netns.probe.ping import ping

        return ping(self, destination, count=count, interval=interval, timeout=timeout, size=size, ttl=ttl, df=df)

    def arp(self, destination: Destination, *, timeout: float = 1.0) -> ArpResult:
        """Ask who has an address: ARP (RFC 826) for IPv4, neighbour solicitation (RFC 4861) for IPv6.

        Truthy if somebody answered. The kernel's own cache is neither used nor changed.

        Args:
            destination: a node, an interface or an address on the same link.
            timeout: seconds to wait for an answer.

        Raises:
            TopologyError: no interface of this node is on a link with that address.
        """
        from pytest_netns.probe.arp import arp

        return arp(self, destination, timeout=timeout)

    def trace(self, destination: Destination, *, max_hops: int = 30, timeout: float = 1.0) -> TraceResult:
        """Find the way to a destination, hop by hop, by echo requests with a growing time to live.

        Truthy if it was reached. Stops after three hops in a row that do not answer.

        Args:
            destination: a node, an interface or an address.
            max_hops: the largest time to live to try, 1 to 255.
            timeout: seconds to wait for each hop.

        Raises:
            TopologyError: the destination has no address of a family that this node has, or cannot be understood.
            ValueError: a number is out of range.
        """
        from pytest_netns.probe.trace import trace

        owners = {address.ip: node.name for node in self.lab for address in node.addresses()}
        return trace(self, destination, max_hops=max_hops, timeout=timeout, name_of=owners.get)

    def tcp(self, destination: Destination, port: int, *, timeout: float = 1.0) -> TcpResult:
        """Ask with a SYN whether a TCP port is open. Truthy if it is. No connection is made, so no server sees one.

        Args:
            destination: a node, an interface or an address.
            port: 1 to 65535.
            timeout: seconds to wait for an answer; the SYN is repeated twice in that time.

        Raises:
            TopologyError: the destination has no address of a family that this node has, or cannot be understood.
            ValueError: the port is out of range.
        """
        from pytest_netns.probe.tcp import tcp

        return tcp(self, destination, port, timeout=timeout)
