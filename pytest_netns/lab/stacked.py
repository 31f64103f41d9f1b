"""Stacked: the devices that lie upon interfaces, or have some as members. One method a kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from pytest_netns.devices.builder import Addresses, Device, Maker, Master, Wanted
from pytest_netns.devices.masters import Bond, Vrf
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.linkinfo import Value
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_lookup import DeviceOwner

_M = TypeVar("_M", bound=Master)

BondMode = Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]
MacvlanMode = Literal["bridge", "private", "vepa", "passthru"]


class Stacked(DeviceOwner):
    """A node that can be given devices upon its interfaces."""

    # --------------------------------------------------------------- on a link

    def add_vlan(
        self,
        name: str,
        vid: int,
        *,
        link: str | Interface | Node | None = None,
        protocol: Literal["802.1Q", "802.1ad"] = "802.1Q",
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
        mac: str | None = None,
    ) -> Device:
        """``ip link add link LINK NAME type vlan``: what is sent there leaves the link with a tag (IEEE 802.1Q).

        Args:
            name: of the device: 1 to 15 bytes.
            vid: VLAN identifier, 1 to 4094.
            link: an interface of this host, or the node that it leads to; its first one if None. Another VLAN is
                possible: two tags (QinQ); and an interface of another host, whose container this one is.
            protocol: ``"802.1ad"`` for the outer one of two.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: that of the link if None.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        maker = Maker(self, "vlan", Wanted(name, address, mtu, up, mac))
        options: dict[str, Value] = {"protocol": protocol, "vid": vid}
        return maker.make(Device, options, link=self.lower_interface(link, maker.where), has_mac=False)

    def add_macvlan(
        self,
        name: str,
        *,
        link: str | Interface | Node | None = None,
        mode: MacvlanMode = "bridge",
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
        mac: str | None = None,
    ) -> Device:
        """``ip link add link LINK NAME type macvlan``: a further MAC address on a link.

        It does not reach the host's own address on that link.

        Args:
            name: of the device: 1 to 15 bytes.
            link: an interface of this host, or the node that it leads to; its first one if None. An interface of
                another host makes this one a container of it.
            mode: what its siblings on the link are to it: ``"bridge"`` reaches them, ``"private"`` never,
                ``"vepa"`` by way of a switch that sends back, ``"passthru"`` has no siblings.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return self._macvlan("macvlan", Wanted(name, address, mtu, up, mac), link, mode)

    def add_macvtap(
        self,
        name: str,
        *,
        link: str | Interface | Node | None = None,
        mode: MacvlanMode = "bridge",
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
        mac: str | None = None,
    ) -> Device:
        """``ip link add link LINK NAME type macvtap``: a macvlan whose frames go to a character device.

        That device is /dev/tapN, N being the index of the interface, where /dev is kept by the kernel; it is for
        hypervisors. What the test itself reads and writes is ``add_tap``.

        Args:
            name: of the device: 1 to 15 bytes.
            link: an interface of this host, or the node that it leads to; its first one if None. An interface of
                another host makes this one a container of it.
            mode: what its siblings on the link are to it: ``"bridge"`` reaches them, ``"private"`` never,
                ``"vepa"`` by way of a switch that sends back, ``"passthru"`` has no siblings.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return self._macvlan("macvtap", Wanted(name, address, mtu, up, mac), link, mode)

    def _macvlan(self, kind: str, wanted: Wanted, link: str | Interface | Node | None, mode: str) -> Device:
        maker = Maker(self, kind, wanted)
        return maker.make(Device, {"mode": mode}, link=self.lower_interface(link, maker.where))

    def add_ipvlan(
        self,
        name: str,
        *,
        link: str | Interface | Node | None = None,
        mode: Literal["l2", "l3", "l3s"] = "l2",
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
    ) -> Device:
        """``ip link add link LINK NAME type ipvlan``: further IP addresses on a link that share its MAC address.

        It does not reach the host's own address on that link.

        Args:
            name: of the device: 1 to 15 bytes.
            link: an interface of this host, or the node that it leads to; its first one if None. An interface of
                another host makes this one a container of it.
            mode: ``"l2"`` answers ARP, ``"l3"`` routes and hears no broadcasts, ``"l3s"`` likewise, seen by netfilter.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        maker = Maker(self, "ipvlan", Wanted(name, address, mtu, up))
        return maker.make(Device, {"mode": mode}, link=self.lower_interface(link, maker.where), has_mac=False)

    # ------------------------------------------------------------ with members

    def add_bond(
        self,
        name: str,
        *members: str | Interface | Node,
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
            miimon: seconds between two looks at the carrier of its members; 0 never looks.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        maker = Maker(self, "bond", Wanted(name, address, mtu, up, mac))
        options: dict[str, Value] = {"mode": mode, "miimon": _milliseconds(miimon, maker.where)}
        return self._with_members(maker, Bond, options, members)

    def add_vrf(
        self,
        name: str,
        *members: str | Interface | Node,
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
            table: number of the routing table.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return self._with_members(Maker(self, "vrf", Wanted(name, address, mtu, up)), Vrf, {"table": table}, members)

    def add_bridge(
        self,
        name: str,
        *members: str | Interface | Node,
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
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return self._with_members(Maker(self, "bridge", Wanted(name, address, mtu, up, mac)), Master, {}, members)

    def _with_members(
        self, maker: Maker, cls: type[_M], options: dict[str, Value], members: Sequence[str | Interface | Node]
    ) -> _M:
        interfaces = [self.own_interface(member, maker.where) for member in members]
        were_up = [each for each in interfaces if each.is_up]
        taken = [each for each in interfaces if each.state.master]
        if taken:
            raise TopologyError(f"{maker.where}: {taken[0]!r} has a master already")

        def finish(device: _M) -> None:
            for interface in interfaces:
                device.join(interface)

        try:
            device = maker.make(cls, options, finish=finish)
        except BaseException:
            for interface in were_up:  # a bond takes its members down, and a refused one lets go of them so
                interface.up()
            raise
        if were_up and maker.wanted.up:
            device.wait_up()
        return device


def _milliseconds(seconds: float, where: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
        raise TopologyError(f"{where}: miimon is {seconds!r}; it can be 0 to 3600 seconds")
    return round(seconds * 1000)
