"""Host: an end system with routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, cast

from pytest_netns.addresses import Address, Network
from pytest_netns.devices import add_wireguard, masters, plain, tunnels, tuntap, uppers, vxlan
from pytest_netns.devices.builder import Device
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.faults import block as blocking
from pytest_netns.faults import crash as crashing
from pytest_netns.faults import freeze as freezing
from pytest_netns.faults.crash import Crash, crash_of
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.rtnetlink import RouteOptions
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.lab.connections import Connections
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface
from pytest_netns.topology import routing
from pytest_netns.topology.routing import RouteTarget, Via

#: The kernel sends each peer one ICMP error a second, and all together a thousand. A test that asks a hundred closed
#: ports, or traces a path twice, must get its answers. See https://docs.kernel.org/networking/ip-sysctl.html
UNLIMITED_ICMP = {"net.ipv4.icmp_ratemask": "0", "net.ipv6.icmp.ratemask": "\n"}


class Host(Node):
    """An end system with interfaces ``eth0``, ``eth1``, ... It does not forward. Created by ``Lab.host``.

    Example:
        >>> pink = lab.host("pink", lan)
        >>> pink.default_route(via=router)
    """

    _initial_sysctls: ClassVar[Mapping[str, str]] = UNLIMITED_ICMP

    # The devices that it can be given. Each is told in a module of ``pytest_netns.devices``.
    add_dummy: Final = plain.add_dummy
    add_ifb: Final = plain.add_ifb
    add_tun: Final = tuntap.add_tun
    add_tap: Final = tuntap.add_tap
    add_vlan: Final = uppers.add_vlan
    add_macvlan: Final = uppers.add_macvlan
    add_macvtap: Final = uppers.add_macvtap
    add_ipvlan: Final = uppers.add_ipvlan
    add_bond: Final = masters.add_bond
    add_vrf: Final = masters.add_vrf
    add_bridge: Final = masters.add_bridge
    add_vxlan: Final = vxlan.add_vxlan
    add_geneve: Final = tunnels.add_geneve
    add_gre: Final = tunnels.add_gre
    add_gretap: Final = tunnels.add_gretap
    add_ipip: Final = tunnels.add_ipip
    add_sit: Final = tunnels.add_sit
    add_wireguard: Final = add_wireguard.add_wireguard

    # What can befall it. Each is told in a module of ``pytest_netns.faults``.
    block: Final = blocking.block
    unblock: Final = blocking.unblock
    freeze: Final = freezing.freeze
    thaw: Final = freezing.thaw
    crash: Final = crashing.crash
    restart: Final = crashing.restart

    @property
    def devices(self) -> list[Device]:
        """The devices that it was given, oldest first."""
        return cast("list[Device]", list(self._devices))

    @property
    def crashed(self) -> Crash | None:
        """The crash that has not been followed by a ``restart()``; None if it runs."""
        return crash_of(self)

    @property
    def connections(self) -> Connections:
        """Its connection tracking table (``conntrack -L``): which NAT and stateful rules use.

        Example:
            >>> print(router.connections)
            >>> [each.reply.source for each in router.connections.filter(protocol="tcp", port=80)]
            >>> router.connections.flush(source=red)
        """
        return Connections(self)

    def default_route(self, via: Via) -> None:
        """``ip route replace default via ...``, for each family in which the next hop is on a common subnet.

        Args:
            via: a node, an interface or an address.

        Raises:
            TopologyError: this node and the next hop are on no common subnet.

        Example:
            >>> green.default_route(via=router)
        """
        if via is None:
            raise TopologyError(
                f"default route of {self.name!r}: via is None; it can be a node, an interface or an address"
            )
        hops = routing.requests_for(self, "default", via, None, RouteOptions())
        self.rtnl.batch([rtnetlink.route_replace(network, hop, index) for network, hop, index in hops])

    def add_route(
        self,
        dst: RouteTarget,
        via: Via | None = None,
        *,
        interface: str | Interface | None = None,
        kind: str = "unicast",
        metric: int = 0,
    ) -> None:
        """``ip route add``.

        Args:
            dst: a network, an address, ``"default"``, a bridge (its subnets) or another node (its addresses).
            via: the next hop: a node, an interface or an address.
            interface: the outgoing one, for a destination that is on the link.
            kind: ``"unicast"``, or a refusal: ``"blackhole"`` (silent), ``"unreachable"``, ``"prohibit"``.
            metric: lower wins; 0 is the kernel's default.

        Raises:
            TopologyError: the next hop is on no common subnet, or of a family that the destination is not.
            KernelError: the kernel refused, e.g. because there is such a route.

        Example:
            >>> red.add_route("10.77.0.0/16", via=blue)
        """
        wanted = self._wanted(dst, via, interface, RouteOptions(kind, metric))
        added: list[Request] = []
        try:
            for each in wanted:  # one by one: what was added before a refusal is taken back
                self.rtnl.batch([rtnetlink.route_add(*each)])
                added.append(rtnetlink.route_delete(*each))
        except KernelError:
            if added:
                self.rtnl.batch(added)
            raise

    def replace_route(
        self,
        dst: RouteTarget,
        via: Via | None = None,
        *,
        interface: str | Interface | None = None,
        kind: str = "unicast",
        metric: int = 0,
    ) -> None:
        """``ip route replace``: adds a route, instead of the one to the same destination if there is one.

        Args:
            dst: a network, an address, ``"default"``, a bridge (its subnets) or another node (its addresses).
            via: the next hop: a node, an interface or an address.
            interface: the outgoing one, for a destination that is on the link.
            kind: ``"unicast"``, or a refusal: ``"blackhole"`` (silent), ``"unreachable"``, ``"prohibit"``.
            metric: lower wins; 0 is the kernel's default.

        Raises:
            TopologyError: the next hop is on no common subnet, or of a family that the destination is not.
            KernelError: the kernel refused.

        Example:
            >>> red.replace_route("10.77.0.0/16", via=blue)
        """
        wanted = self._wanted(dst, via, interface, RouteOptions(kind, metric))
        self.rtnl.batch([rtnetlink.route_replace(*each) for each in wanted])

    def remove_route(self, dst: RouteTarget, *, kind: str = "unicast", metric: int = 0) -> None:
        """``ip route delete``.

        Args:
            dst: a network, an address, ``"default"``, a bridge (its subnets) or another node (its addresses).
            kind: which kind of route it is: ``"unicast"``, ``"blackhole"``, ``"unreachable"`` or ``"prohibit"``.
            metric: of the route; 0 takes the first.

        Raises:
            TopologyError: the destination cannot be understood.
            KernelError: there is no such route (ESRCH).

        Example:
            >>> red.add_route("10.77.0.0/16", via=blue)
            >>> red.remove_route("10.77.0.0/16")
        """
        options = RouteOptions(kind, metric, 0)
        networks = routing.networks_of(self, dst)
        routing.check_options(self, options)
        if dst == "default":  # of the families in which there is one
            present = {route.destination for route in self.routes()}
            networks = [network for network in networks if network in present] or networks[:1]
        self.rtnl.batch([rtnetlink.route_delete(network, options=options) for network in networks])

    def _wanted(
        self, dst: RouteTarget, via: Via | None, interface: str | Interface | None, options: RouteOptions
    ) -> list[tuple[Network, Address | None, int, RouteOptions]]:
        if isinstance(interface, str):
            interface = self.interface(interface)
        elif interface is not None and (not isinstance(interface, Interface) or interface.node is not self):
            raise TopologyError(f"route of {self.name!r}: {interface!r} is not its own interface")
        return [(*each, options) for each in routing.requests_for(self, dst, via, interface, options)]
