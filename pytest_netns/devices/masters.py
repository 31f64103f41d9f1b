"""Devices with members that have more to say than their members: bonds and VRFs."""

from __future__ import annotations

import struct

from pytest_netns.devices.builder import Master
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink import linkinfo, rtnetlink
from pytest_netns.kernel.netlink.linkinfo import BOND_ACTIVE, BOND_MODES, VRF_TABLE
from pytest_netns.stack.interface import Interface


def _number(master: Master, attribute: int) -> int:
    raw = linkinfo.info_data(master.node.rtnl.get(rtnetlink.link_get(master.index, master.name))).get(attribute, b"")
    return int.from_bytes(raw, "little" if struct.pack("=H", 1)[0] else "big")


class Bond(Master):
    """Several links as one (https://docs.kernel.org/networking/bonding.html). Made by ``Host.add_bond``."""

    @property
    def mode(self) -> str:
        """How it uses its members, e.g. ``active-backup``."""
        number = _number(self, 1)
        return next(word for word, value in BOND_MODES.items() if value == number)

    @property
    def active(self) -> Interface | None:
        """The member that is in use, in a mode that has one: ``active-backup``, ``balance-tlb``, ``balance-alb``."""
        index = _number(self, BOND_ACTIVE)
        return next((member for member in self.members if member.index == index), None)

    @active.setter
    def active(self, member: str | Interface) -> None:
        interface = self.node.own_interface(member, f"bond {self.name!r}")
        if interface not in self.members:
            raise TopologyError(f"{interface!r} is no member of {self!r}")
        self.node.rtnl.batch([linkinfo.change(self.index, self.name, "bond", {"active": interface.index})])

    def join(self, interface: Interface) -> None:
        """Make an interface a member. It is set down for that, as the kernel demands, and the bond sets it up."""
        self.node.rtnl.batch([rtnetlink.link_down(interface.index, interface.name)])
        super().join(interface)


class Vrf(Master):
    """A routing table of their own for some interfaces (https://docs.kernel.org/networking/vrf.html).

    Made by ``Host.add_vrf``. Packets that arrive at a member are routed by its table. What the host itself sends goes
    by the main table, unless its socket is bound to the VRF (``SO_BINDTODEVICE``, ``ip vrf exec``).
    """

    @property
    def table(self) -> int:
        """Number of its routing table; ``host.routes(table=...)`` lists it."""
        return _number(self, VRF_TABLE)
