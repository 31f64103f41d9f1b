"""Bridge: a learning switch (IEEE 802.1D) in a namespace of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol, cast

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.addresses import Network as Subnet
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.route_options import RouteOptions
from pytest_netns.kernel.netlink.tables import ForwardingEntry, decode_forwarding
from pytest_netns.lab.host import Host
from pytest_netns.lab.nodes import Node
from pytest_netns.lab.switch import Switch, SwitchSettings
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.lazy_verbs import verb_modules
from pytest_netns.stack.views import link_names
from pytest_netns.topology.addressing import HostAddress, Segment
from pytest_netns.topology.fault import Fault
from pytest_netns.topology.naming import interface_name

if TYPE_CHECKING:
    from pytest_netns.lab import port_settings, spanning_tree, vlan
    from pytest_netns.lab.link import Link
    from pytest_netns.topology.network import Network
else:
    port_settings, spanning_tree, vlan = verb_modules("pytest_netns.lab", "port_settings", "spanning_tree", "vlan")


#: For ``Bridge.attach`` instead of an address.
KEEP, RENEW = "keep", "renew"


@dataclass(frozen=True, slots=True)
class _Unplugged:
    """A port that was detached: its link, the bridge that it was detached from, and the fault."""

    link: Link
    origin: Bridge
    fault: Fault


class _HostMaker(Protocol):
    """What a bridge asks of its lab, which stands above it."""

    def host(
        self,
        name: str,
        *networks: Bridge,
        address: HostAddress,
        offload: bool | None,
        mac: str | None,
        index: int | None,
    ) -> Host: ...


class Bridge(Switch):
    """A switch that nodes are attached to. Created by ``Lab.bridge``.

    Its ports are called like the nodes behind them, and its bridge device like itself, as far as that can be the name
    of an interface: ``bridge.device``. It has no address unless it is given one.

    Attributes:
        device: the bridge device itself.
        segment: the subnets that the addresses of attached nodes come from.

    Example:
        >>> lan = lab.bridge("switch", "10.9.0.0/24")
        >>> yellow, pink = lan.host("yellow"), lan.host("pink")
        >>> assert yellow.ping(pink)
    """

    # VLANs (IEEE 802.1Q) and the spanning tree (IEEE 802.1D), each told in its module.
    set_vlan: Final = vlan.set_vlan
    unset_vlan: Final = vlan.unset_vlan
    access: Final = vlan.access
    trunk: Final = vlan.trunk
    vlans: Final = vlan.vlans
    wait_converged: Final = spanning_tree.wait_converged

    # What it is told about ports, MAC addresses and multicast groups.
    set_port: Final = port_settings.set_port
    port_flags: Final = port_settings.port_flags
    add_fdb: Final = port_settings.add_fdb
    remove_fdb: Final = port_settings.remove_fdb
    add_mdb: Final = port_settings.add_mdb
    remove_mdb: Final = port_settings.remove_mdb
    mdb: Final = port_settings.mdb
    set_multicast: Final = port_settings.set_multicast

    def __init__(
        self,
        lab: Network,
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
        self._unplugged: dict[Interface, _Unplugged] = {}
        try:
            device = interface_name(name, ())
            self.device: Interface = Interface(self, device, self.allocator.next_index())
            self._port_names.add(device)
            self._make_device(lab._mac_for(name, device), options)
        except BaseException:
            self.close()
            raise

    @property
    def subnet(self) -> Subnet:
        """Its subnet, the IPv4 one if it has both. Raises TopologyError if it was made without."""
        if not self.segment.subnets:
            raise TopologyError(f"bridge {self.name!r} has no subnet: it was made with subnet=False")
        return self.segment.networks[0]

    @property
    def subnets(self) -> list[Subnet]:
        """All its subnets: at most one of each family, IPv4 first."""
        return self.segment.networks

    @property
    def _primary(self) -> Interface:
        """The bridge device itself."""
        return self.device

    @property
    def port_states(self) -> dict[str, str]:
        """By port: ``forwarding``, ``blocking``, ``listening``, ``learning`` or ``disabled`` (IEEE 802.1D 8.4)."""
        from pytest_netns.lab.spanning_tree import port_states_of

        return port_states_of(self)

    @property
    def root(self) -> Bridge | None:
        """The root of the spanning tree as this bridge sees it; None if that is no bridge of the lab."""
        from pytest_netns.lab.spanning_tree import root_of

        return root_of(self)

    def _new_port_name(self, behind: str) -> str:
        """A free name for the port behind which a node is."""
        name = interface_name(behind, self._port_names)
        self._port_names.add(name)
        return name

    def _free_port_name(self, name: str) -> None:
        """Give a port's name back."""
        self._port_names.discard(name)

    def host(
        self,
        name: str,
        address: HostAddress = None,
        *,
        offload: bool | None = None,
        mac: str | None = None,
        index: int | None = None,
    ) -> Host:
        """A new host that is attached to this bridge by ``eth0`` and addressed.

        Args:
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.
            address: which address of the subnet it gets, instead of the next free one; False: none, as a client of DHCP
                has at first.
            offload: False: frames on its link have finished checksums and are no longer than the mtu, as a program
                needs it that forwards them by itself; None: the lab's default.
            mac: MAC address of ``eth0``; None: one that no other interface of the lab has.
            index: number of ``eth0``, 2 to 2147483647; None: a free one.

        Raises:
            TopologyError: an invalid name, or the address is outside the subnet or taken. No host is created then.

        Example:
            >>> lan.host("yellow", address="10.0.0.77")
        """
        return cast("_HostMaker", self.lab).host(name, self, address=address, offload=offload, mac=mac, index=index)

    # A class method of Namespace has this name too; both are the public names of what they do.
    def attach(  # type: ignore[override]
        self, host: Node, address: HostAddress = None, *, announce: bool = True
    ) -> Interface:
        """Attach a node and return its interface, once the port forwards.

        A node that was detached here gets its old interface back, with its address. One that was detached from another
        bridge roams: the same interface is attached here, as when a cable is moved to another switch. It keeps the
        addresses that are of a subnet of this bridge, and gets new ones for the others. Routes over gateways of the
        subnets that it has left are removed; add new ones, or call ``Lab.autoroute``. It does not wait if no frame
        can pass: the link is down, or the host has crashed and gets its addresses when it is restarted.

        A node that is attached again announces all its addresses there by gratuitous ARP (RFC 5227 section 3) and
        unsolicited neighbour advertisements (RFC 4861 section 7.2.6), as a system does when its cable is put in:
        switches and neighbours that knew it elsewhere learn where it is. Without that they send there until their
        entries age.

        Args:
            host: a node of the same lab. Another bridge gets no address.
            address: which address of the subnet it gets, instead of the next one; ``"keep"``: the one that it has,
                whether it is of this subnet or not; ``"renew"``: the next one in any case; False: none, and what it has
                it keeps.
            announce: whether a node that is attached again announces its addresses.

        Raises:
            TopologyError: this bridge itself or another lab's node, or the address is outside the subnet or taken.

        Example:
            >>> lan.attach(blue)
        """
        self._check_other(host, "attach", "to")
        if isinstance(host, Bridge) and address is not False and address not in (None, KEEP, RENEW):
            raise TopologyError(f"bridge {host.name!r}: a trunk takes no address, and {address} was given")
        for bridge in self._bridges():
            for port, unplugged in list(bridge._unplugged.items()):
                if unplugged.link._is_gone:
                    continue
                there = unplugged.link.other(port).node
                if there is host:
                    return self._take_in(bridge, port, address, announce)
                if there is self and bridge is host:  # a trunk that was unplugged at its other end
                    bridge._plug_in(port, None, announce)
                    return port
        return self.lab.attach(self, host, None if address in (KEEP, RENEW) else address).end(host)

    def _bridges(self) -> list[Bridge]:
        """All of its lab, itself first."""
        others = [node for node in self.lab if isinstance(node, Bridge) and node is not self and not node.closed]
        return [self, *others]

    def _check_other(self, node: Node, verb: str, preposition: str) -> None:
        self.lab._check_node(node, verb)
        if node is self:
            raise TopologyError(f"cannot {verb} {node.name!r} {preposition} itself")

    def _defer_up(self, end: Interface) -> bool:
        """An ``end`` that was detached is set up when it is attached again."""
        return end in self._unplugged or super()._defer_up(end)

    def _is_plugged(self, port: Interface) -> bool:
        """Whether a ``port`` was not detached."""
        return port not in self._unplugged

    def _forget_end(self, end: Interface) -> None:
        """Called when the link was removed of which ``end`` was here."""
        super()._forget_end(end)
        if end in self._unplugged:
            self._unplugged.pop(end).fault._forget()

    def _hand_over(self, port: Interface, to: Bridge) -> Interface:
        """Move an unplugged ``port`` into the namespace of the bridge ``to``."""
        link = self._unplugged[port].link
        moved = Interface(to, to._new_port_name(link.other(port).node.name), to.allocator.next_index())
        impaired = self.impairments.setting(port)
        self.impairments.forget(port)
        try:
            self.rtnl.batch([rtnetlink.link_move(port.index, port.name, to.fd, moved.name, moved.index)])
        except BaseException:
            to._free_port_name(moved.name)
            if impaired is not None:
                self.impairments.apply(port, *impaired)
            raise
        to._unplugged[moved] = self._unplugged.pop(port)
        self._free_port_name(port.name)
        link._replace_end(port, moved)
        if impaired is not None:
            to.impairments.apply(moved, *impaired)
        return moved

    def _take_in(self, bridge: Bridge, port: Interface, address: HostAddress, announce: bool = True) -> Interface:
        """Plug an unplugged ``port`` of ``bridge`` in here; returns the far end."""
        here = port if bridge is self else bridge._hand_over(port, self)
        return self._plug_in(here, address, announce)

    def _plug_in(self, port: Interface, address: HostAddress, announce: bool) -> Interface:
        with self.lab.faults.mending():
            end = self._plugged_in(port, address)
            if announce:
                _announce(end)
            return end

    def _plugged_in(self, port: Interface, address: HostAddress) -> Interface:
        unplugged = self._unplugged[port]
        link = unplugged.link
        end = link.other(port)
        host = end.node
        assert isinstance(host, Node)
        old: list[AddressWithPrefix] = []
        with ExitStack() as undo:
            undo.callback(self.rtnl.batch, [rtnetlink.port_release(port.index, port.name)])
            returns = unplugged.origin is self and address is None
            renewed = [] if returns else self._addresses_for(host, end, address)
            undo.callback(self.segment.release, renewed)
            for new in renewed:
                # The old one goes first: it is the primary address, and the kernel removes its secondaries with it.
                for each in host.saved_config.addresses_of(end):
                    if each.version == new.version:
                        host.saved_config.remove_address(end, each)
                        undo.callback(host.saved_config.add_address, end, each)
                        old.append(each)
                host.saved_config.add_address(end, new)
                undo.callback(host.saved_config.remove_address, end, new)
            with self.saved_config.saving():  # a bridge has the least mtu of its ports
                self.rtnl.batch(rtnetlink.port_up(port.index, port.name, self.device.index, self.device.name, port.mtu))
            link._settle()
            undo.pop_all()
        del self._unplugged[port]
        unplugged.fault._forget()
        self.lab._interface_changed(host, end.index)
        if renewed:
            for bridge in self._bridges():
                bridge.segment.release(set(old) - set(renewed))
            link._belongs_to(self.segment)
            _forget_gateways(host, end, {each.network for each in old} - {each.network for each in renewed})
        return end

    def _addresses_for(self, host: Node, end: Interface, address: HostAddress) -> list[AddressWithPrefix]:
        """The new addresses of a node that is plugged in; none for a family in which it keeps what it has."""
        if address is False or address == KEEP or isinstance(host, Bridge):
            return []
        if address is None or address == RENEW:
            wanted = None
        else:
            try:
                wanted = ip_address(str(address).partition("/")[0])
            except ValueError:
                known = ", ".join(map(str, self.subnets)) or "a subnet, but it has none"
                raise TopologyError(
                    f"bridge {self.name!r}: cannot attach {host.name!r} with {address!r}: expected an address of "
                    f"{known}; {KEEP!r} or {RENEW!r}"
                ) from None
        has = [
            each for each in host.saved_config.addresses_of(end) if each.network in self.subnets and address != RENEW
        ]
        kept = {each.version for each in has if wanted in (None, each.ip) or each.version != wanted.version}
        return self.segment.take(host.name, None if wanted is None else address, kept)

    def detach(self, host: Node) -> Fault:
        """Detach a node: its interface keeps its addresses and loses its carrier. ``attach`` attaches it again.

        Args:
            host: a node that is attached here.

        Returns:
            The fault: undone, or at the end of its block, the node is attached here again, with the address that it
            has. It is over when the node is attached, here or elsewhere.

        Raises:
            TopologyError: it is not attached here.

        Example:
            >>> with lan.detach(green):
            ...     assert not router.ping(green, timeout=0.1)
        """
        self._check_other(host, "detach", "from")
        ports = self.ports.values()
        for link in reversed(host.links):
            if self in link.nodes and (port := link.end(self)) in ports:
                self.rtnl.batch([rtnetlink.port_release(port.index, port.name)])
                self.saved_config.restore()
                what = f"{host.name!r} is detached from bridge {self.name!r}"
                fault = Fault(self.lab.faults, what, partial(self._plug_back, link, host), [])
                self._unplugged[port] = _Unplugged(link, self, fault)
                self.lab._disconnected(*link.interfaces)
                return fault
        attached = ", ".join(p.name for p in ports) or "none"
        raise TopologyError(f"{host.name!r} is not attached to bridge {self.name!r}; attached: {attached}")

    def _plug_back(self, link: Link, host: Node) -> None:
        if link._is_gone:
            return
        port = link.other(link.end(host))
        if isinstance(port.node, Bridge) and port in port.node._unplugged:
            self._take_in(port.node, port, KEEP)

    def add_address(self, address: str | AddressWithPrefix, interface: str | Interface | None = None) -> None:
        """Give the bridge device an address, so that the bridge itself can be reached.

        Args:
            address: with its prefix (``"10.0.0.254/24"``), or without if it is of the bridge's subnet.
            interface: another of its devices, by object or name, instead of the bridge device.

        Raises:
            TopologyError: it is taken, or outside the bridge's subnet.
            KernelError: the kernel refused it, e.g. because it exists already.

        Example:
            >>> lan.add_address("10.0.0.254")
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
        """Its forwarding database: behind which port it saw which MAC address (``bridge fdb show``).

        Example:
            >>> [(entry.mac, entry.port) for entry in lan.fdb()]
        """
        names = link_names(self)
        bodies = self.rtnl.dump(rtnetlink.neighbour_dump(rtnetlink.AF_BRIDGE))
        return [entry for body in bodies if (entry := decode_forwarding(body, names)) is not None]


def _announce(end: Interface) -> None:
    """Tell the link of the addresses of an interface, and of what lies upon it: VLANs, a bond, a bridge."""
    from pytest_netns.probe.announce import announce

    node = end.node
    assert isinstance(node, Node)
    lower: dict[Interface, Interface | None] = {}
    if isinstance(node, Host):
        lower.update((device, device.lower) for device in node.devices)
    waiting = [end] if end.is_up else []
    for each in waiting:
        master = each.state.master
        waiting += [
            other
            for name, other in node.interfaces.items()
            if name != "lo" and other not in waiting and (other.index == master or lower.get(other) == each)
        ]
        announce(node, each, router=node.sysctl["net.ipv6.conf.all.forwarding"] != "0")


def _forget_gateways(host: Node, end: Interface, left: Collection[Subnet]) -> None:
    """Remove routes over gateways that are not on the link any more; the kernel keeps them when an address goes."""
    host.saved_config.forget_gateways(end, left)
    for route in host.routes():
        if route.interface == end.name and any(route.gateway in network for network in left if route.gateway):
            options = RouteOptions(route.kind, route.metric, 0)
            host.rtnl.batch([rtnetlink.route_delete(route.destination, route.gateway, end.index, options)])
