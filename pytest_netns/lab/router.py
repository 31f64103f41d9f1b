"""Router: a host that forwards, translates addresses and forwards ports."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pytest_netns.lab.host import Host

if TYPE_CHECKING:
    from pytest_netns.addresses import Address
    from pytest_netns.lab.multicast_routes import MulticastRoutes
    from pytest_netns.lab.nat import ForwardRule, MasqueradeRule, Nat, Transport
    from pytest_netns.lab.nodes import Node
    from pytest_netns.stack.interface import Interface

#: A router of ours sends no redirects (RFC 1812 5.2.7.2): they would teach hosts to bypass it, and the kernel counts
#: them against the ICMP errors that it owes the same host.
FORWARDING = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}


class Router(Host):
    """A host that forwards IPv4 and IPv6 between its interfaces. Created by ``Lab.router``.

    Example:
        >>> gateway = lab.router("gateway", lan)
        >>> gateway.masquerade(lan)
    """

    forwards: ClassVar[bool] = True
    _initial_sysctls: ClassVar[Mapping[str, str]] = {**Host._initial_sysctls, **FORWARDING}

    @cached_property
    def nat(self) -> Nat:
        """Its address translation rules."""
        from pytest_netns.lab.nat import Nat

        return Nat(self)

    @cached_property
    def multicast_routes(self) -> MulticastRoutes:
        """Its static multicast routes: by which interfaces the packets of a group go on.

        Example:
            >>> router.multicast_routes.add("239.1.2.3", lan, [red])
        """
        from pytest_netns.lab.multicast_routes import MulticastRoutes

        return MulticastRoutes(self)

    def _on_restart(self) -> None:
        """Called after a restart: its address translation and its multicast routes are configuration."""
        if "nat" in self.__dict__:
            self.nat.restore()
        if "multicast_routes" in self.__dict__:
            self.multicast_routes.restore()

    def masquerade(self, out: str | Interface | Node, *, flush: bool = False) -> MasqueradeRule:
        """Masquerade what leaves by an interface: source NAT to its address, for IPv4 and IPv6.

        The kernel applies NAT rules to the first packet of a connection only: one that the router tracks
        already stays untranslated unless it is flushed. A router tracks connections once it has a NAT rule, or
        one that says ``ct``.

        Args:
            out: one of its interfaces, by object or name, or a node (a bridge, say) that it is linked to.
            flush: forget the untranslated connections that leave there (conntrack(8)), so that their next packet is
                translated; see ``Host.connections``.

        Returns:
            The rule; its counters can be read, and it can be removed.

        Raises:
            TopologyError: it has no such interface.
            UnsupportedError: neither libnftables nor the nft program is installed.

        Example:
            >>> router.masquerade(lan)
        """
        return self.nat.masquerade(out, flush)

    def forward_port(
        self,
        port: int,
        to: Node | Address | str,
        to_port: int | None = None,
        *,
        protocol: Transport = "tcp",
        on: str | Interface | Node | None = None,
        flush: bool = False,
    ) -> ForwardRule:
        """Forward a port of the router to a node behind it (destination NAT), for IPv4 and IPv6.

        It works from outside, from the node's own LAN (the router then stands in as source, so that replies come
        back through it) and from the router itself.

        The kernel applies NAT rules to the first packet of a connection only: one that the router tracks
        already keeps its target unless it is flushed.

        Args:
            port: 1 to 65535, on the router.
            to: a node behind the router, or an address there.
            to_port: the port there; the same if None.
            protocol: ``"tcp"`` or ``"udp"``.
            on: count only connections to the addresses of this interface (or of the one towards this node); None:
                to any address of the router.
            flush: forget the connections to this port that are there (conntrack(8)), so that their next packet is sent
                on; see ``Host.connections``.

        Returns:
            The rule; its counters can be read, and it can be changed and removed.

        Raises:
            TopologyError: ``to`` is not behind the router, or ``on`` names no interface of it.
            ValueError: a port out of range or an unknown protocol.
            UnsupportedError: neither libnftables nor the nft program is installed.

        Example:
            >>> router.forward_port(80, green, 8080)
        """
        return self.nat.forward_port(port, to, to_port, protocol, on, flush)
