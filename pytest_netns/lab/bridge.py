"""Bridge: a learning switch (IEEE 802.1D) in a namespace of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_netns.errors import TopologyError
from pytest_netns.interface import Interface
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.rtnetlink import AddressWithPrefix, Network, RouteOptions
from pytest_netns.kernel.tables import ForwardingEntry, decode_forwarding
from pytest_netns.lab.addressing import AddressSpec, Segment
from pytest_netns.lab.host import Host
from pytest_netns.lab.naming import interface_name
from pytest_netns.lab.node import Node
from pytest_netns.lab.switching import Switching, SwitchSettings

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.link import Link


#: For ``Bridge.attach`` instead of an address.
KEEP, RENEW = "keep", "renew"


class Bridge(Switching):
    """A switch that nodes are attached to. Made by ``Lab.bridge``.

    Its ports are called like the nodes behind them. It has no address unless it is given one.

    Attributes:
        device: the bridge device itself.
        segment: the subnets that the addresses of attached nodes come from.
    """

    def __init__(
        self,
        lab: Lab,
        name: str,
        segment: Segment,
        sysctls: Mapping[str, str | int],
        settings: SwitchSettings | None = None,
    ) -> None:
        self.settings: SwitchSettings = settings or SwitchSettings()
        options = self.settings.options(f"bridge {name!r}")
        super().__init__(lab, name, sysctls)
        self.segment = segment
        self._port_names: set[str] = set()
        self._unplugged: dict[Interface, Link] = {}
        try:
            device = interface_name(name, ())
            self.device: Interface = Interface(self, device, self.slots.next_index())
            self._port_names.add(device)
            self.make_device(lab.mac_for(name, device), options)
        except BaseException:
            self.close()
            raise

    @property
    def subnet(self) -> Network:
        """Its subnet, the IPv4 one if it has both. Raises TopologyError if it was made without."""
        if not self.segment.subnets:
            raise TopologyError(f"bridge {self.name!r} has no subnet: it was made with subnet=False")
        return self.segment.networks[0]

    @property
    def subnets(self) -> list[Network]:
        """All its subnets: at most one of each family, IPv4 first."""
        return self.segment.networks

    @property
    def primary(self) -> Interface:
        """The bridge device itself."""
        return self.device

    @property
    def ports(self) -> dict[str, Interface]:
        """The plugged-in ports by name."""
        found = {}
        for name, interface in self.interfaces.items():
            if interface.state.master == self.device.index:
                found[name] = interface
        return found

    def new_port_name(self, behind: str) -> str:
        """A free name for the port behind which a node is."""
        name = interface_name(behind, self._port_names)
        self._port_names.add(name)
        return name

    def free_port_name(self, name: str) -> None:
        """Give a port's name back."""
        self._port_names.discard(name)

    def host(self, name: str, address: AddressSpec | None = None) -> Host:
        """A new host that is attached to this bridge by ``eth0`` and addressed.

        Args:
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.
            address: which address of the subnet it gets, instead of the next free one.

        Raises:
            TopologyError: a bad name, or the address is outside the subnet or taken. There is no such host then.
        """
        return self.lab.host(name, self, address=address)

    # A class method of Namespace has this name too; both are the public names of what they do.
    def attach(  # type: ignore[override]
        self, host: Node, address: AddressSpec | None = None
    ) -> Interface:
        """Plug a node in and return its interface; returns when the port forwards.

        A node that was detached here gets its old interface back, with its address. One that was detached from another
        bridge roams: the same interface is plugged in here, as when a cable is put into another switch. It keeps the
        addresses that are of a subnet of this bridge, and gets new ones for the others. Routes over gateways of the
        subnets that it has left are gone; new ones are up to you, or to ``Lab.autoroute``.

        Args:
            host: a node of the same lab.
            address: which address of the subnet it gets, instead of the next one; ``"keep"``: the one that it has,
                whether it is of this subnet or not; ``"renew"``: the next one in any case.

        Raises:
            TopologyError: another lab's node, or the address is outside the subnet or taken.
        """
        self.lab.check_node(host, "attach")
        bridges = [self, *(node for node in self.lab if isinstance(node, Bridge) and node is not self)]
        for bridge in bridges:
            for port, link in list(bridge._unplugged.items()):
                if not link.removed and not bridge.closed and host in (link.a.node, link.b.node):
                    here = port if bridge is self else bridge.hand_over(port, link, self)
                    return self._plug_in(host, here, link, bridge, address)
        return self.lab.attach(self, host, None if address in (KEEP, RENEW) else address).end(host)

    def postpone(self, end: Interface) -> bool:
        """An ``end`` that was detached is set up when it is attached again."""
        return end in self._unplugged or super().postpone(end)

    def hand_over(self, port: Interface, link: Link, to: Bridge) -> Interface:
        """Move an unplugged ``port``, an end of ``link``, into the namespace of the bridge ``to``."""
        moved = Interface(to, to.new_port_name(link.other(port).node.name), to.slots.next_index())
        impaired = self.impairments.setting(port)
        self.impairments.forget(port)
        try:
            self.rtnl.batch([rtnetlink.link_move(port.index, port.name, to.fd, moved.name, moved.index)])
        except BaseException:
            to.free_port_name(moved.name)
            if impaired is not None:
                self.impairments.apply(port, *impaired)
            raise
        del self._unplugged[port]
        self.free_port_name(port.name)
        link.replace_end(port, moved)
        to._unplugged[moved] = link
        if impaired is not None:
            to.impairments.apply(moved, *impaired)
        return moved

    def _plug_in(
        self, host: Node, port: Interface, link: Link, before: Bridge, address: AddressSpec | None
    ) -> Interface:
        end = link.end(host)
        left: list[Network] = []
        with ExitStack() as undo:
            returns = before is self and address is None
            for new in [] if returns else self._addresses_for(host, end, address):
                undo.callback(self.segment.release, [new])
                old = [a for a in end.addresses if a.version == new.version and not a.is_link_local]
                # The old one goes first: it is the primary address, and the kernel removes its secondaries with it.
                for each in old:
                    end.remove_address(each)
                    undo.callback(end.add_address, each)
                end.add_address(new)
                undo.callback(end.remove_address, new)
                before.segment.release(old)
                left += [a.network for a in old if a.network != new.network]
                link.belongs_to(self.segment)
            self.rtnl.batch(rtnetlink.port_up(port.index, port.name, self.device.index, self.device.name))
            port.wait_up(port=not self.settings.stp)
            end.wait_up()
            undo.pop_all()
        del self._unplugged[port]
        _forget_gateways(host, end, left)
        return end

    def _addresses_for(self, host: Node, end: Interface, address: AddressSpec | None) -> list[AddressWithPrefix]:
        """The new addresses of a node that is plugged in; none for a family in which it keeps what it has."""
        if address == KEEP:
            return []
        if address is not None and address != RENEW:
            return [self.segment.take_exactly(host.name, address)]
        kept = {a.version for a in end.addresses if any(a.network == network for network in self.subnets)}
        if address is None and all(network.version in kept for network in self.subnets):
            return []
        taken = self.segment.take(host.name)
        unneeded = [a for a in taken if address is None and a.version in kept]
        self.segment.release(unneeded)
        return [a for a in taken if a not in unneeded]

    def detach(self, host: Node) -> None:
        """Unplug a node: its interface stays, with its address and without a carrier. ``attach`` plugs it in again.

        Args:
            host: a node that is attached here.

        Raises:
            TopologyError: it is not attached here.
        """
        self.lab.check_node(host, "detach")
        ports = self.ports.values()
        for link in reversed(host.links):
            if self in (link.a.node, link.b.node) and (port := link.end(self)) in ports:
                self.rtnl.batch([rtnetlink.port_release(port.index, port.name)])
                self._unplugged[port] = link
                return
        attached = ", ".join(p.name for p in ports) or "none"
        raise TopologyError(f"{host.name!r} is not attached to bridge {self.name!r}; attached: {attached}")

    def add_address(self, address: str | AddressWithPrefix, interface: str | Interface | None = None) -> None:
        """Give the bridge device an address, so that the bridge itself can be reached.

        Args:
            address: with its prefix (``"10.0.0.254/24"``), or without if it is of the bridge's subnet.
            interface: another of its devices, by object or name, instead of the bridge device.

        Raises:
            TopologyError: it is taken, or outside the bridge's subnet.
            KernelError: the kernel refused it, e.g. because it is there already.
        """
        if interface is not None or not self.segment.subnets:
            super().add_address(address, interface)
            return
        taken = self.segment.take_exactly(self.name, address)
        try:
            self.device.add_address(taken)
        except BaseException:
            self.segment.release([taken])
            raise
        if self.ports and not self.settings.stp:
            self.device.wait_up()

    def fdb(self) -> list[ForwardingEntry]:
        """Its forwarding database: behind which port it saw which MAC address (``bridge fdb show``)."""
        names = self._names()
        bodies = self.rtnl.dump(rtnetlink.neighbour_dump(rtnetlink.AF_BRIDGE))
        return [entry for body in bodies if (entry := decode_forwarding(body, names)) is not None]


def _forget_gateways(host: Node, end: Interface, left: list[Network]) -> None:
    """Remove routes over gateways that are not on the link any more; the kernel keeps them when an address goes."""
    for route in host.routes():
        if route.interface == end.name and any(route.gateway in network for network in left if route.gateway):
            options = RouteOptions(route.kind, route.metric, 0)
            host.rtnl.batch([rtnetlink.route_delete(route.destination, route.gateway, end.index, options)])
