"""Crash: a host loses everything at once, as by a power cut, and comes back with what its author had configured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_netns.errors import TopologyError
from pytest_netns.faults.block import Block
from pytest_netns.faults.fault import Fault
from pytest_netns.faults.freeze import Freeze
from pytest_netns.interface import Interface
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.rtnetlink import AddressWithPrefix
from pytest_netns.lab.node import Node

if TYPE_CHECKING:
    from pytest_netns.lab.host import Host


@dataclass(frozen=True, slots=True)
class _Port:
    """An interface of a link as it was configured."""

    interface: Interface
    up: bool


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
        _check(host)
        self._ports = [
            _Port(end, end.is_set_up)
            for link in host.links
            for end in link.interfaces
            if end.node is host and not link.is_gone
        ]
        host.losses.hold(port.interface for port in self._ports)
        # First the cables, so that nothing that dies can say good-bye.
        if self._ports:
            host.rtnl.batch([rtnetlink.link_down(port.interface.index, port.interface.name) for port in self._ports])
        host.kill_processes()
        host.renew([port.interface for port in self._ports])
        for device in host.devices:
            device.lost()
        for fault in host.lab.faults:
            if isinstance(fault, Block | Freeze) and fault.nodes == (host,):
                fault.forget()
        super().__init__(host.lab.faults, f"{host.name!r} has crashed", self._restart, [host])

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """What the host will have again, IPv4 first."""
        return self._host.losses.addresses

    def _restart(self) -> None:
        host = self._host
        if host.closed:
            return
        host.losses.release()
        with ExitStack() as last:  # whatever is refused: the rest comes back
            last.callback(host.configure_anew)
            last.callback(host.losses.give_back)
            present = host.interfaces.values()  # a link may have been removed meanwhile
            ports = [port.interface for port in self._ports if port.up and port.interface in present]
            if ports:
                host.rtnl.batch([rtnetlink.link_up(port.index, port.name) for port in ports])
            host.losses.give_back(routes=False)
            for link in host.links:
                link.settle()
            for fault in host.lab.faults:
                fault.restarted(host)

    def postpone(self, end: Interface) -> None:
        """An end that was down at the crash comes up at the restart."""
        self._ports = [replace(port, up=True) if port.interface == end else port for port in self._ports]

    def stops(self, way: Sequence[Node], kind: str) -> Node | None:
        """The host, if it is on the way.

        Args:
            way: the nodes from who asks to who is asked.
            kind: the probe; it is the same for all.
        """
        del kind
        return self._host if self._host in way else None


def _check(host: Host) -> None:
    if host.crashed is not None:
        raise TopologyError(f"{host.name!r} has crashed already; restart() it first")
    if host.adopted:
        raise TopologyError(f"cannot crash {host.name!r}: its namespace is somebody else's, and was only adopted")
    for other in host.lab:
        if other is not host and not other.closed and other.inode == host.inode:
            raise TopologyError(f"cannot crash {host.name!r}: it shares its namespace with {other.name!r}")
