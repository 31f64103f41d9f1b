"""Tunnels: the devices that carry packets in packets to a far end. One method a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_netns.devices.builder import Addresses, Device, Maker, Wanted
from pytest_netns.devices.tunnels import Vxlan, ends, key_options, version_of, vxlan_mtu
from pytest_netns.errors import UnsupportedError
from pytest_netns.kernel.netlink.linkinfo import Value
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.destination import Destination
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_lookup import DeviceOwner

if TYPE_CHECKING:
    from pytest_netns.devices.wireguard import WireGuard


class Tunnels(DeviceOwner):
    """A node that can be given tunnels."""

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
        port = wireguard.check_port("listen_port", listen_port, maker.where)
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


def _tied(link: Interface | None) -> dict[str, Value]:
    return {} if link is None else {"link": link.index}


def _ttl(ttl: int | None) -> dict[str, Value]:
    return {} if ttl is None else {"ttl": ttl}
