"""Bridge: a learning switch (IEEE 802.1D) in a namespace of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_netns.errors import TopologyError
from pytest_netns.interface import Interface
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.rtnetlink import AddressWithPrefix, Network
from pytest_netns.kernel.tables import ForwardingEntry, decode_forwarding
from pytest_netns.lab.addressing import AddressSpec, Segment
from pytest_netns.lab.host import Host
from pytest_netns.lab.naming import interface_name
from pytest_netns.lab.node import Node
from pytest_netns.lab.switching import Switching, SwitchSettings

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.link import Link


class Bridge(Switching):
    """A switch that nodes are attached to. Made by ``Lab.bridge``.

    Its ports are called like the nodes behind them. It has no address unless it is given one.
    """

    def __init__(
        self,
        lab: Lab,
        name: str,
        segment: Segment,
        sysctls: Mapping[str, str | int],
        settings: SwitchSettings | None = None,
    ) -> None:
        self.settings = settings or SwitchSettings()
        options = self.settings.options(f"bridge {name!r}")
        super().__init__(lab, name, sysctls)
        self.segment = segment
        self._port_names: set[str] = set()
        self._unplugged: dict[Interface, Link] = {}
        try:
            device = interface_name(name, ())
            self.device = Interface(self, device, self.slots.next_index())
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
        """A new host that is attached and addressed. Raises TopologyError."""
        return self.lab.host(name, self, address=address)

    # A class method of Namespace has this name too; both are the public names of what they do.
    def attach(  # type: ignore[override]
        self, host: Node, address: AddressSpec | None = None
    ) -> Interface:
        """Plug a node in and return its interface; returns when the port forwards.

        A node that was detached gets its old interface back, with its address.

        Args:
            host: a node of the same lab.
            address: which address of the subnet it gets, instead of the next one.

        Raises:
            TopologyError: another lab's node, or the address is outside the subnet or taken.
        """
        self.lab.check_node(host, "attach")
        for port, link in self._unplugged.items():
            if not link.removed and host in (link.a.node, link.b.node):
                return self._plug_in(host, port, link, address)
        return self.lab.attach(self, host, address).end(host)

    def _plug_in(self, host: Node, port: Interface, link: Link, address: AddressSpec | None) -> Interface:
        end = link.end(host)
        with ExitStack() as undo:
            if address is not None:
                new = self.segment.take_exactly(host.name, address)
                undo.callback(self.segment.release, [new])
                old = [a for a in end.addresses if a.version == new.version and not a.is_link_local]
                # The old one goes first: it is the primary address, and the kernel removes its secondaries with it.
                for each in old:
                    end.remove_address(each)
                    undo.callback(end.add_address, each)
                end.add_address(new)
                undo.callback(end.remove_address, new)
                self.segment.release(old)
            self.rtnl.batch(rtnetlink.port_up(port.index, port.name, self.device.index, self.device.name))
            port.wait_up(port=not self.settings.stp)
            end.wait_up()
            undo.pop_all()
        del self._unplugged[port]
        return end

    def detach(self, host: Node) -> None:
        """Unplug a node: its interface stays, with its address and without a carrier. ``attach`` plugs it in again.

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

        Raises:
            TopologyError: it is taken, or outside the bridge's subnet.
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
