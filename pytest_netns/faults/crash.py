"""Crash: a host loses everything at once, as by a power cut, and comes back with what its author had configured."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.faults.block import Block
from pytest_netns.faults.fault import Fault
from pytest_netns.faults.freeze import Freeze
from pytest_netns.interface import Interface
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.rtnetlink import AddressWithPrefix
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.configured_addresses import ConfiguredAddresses
from pytest_netns.lab.node import Node
from pytest_netns.lab.restore import configured_routes, restore_routes

if TYPE_CHECKING:
    from pytest_netns.lab.host import Host
    from pytest_netns.lab.link import Link


_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Port:
    """An interface of a link as it was configured."""

    interface: Interface
    up: bool
    addresses: ConfiguredAddresses

    def restore(self) -> None:
        if self.up:
            self.interface.up()
        self.addresses.restore()


class Crash(Fault):
    """A host that has lost everything. Made by ``Host.crash``; ``Host.restart`` undoes it.

    The host gets a new, empty network namespace, into which the ends of its links are moved, so nothing of the old one
    can be heard any more: no reset, no retransmission, no neighbour entry.

    Args:
        host: what crashes.

    Raises:
        TopologyError: it has crashed already, was adopted, or shares its namespace.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        with _one_at_a_time:
            self._begin(host)
        ends = [port.interface for port in self._ports]
        try:
            fd, rtnl = host.born_anew()
            try:
                # First the cables, so that nothing that dies can say good-bye.
                if ends:
                    host.rtnl.batch([rtnetlink.link_down(end.index, end.name) for end in ends])
                _delete_others(host, ends)
                host.kill_processes()
            except BaseException:
                rtnl.close()
                os.close(fd)
                raise
        except BaseException:
            self.forget()
            raise
        for device in host.devices:
            device.lost()
        for fault in host.lab.faults:
            if isinstance(fault, Block | Freeze) and fault.nodes == (host,):
                fault.forget()
        host.renew(fd, rtnl, ends)

    def _begin(self, host: Host) -> None:
        """From here on the host is what it will be again, for all other threads."""
        _check(host)
        self._ports = [
            _Port(end, end.is_set_up, ConfiguredAddresses(end))
            for link in host.links
            for end in link.interfaces
            if end.node is host and not link.is_gone
        ]
        # Loopback is up at every birth, and may have been given more addresses.
        self._loopback = ConfiguredAddresses(Interface(host, "lo", rtnetlink.LOOPBACK_INDEX))
        self._routes = configured_routes(host)
        super().__init__(host.lab.faults, f"{host.name!r} has crashed", self._restart, [host])
        host.lost_everything(self)

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """What the host will have again, IPv4 first."""
        found = [address for each in self._configured for address in each.addresses]
        return sorted(found, key=lambda address: address.version)

    @property
    def _configured(self) -> list[ConfiguredAddresses]:
        return [self._loopback, *(port.addresses for port in self._ports)]

    def _restart(self) -> None:
        host = self._host
        if host.closed:
            return
        present = {interface.index for interface in host.interfaces.values()}
        # A link may have been removed meanwhile.
        ports = [port for port in self._ports if port.interface.index in present]
        with ExitStack() as last:  # what comes first stands last; an error of one does not keep the others away
            last.callback(host.configure_anew)
            last.callback(restore_routes, host, self._routes, present)
            for fault in reversed(list(host.lab.faults)):
                last.callback(fault.restarted, host)
            for link in reversed(host.links):
                last.callback(_await, link)
            for port in reversed(ports):
                last.callback(port.restore)
            last.callback(self._loopback.restore)

    def postpone(self, end: Interface, routes: list[bytes]) -> bool:
        """An end that was down at the crash comes up at the restart, and has these routes then; False after it."""
        with self._mending:
            if self.in_force:
                self._ports = [replace(port, up=True) if port.interface == end else port for port in self._ports]
                self._routes += routes
            return self.in_force

    def stops(self, way: Sequence[Node], kind: str) -> Node | None:
        """The host, if it is on the way.

        Args:
            way: the nodes from who asks to who is asked.
            kind: the probe; it is the same for all.
        """
        del kind
        return self._host if self._host in way else None


def _await(link: Link) -> None:
    """Return when the link carries frames, if both its ends are set up."""
    ends = link.interfaces
    if link.is_gone or not all(end.is_set_up for end in ends):
        return
    for end in ends:
        # As when links are made: who has asked for a spanning tree awaits it by Bridge.wait_converged().
        tree = isinstance(end.node, Bridge) and end.node.settings.stp
        end.wait_up(port=bool(end.state.port_state) and not tree)
        end.wait_addresses()


def _check(host: Host) -> None:
    if host.crashed is not None:
        raise TopologyError(f"{host.name!r} has crashed already; restart() it first")
    if host.adopted:
        raise TopologyError(f"cannot crash {host.name!r}: its namespace is somebody else's, and was only adopted")
    for other in host.lab:
        if other is not host and not other.closed and other.inode == host.inode:
            raise TopologyError(f"cannot crash {host.name!r}: it shares its namespace with {other.name!r}")


def _delete_others(host: Host, kept: Sequence[Interface]) -> None:
    """Delete all interfaces but ``kept``, the last one first.

    One upon a link of another host would answer as long as anybody holds a socket of the namespace that was.
    """
    stay = {rtnetlink.LOOPBACK_INDEX, *(interface.index for interface in kept)}
    others = [interface for interface in host.interfaces.values() if interface.index not in stay]
    if others:
        with suppress(KernelError):  # some go with others, and some the kernel has made for itself
            host.rtnl.batch([rtnetlink.link_delete(each.index, each.name) for each in reversed(others)])
