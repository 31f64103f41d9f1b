"""Devices with members: bonds, VRFs and bridges."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal, TypeVar

from pytest_netns.checks import is_number
from pytest_netns.devices.builder import Addresses, Device, DeviceBuilder, DeviceSpec
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink import linkinfo, rtnetlink
from pytest_netns.kernel.netlink.linkinfo import BOND_ACTIVE, BOND_MODES, VRF_TABLE, Value
from pytest_netns.kernel.netlink.tables import decode_link
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_lookup import own_interface
from pytest_netns.topology.node import BaseNode

_M = TypeVar("_M", bound="Master")

BondMode = Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]


class Master(Device):
    """A device that other interfaces of its host are members of.

    Example:
        >>> red.add_bridge("br0").add_member(red.add_dummy("dummy0"))
    """

    @property
    def members(self) -> list[Interface]:
        """Its members, in the order of their creation."""
        bodies = self.node.rtnl.dump(rtnetlink.link_dump())
        return [
            Interface(self.node, state.name, state.index)
            for state in map(decode_link, bodies)
            if state.master == self.index
        ]

    def add_member(self, member: str | Interface) -> None:
        """``ip link set MEMBER master ...``.

        Args:
            member: an interface of this host, by object or name.

        Raises:
            TopologyError: it is no interface of this host.
            KernelError: the kernel refused, e.g. because it has another master.

        Example:
            >>> bridge = red.add_bridge("br0")
            >>> bridge.add_member(red.add_dummy("dummy0"))
        """
        interface = own_interface(self.node, member, f"{self._kind} {self.name!r}")
        self.join(interface)

    def join(self, interface: Interface) -> None:
        """Make an interface of this host a member.

        Example:
            >>> bridge = red.add_bridge("br0")
            >>> bridge.join(red.add_dummy("dummy0"))
        """
        self.node.rtnl.batch([linkinfo.enslave(interface.index, interface.name, self.index, self.name)])

    def remove_member(self, member: str | Interface) -> None:
        """``ip link set MEMBER nomaster``.

        Args:
            member: one of its members, by object or name.

        Raises:
            TopologyError: it is no member.

        Example:
            >>> bridge = red.add_bridge("br0", red.add_dummy("dummy0"))
            >>> bridge.remove_member("dummy0")
        """
        interface = own_interface(self.node, member, f"{self._kind} {self.name!r}")
        members = self.members
        if interface not in members:
            shown = ", ".join(each.name for each in members) or "none"
            raise TopologyError(f"{interface!r} is not a member of {self!r}; members: {shown}")
        self.node.rtnl.batch([linkinfo.enslave(interface.index, interface.name, 0, "")])


def _number(master: Master, attribute: int) -> int:
    raw = linkinfo.info_data(master.node.rtnl.get(rtnetlink.link_get(master.index, master.name))).get(attribute, b"")
    return int.from_bytes(raw, "little" if struct.pack("=H", 1)[0] else "big")


class Bond(Master):
    """Several links as one (https://docs.kernel.org/networking/bonding.html). Created by ``Host.add_bond``.

    Example:
        >>> links = [lab.connect(green, blue, subnet=False) for _ in range(2)]
        >>> bond = green.add_bond("bond0", *(each.end(green) for each in links))
        >>> bond.active
    """

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
        interface = own_interface(self.node, member, f"bond {self.name!r}")
        if interface not in self.members:
            raise TopologyError(f"{interface!r} is not a member of {self!r}")
        self.node.rtnl.batch([linkinfo.change(self.index, self.name, "bond", {"active": interface.index})])

    def join(self, interface: Interface) -> None:
        """Make an interface a member. It is set down for that, as the kernel demands, and the bond sets it up.

        Example:
            >>> bond = red.add_bond("bond0")
            >>> bond.join(red.add_dummy("dummy0"))
        """
        self.node.rtnl.batch([rtnetlink.link_down(interface.index, interface.name)])
        super().join(interface)


class Vrf(Master):
    """A routing table of their own for some interfaces (https://docs.kernel.org/networking/vrf.html).

    Created by ``Host.add_vrf``. Packets that arrive at a member are routed by its table. The host's own traffic uses
    the main table, unless its socket is bound to the VRF (``SO_BINDTODEVICE``, ``ip vrf exec``).

    Example:
        >>> vrf = router.add_vrf("blue", "eth1", table=10)
        >>> router.routes(table=vrf.table)
    """

    @property
    def table(self) -> int:
        """Number of its routing table; ``host.routes(table=...)`` lists it."""
        return _number(self, VRF_TABLE)


def add_bond(
    host: BaseNode,
    name: str,
    *members: str | Interface | BaseNode,
    mode: BondMode = "active-backup",
    miimon: float = 0.1,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Bond:
    """``ip link add NAME type bond``: several links as one. Returns when it carries frames, if a member does.

    Args:
        name: of the device: 1 to 15 bytes.
        members: each an interface of this host, or the node that it leads to; best without addresses
            (``lab.connect(..., subnet=False)``).
        mode: see https://docs.kernel.org/networking/bonding.html
        miimon: seconds between checks of its members' carrier, 0 to 3600; 0: no checks.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> lab.connect(green, blue, subnet=False)
        >>> lab.connect(green, blue, subnet=False)
        >>> bond = green.add_bond("bond0", "eth1", "eth2", mode="active-backup")
    """
    builder = DeviceBuilder(host, "bond", DeviceSpec(name, address, mtu, up, mac))
    options: dict[str, Value] = {"mode": mode, "miimon": _milliseconds(miimon, builder.where)}
    return _with_members(builder, Bond, options, members)


def add_vrf(
    host: BaseNode,
    name: str,
    *members: str | Interface | BaseNode,
    table: int,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
) -> Vrf:
    """``ip link add NAME type vrf``: a routing table of their own for some interfaces.

    Args:
        name: of the device: 1 to 15 bytes.
        members: each an interface of this host, or the node that it leads to. Their addresses stay; the routes
            that were set through them go.
        table: number of the routing table, 1 to 4294967295.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> router.add_vrf("tenant", "eth1", table=10)
    """
    return _with_members(DeviceBuilder(host, "vrf", DeviceSpec(name, address, mtu, up)), Vrf, {"table": table}, members)


def add_bridge(
    host: BaseNode,
    name: str,
    *members: str | Interface | BaseNode,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Master:
    """``ip link add NAME type bridge``: a bridge inside this host, e.g. for its containers.

    A switch between hosts is ``Lab.bridge``.

    Args:
        name: of the device: 1 to 15 bytes.
        members: its ports, each an interface of this host, or the node that one leads to.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_bridge("docker0", address="172.17.0.1/16")
    """
    return _with_members(DeviceBuilder(host, "bridge", DeviceSpec(name, address, mtu, up, mac)), Master, {}, members)


def _with_members(
    builder: DeviceBuilder, cls: type[_M], options: dict[str, Value], members: Sequence[str | Interface | BaseNode]
) -> _M:
    if None in members:
        raise TopologyError(f"{builder.where}: None is no member; expected an interface or a node")
    interfaces = [own_interface(builder.node, member, builder.where) for member in members]
    were_up = [each for each in interfaces if each.is_up]
    taken = [each for each in interfaces if each.state.master]
    if taken:
        raise TopologyError(f"{builder.where}: {taken[0]!r} has a master already")

    def finish(device: _M) -> None:
        for interface in interfaces:
            device.join(interface)

    try:
        device = builder.build(cls, options, finish=finish)
    except BaseException:
        for interface in were_up:  # a bond takes its members down, and a refused one lets go of them so
            interface.up()
        raise
    if were_up and builder.spec.up:
        device.wait_up()
    return device


def _milliseconds(seconds: float, where: str) -> int:
    if not is_number(seconds, 0, 3600):
        raise TopologyError(f"{where}: miimon is {seconds!r}; it can be 0 to 3600 seconds")
    return round(seconds * 1000)
