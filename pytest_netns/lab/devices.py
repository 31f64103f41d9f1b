"""Devices: what a host can be given beside its links. One method a kind, all in the same style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from pytest_netns.devices.device import Addresses, Device, Maker, Master, Wanted
from pytest_netns.devices.stacked import Bond, Vrf
from pytest_netns.devices.tunnels import Vxlan, ends, key_options, version_of, vxlan_mtu
from pytest_netns.errors import TopologyError, UnsupportedError
from pytest_netns.interface import Interface
from pytest_netns.kernel.linkinfo import Value
from pytest_netns.lab.node import Node
from pytest_netns.probe.destination import Destination

if TYPE_CHECKING:
    from pytest_netns.devices.tuntap import Tap, Tun
    from pytest_netns.devices.wireguard import WireGuard

_M = TypeVar("_M", bound=Master)

BondMode = Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]
MacvlanMode = Literal["bridge", "private", "vepa", "passthru"]


class Devices(Node):
    """A node that can be given devices, by a method for each kind.

    What each returns is an ``Interface`` that has ``remove()`` too. It goes with its host at the latest.
    """

    _devices: tuple[Device, ...] = ()

    @property
    def devices(self) -> list[Device]:
        """The devices that it was given, in the order of their making."""
        return list(self._devices)

    def remember_device(self, device: Device) -> None:
        """Called when a device was made."""
        self._devices += (device,)
        self.lab.dns.refresh()

    def forget_device(self, device: Device) -> None:
        """Called by a device that was removed."""
        self._devices = tuple(each for each in self._devices if each is not device)
        self.slots.free_ethernet(device.name)
        self.lab.dns.refresh()

    def close(self) -> None:
        """Kill its processes, let go of its devices and of itself; allowed more than once."""
        for device in self._devices:
            device.release()
        super().close()

    def own_interface(self, which: str | Interface | Node | None, purpose: str) -> Interface:
        """An interface of this host.

        Args:
            which: a name, the interface itself, the node that it leads to, or None for the first one.
            purpose: what it is for, in words for a message.

        Raises:
            TopologyError: there is none.
        """
        if which is None:
            return self.primary
        if isinstance(which, str):
            return self.interface(which)
        if isinstance(which, Interface):
            if which.node is not self:
                raise TopologyError(f"{purpose}: {which!r} is not an interface of {self.name!r}")
            return which
        if isinstance(which, Node):
            for link in self.links:
                if which in (link.a.node, link.b.node) and which is not self:
                    return link.end(self)
            raise TopologyError(f"{purpose}: {self.name!r} has no link to {which.name!r}")
        raise TopologyError(f"{purpose}: {which!r} is no interface; expected a name, an interface or a node")

    def _lower(self, which: str | Interface | Node | None, purpose: str) -> Interface:
        """What a device lies upon: an interface of this host, or of another host of the lab."""
        if isinstance(which, Interface) and which.node is not self:
            self.lab.check_node(which.node, f"lay {purpose} upon")
            return which
        return self.own_interface(which, purpose)

    # ------------------------------------------------------------- on their own

    def add_dummy(
        self, name: str, *, address: Addresses = None, mtu: int | None = None, up: bool = True, mac: str | None = None
    ) -> Device:
        """``ip link add NAME type dummy``: swallows what it is sent. A place for further addresses.

        Args:
            name: of the device: 1 to 15 bytes.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return Maker(self, "dummy", Wanted(name, address, mtu, up, mac)).make(Device)

    def add_ifb(self, name: str, *, address: Addresses = None, mtu: int | None = None, up: bool = True) -> Device:
        """``ip link add NAME type ifb``: what tc(8) redirects to it can be queued before it arrives.

        Args:
            name: of the device: 1 to 15 bytes.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return Maker(self, "ifb", Wanted(name, address, mtu, up)).make(Device)

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
        return maker.make(Device, options, link=self._lower(link, maker.where), has_mac=False)

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
        return maker.make(Device, {"mode": mode}, link=self._lower(link, maker.where))

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
        return maker.make(Device, {"mode": mode}, link=self._lower(link, maker.where), has_mac=False)

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

    # ----------------------------------------------------------------- tunnels

    def add_vxlan(
        self,
        name: str,
        vni: int,
        *,
        remote: Destination | None = None,
        local: Destination | None = None,
        link: str | Interface | Node | None = None,
        port: int = 4789,
        ttl: int | None = None,
        learning: bool = True,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
        mac: str | None = None,
    ) -> Vxlan:
        """``ip link add NAME type vxlan``: Ethernet in UDP (RFC 7348).

        Args:
            name: of the device: 1 to 15 bytes.
            vni: network identifier, 0 to 16777215.
            remote: the far end: a node, an interface, an address, or a multicast group, which needs ``link``; None for
                what ``Vxlan.add_remote`` adds.
            local: which of its own addresses it sends from; by its routes if None.
            link: the interface that it is tied to; by its routes if None.
            port: UDP port of both ends.
            ttl: of the outer packets; the kernel's default if None.
            learning: whether it learns behind which far end a MAC address is.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: None for what fits into one packet on the way to ``remote``.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        maker = Maker(self, "vxlan", Wanted(name, address, mtu, up, mac))
        tied = None if link is None else self.own_interface(link, maker.where)
        options = {"vni": vni, **ends(maker, remote, local), **_tied(tied), **_ttl(ttl)}
        options |= {"port": port, "learning": int(learning)}
        return maker.make(Vxlan, options, mtu=vxlan_mtu(maker, options, tied))

    def add_geneve(
        self,
        name: str,
        vni: int,
        *,
        remote: Destination,
        port: int = 6081,
        ttl: int | None = None,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
        mac: str | None = None,
    ) -> Device:
        """``ip link add NAME type geneve``: Ethernet in UDP (RFC 8926).

        Args:
            name: of the device: 1 to 15 bytes.
            vni: network identifier, 0 to 16777215.
            remote: the far end: a node, an interface or an address.
            port: UDP port of both ends.
            ttl: of the outer packets; the kernel's default if None.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        maker = Maker(self, "geneve", Wanted(name, address, mtu, up, mac))
        return maker.make(Device, {"vni": vni, **ends(maker, remote, None), **_ttl(ttl), "port": port})

    def add_gre(
        self,
        name: str,
        *,
        remote: Destination,
        local: Destination | None = None,
        link: str | Interface | Node | None = None,
        key: int | None = None,
        ttl: int | None = None,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
    ) -> Device:
        """``ip link add NAME type gre``, or ``ip6gre`` if the far end is an IPv6 address: IP in GRE (RFC 2784).

        Args:
            name: of the device: 1 to 15 bytes.
            remote: the far end: a node, an interface or an address.
            local: which of its own addresses it sends from; by its routes if None.
            link: the interface that it is tied to; by its routes if None.
            key: tells tunnels between the same ends apart (RFC 2890), 0 to 4294967295.
            ttl: of the outer packets; that of the inner ones if None.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        wanted = Wanted(name, address, mtu, up)
        return self._tunnel(("gre", "ip6gre"), wanted, remote, local, link, ttl, key_options(key), False)

    def add_gretap(
        self,
        name: str,
        *,
        remote: Destination,
        local: Destination | None = None,
        link: str | Interface | Node | None = None,
        key: int | None = None,
        ttl: int | None = None,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
        mac: str | None = None,
    ) -> Device:
        """``ip link add NAME type gretap``, or ``ip6gretap`` if the far end is an IPv6 address.

        Ethernet in GRE (RFC 2784).

        Args:
            name: of the device: 1 to 15 bytes.
            remote: the far end: a node, an interface or an address.
            local: which of its own addresses it sends from; by its routes if None.
            link: the interface that it is tied to; by its routes if None.
            key: tells tunnels between the same ends apart (RFC 2890), 0 to 4294967295.
            ttl: of the outer packets; that of the inner ones if None.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        wanted = Wanted(name, address, mtu, up, mac)
        return self._tunnel(("gretap", "ip6gretap"), wanted, remote, local, link, ttl, key_options(key), True)

    def add_ipip(
        self,
        name: str,
        *,
        remote: Destination,
        local: Destination | None = None,
        link: str | Interface | Node | None = None,
        ttl: int | None = None,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
    ) -> Device:
        """``ip link add NAME type ipip``, or ``ip6tnl`` if the far end is an IPv6 address.

        IPv4 in IPv4 (RFC 2003), or IPv4 and IPv6 in IPv6 (RFC 2473).

        Args:
            name: of the device: 1 to 15 bytes.
            remote: the far end: a node, an interface or an address.
            local: which of its own addresses it sends from; by its routes if None.
            link: the interface that it is tied to; by its routes if None.
            ttl: of the outer packets; that of the inner ones if None.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return self._tunnel(("ipip", "ip6tnl"), Wanted(name, address, mtu, up), remote, local, link, ttl, {}, False)

    def add_sit(
        self,
        name: str,
        *,
        remote: Destination,
        local: Destination | None = None,
        link: str | Interface | Node | None = None,
        ttl: int | None = None,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
    ) -> Device:
        """``ip link add NAME type sit``: IPv6 in IPv4 (RFC 4213).

        Args:
            name: of the device: 1 to 15 bytes.
            remote: the far end: a node, an interface or an address.
            local: which of its own addresses it sends from; by its routes if None.
            link: the interface that it is tied to; by its routes if None.
            ttl: of the outer packets; that of the inner ones if None.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return self._tunnel(("sit", ""), Wanted(name, address, mtu, up), remote, local, link, ttl, {}, False)

    def _tunnel(
        self,
        kinds: tuple[str, str],
        wanted: Wanted,
        remote: Destination,
        local: Destination | None,
        link: str | Interface | Node | None,
        ttl: int | None,
        more: Mapping[str, Value],
        has_mac: bool,
    ) -> Device:
        maker = Maker(self, kinds[0], wanted)
        options = ends(maker, remote, local, None if kinds[1] else 4)
        if version_of(options) == 6:
            maker.kind = kinds[1]
            more = {**more, "_flags": 1}
        tied = None if link is None else self.own_interface(link, maker.where)
        return maker.make(Device, {**options, **_tied(tied), **_ttl(ttl), **more}, has_mac=has_mac)

    def add_wireguard(
        self,
        name: str,
        *,
        private_key: str | None = None,
        listen_port: int = 51820,
        userspace: bool | None = None,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
    ) -> WireGuard:
        """``ip link add NAME type wireguard``: an encrypted tunnel. It has no peers yet: see ``WireGuard.add_peer``.

        Args:
            name: of the device: 1 to 15 bytes.
            private_key: in base64, as ``wg genkey`` prints it; a random one if None.
            listen_port: UDP port.
            userspace: whether the program wireguard-go carries it, and not the kernel; None: if the kernel cannot, and
                it is installed, together with wg(8).
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        from pytest_netns.devices import wireguard, wireguard_go

        maker = Maker(self, "wireguard", Wanted(name, address, mtu, up))
        key = wireguard.checked_key(private_key, maker.where)
        port = wireguard.check_port(listen_port, maker.where)
        if userspace:
            return wireguard_go.make(maker, key, port)
        try:
            return wireguard.make(maker, key, port)
        except UnsupportedError as error:
            if userspace is False:
                raise
            if packages := wireguard_go.lacking():
                raise UnsupportedError(f"{error}; or do without it: apt-get install {' '.join(packages)}") from error
        return wireguard_go.make(maker, key, port)

    # ----------------------------------------------------------- into the test
    # Imported on use, as WireGuard is: most labs have neither.

    def add_tun(
        self, name: str, *, chatter: bool = False, address: Addresses = None, mtu: int | None = None, up: bool = True
    ) -> Tun:
        """``ip tuntap add NAME mode tun``: IP packets that the test itself reads (``recv``) and writes (``send``).

        Args:
            name: of the device: 1 to 15 bytes.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        from pytest_netns.devices.tuntap import open_tun

        return open_tun(Maker(self, "tun", Wanted(name, address, mtu, up)), chatter)

    def add_tap(
        self,
        name: str,
        *,
        chatter: bool = False,
        address: Addresses = None,
        mtu: int | None = None,
        up: bool = True,
        mac: str | None = None,
    ) -> Tap:
        """``ip tuntap add NAME mode tap``: Ethernet frames that the test itself reads (``recv``) and writes (``send``).

        Args:
            name: of the device: 1 to 15 bytes.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        from pytest_netns.devices.tuntap import open_tap

        return open_tap(Maker(self, "tap", Wanted(name, address, mtu, up, mac)), chatter)


def _tied(link: Interface | None) -> dict[str, Value]:
    return {} if link is None else {"link": link.index}


def _ttl(ttl: int | None) -> dict[str, Value]:
    return {} if ttl is None else {"ttl": ttl}


def _milliseconds(seconds: float, where: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
        raise TopologyError(f"{where}: miimon is {seconds!r}; it can be 0 to 3600 seconds")
    return round(seconds * 1000)
