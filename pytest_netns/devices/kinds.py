"""The kinds of devices that a host can be given: from this table come the docs, and what this kernel can do of it.

Which module brings each stands below, in ``kernel.features``, where kinds are asked for that nobody is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_netns.kernel.features.features import DEVICES, feature
from pytest_netns.kernel.features.socket_families import TUN_TAP


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table.

    Attributes:
        kind: as ip-link(8) calls it.
        method: of ``Host``, that makes one.
        description: one line.
        tunnel: whether what it sends travels in packets of other devices, or through a program of the test.
    """

    kind: str
    method: str
    description: str
    tunnel: bool = False

    @property
    def module(self) -> str:
        """The kernel module that brings it."""
        return "tun" if self.kind in TUN_TAP else DEVICES[self.kind]


KINDS = (
    Kind("dummy", "add_dummy", "A device that swallows what it is sent: a place for further addresses"),
    Kind("ifb", "add_ifb", "Intermediate functional block: a queue for arriving traffic, for tc(8)"),
    Kind("bridge", "add_bridge", "A bridge inside a host, e.g. for its containers"),
    Kind("vlan", "add_vlan", "A VLAN of a link, tagged by 802.1Q or 802.1ad; one on another is QinQ"),
    Kind("macvlan", "add_macvlan", "A further MAC address on a link"),
    Kind("macvtap", "add_macvtap", "A macvlan whose frames go to a character device, for hypervisors"),
    Kind("ipvlan", "add_ipvlan", "Further IP addresses on a link that share its MAC address"),
    Kind("vrf", "add_vrf", "A routing table of their own for some interfaces"),
    Kind("bond", "add_bond", "Several links as one, for capacity or against failure"),
    Kind("vxlan", "add_vxlan", "Ethernet in UDP (RFC 7348)", tunnel=True),
    Kind("geneve", "add_geneve", "Ethernet in UDP with options (RFC 8926)", tunnel=True),
    Kind("gre", "add_gre", "IP in GRE over IPv4 (RFC 2784, RFC 2890)", tunnel=True),
    Kind("ip6gre", "add_gre", "IP in GRE over IPv6 (RFC 7676)", tunnel=True),
    Kind("gretap", "add_gretap", "Ethernet in GRE over IPv4", tunnel=True),
    Kind("ip6gretap", "add_gretap", "Ethernet in GRE over IPv6", tunnel=True),
    Kind("ipip", "add_ipip", "IPv4 in IPv4 (RFC 2003)", tunnel=True),
    Kind("ip6tnl", "add_ipip", "IPv4 or IPv6 in IPv6 (RFC 2473)", tunnel=True),
    Kind("sit", "add_sit", "IPv6 in IPv4 (RFC 4213)", tunnel=True),
    Kind("wireguard", "add_wireguard", "An encrypted tunnel between peers that know each other's keys", tunnel=True),
    Kind("tun", "add_tun", "IP packets that the test itself reads and writes", tunnel=True),
    Kind("tap", "add_tap", "Ethernet frames that the test itself reads and writes"),
)


#: Tunnels: their own addresses are no place for the end of another one.
TUNNELS = frozenset(each.kind for each in KINDS if each.tunnel)


@dataclass(frozen=True, slots=True)
class Row:
    """A kind, and whether this kernel has it.

    Attributes:
        kind: as ip-link(8) calls it.
        method: of ``Host``, that makes one.
        module: the kernel module that brings it.
        description: one line.
        present: whether this kernel has it; None if that was not asked.
    """

    kind: str
    method: str
    module: str
    description: str
    present: bool | None = None


def table(*, ask: bool = True) -> list[Row]:
    """Every kind, in the order of the docs.

    Args:
        ask: whether to ask this kernel which of them it has. Needs the right to make a namespace.

    Raises:
        PrivilegeError: see ``ask``.
    """
    return [
        Row(each.kind, each.method, each.module, each.description, feature(each.kind).present if ask else None)
        for each in KINDS
    ]
