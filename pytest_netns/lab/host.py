"""Host: an end system with routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final, cast

from pytest_netns.lab.nodes import Node
from pytest_netns.stack.lazy_verbs import verb_modules

if TYPE_CHECKING:
    from pytest_netns.devices import add_tuntap, add_wireguard, masters, plain, tunnels, uppers, vxlan
    from pytest_netns.devices.builder import Device
    from pytest_netns.faults import block as blocking
    from pytest_netns.faults import crash as crashing
    from pytest_netns.faults import freeze as freezing
    from pytest_netns.faults.crash import Crash
    from pytest_netns.lab import multicast, routes
    from pytest_netns.lab.connections import Connections
    from pytest_netns.lab.nexthops import Nexthops
    from pytest_netns.lab.rules import Rules
else:
    add_tuntap, add_wireguard, masters, plain, tunnels, uppers, vxlan = verb_modules(
        "pytest_netns.devices", "add_tuntap", "add_wireguard", "masters", "plain", "tunnels", "uppers", "vxlan"
    )
    blocking, crashing, freezing = verb_modules("pytest_netns.faults", "block", "crash", "freeze")
    multicast, routes = verb_modules("pytest_netns.lab", "multicast", "routes")

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
    add_tun: Final = add_tuntap.add_tun
    add_tap: Final = add_tuntap.add_tap
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

    # Its routes, told in ``pytest_netns.lab.routes``.
    default_route: Final = routes.default_route
    add_route: Final = routes.add_route
    replace_route: Final = routes.replace_route
    remove_route: Final = routes.remove_route

    # Multicast groups, told in ``pytest_netns.lab.multicast``.
    join: Final = multicast.join
    groups: Final = multicast.groups

    @property
    def rules(self) -> Rules:
        """Its ip rules (``ip rule``): which packets are looked up in which table, or refused.

        Example:
            >>> red.add_route("default", via=blue, table=100)
            >>> red.rules.add(fwmark=1, table=100)
            >>> print(red.rules)
        """
        from pytest_netns.lab.rules import Rules

        return Rules(self)

    @property
    def nexthops(self) -> Nexthops:
        """Its nexthop objects (``ip nexthop``), which many routes can share.

        Example:
            >>> first, second = red.nexthops.add(blue), red.nexthops.add(router)
            >>> red.add_route("10.77.0.0/16", via=red.nexthops.add_group({first: 2, second: 1}))
        """
        from pytest_netns.lab.nexthops import Nexthops

        return Nexthops(self)

    @property
    def devices(self) -> list[Device]:
        """The devices that it was given, oldest first."""
        return cast("list[Device]", list(self._devices))

    @property
    def crashed(self) -> Crash | None:
        """The crash that has not been followed by a ``restart()``; None if it runs."""
        if not self._has_crashed:
            return None
        from pytest_netns.faults.crash import crash_of

        return crash_of(self)

    @property
    def connections(self) -> Connections:
        """Its connection tracking table (``conntrack -L``): which NAT and stateful rules use.

        Example:
            >>> print(router.connections)
            >>> [each.reply.source for each in router.connections.filter(protocol="tcp", port=80)]
            >>> router.connections.flush(source=red)
        """
        from pytest_netns.lab.connections import Connections

        return Connections(self)
