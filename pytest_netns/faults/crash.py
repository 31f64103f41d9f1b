"""Crash: a host loses all state at once, as by a power cut, and is restored with its configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netns.create import create_namespace
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.fault import Fault
from pytest_netns.topology.network import cables_of, network_of
from pytest_netns.topology.node import BaseNode
from pytest_netns.topology.owned_devices import lose_devices

if TYPE_CHECKING:
    from pytest_netns.topology.node import BaseNode


_one_at_a_time = Lock("crashing or restarting a host")


@dataclass(frozen=True, slots=True)
class _Port:
    """An interface of a link as it was configured."""

    interface: Interface
    up: bool


class Crash(Fault):
    """A crashed host. Created by ``Host.crash``; ``Host.restart`` undoes it.

    The host gets a new, empty network namespace, into which the ends of its links are moved, so nothing of the old one
    can be seen any more: no RST, no retransmission, no neighbour entry.

    Args:
        host: what crashes.

    Raises:
        TopologyError: it has crashed already, was adopted, or shares its namespace.

    Example:
        >>> with blue.crash():
        ...     assert not red.ping(blue, timeout=0.1)
    """

    def __init__(self, host: BaseNode) -> None:
        self._host = host
        with uninterrupted:  # half a crash is nothing that anybody could undo
            with _one_at_a_time:
                self._begin(host)
            ends = [port.interface for port in self._ports]
            try:
                fd, rtnl = _new_namespace(host)
                try:
                    # First the cables, so that nothing that dies can say good-bye.
                    if ends:
                        host.rtnl.batch([rtnetlink.link_down(end.index, end.name) for end in ends])
                    _delete_others(host, ends)
                    host._kill_processes()
                except BaseException:
                    rtnl.close()
                    os.close(fd)
                    raise
            except BaseException:
                host.saved_config.release()
                self._forget()
                raise
            lose_devices(host)
            for fault in network_of(host).faults:
                if fault.ends_with_crash and fault.nodes == (host,):
                    fault._forget()
            host._move_to(fd, rtnl, ends)

    def _begin(self, host: BaseNode) -> None:
        """From here on the host is what it will be again, for all other threads."""
        _check(host)
        self._ports = [
            _Port(end, end.is_set_up)
            for link in cables_of(host)
            for end in link.interfaces
            if end.node is host and not link._is_gone
        ]
        self._returning: list[AddressWithPrefix] | None = None
        # Loopback is up at every birth, and may have been given more addresses.
        loopback = Interface(host, "lo", rtnetlink.LOOPBACK_INDEX)
        host.saved_config.hold([loopback, *(port.interface for port in self._ports)])
        super().__init__(network_of(host).faults, f"{host.name!r} has crashed", self._restart, [host])
        host._on_crash(self)

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """What the host will have again, IPv4 first."""
        return self._host.saved_config.addresses if self._returning is None else self._returning

    def _restart(self) -> None:
        host = self._host
        if host.closed:
            return
        self._returning = host.saved_config.addresses  # for who asks before all of them are back
        host.saved_config.release()
        present = host.interfaces.values()  # a link may have been removed meanwhile
        ports = [port.interface for port in self._ports if port.up and port.interface in present]
        with ExitStack() as last:  # what comes first stands last; an error of one does not keep the others away
            last.callback(host._on_restart)
            last.callback(host.saved_config.restore)
            for fault in reversed(list(network_of(host).faults)):
                last.callback(fault._restarted, host)
            for link in reversed(cables_of(host)):
                last.callback(link._settle)
            last.callback(host.saved_config.restore, routes=False)
            for port in reversed(ports):
                last.callback(port.up)

    def defer_up(self, end: Interface) -> bool:
        """An end that was down at the crash comes up at the restart; False after it."""
        with self._mending:
            if self.in_force:
                self._ports = [replace(port, up=True) if port.interface == end else port for port in self._ports]
            return self.in_force

    def stops(self, way: Sequence[BaseNode], kind: str) -> BaseNode | None:
        """The host, if it is on the way.

        Args:
            way: the nodes from who asks to who is asked.
            kind: the probe; it is the same for all.
        """
        del kind
        return self._host if self._host in way else None


def crash(host: BaseNode) -> Crash:
    """Crash it, as by a power cut: processes, sockets, connections, neighbours and rules are gone at once.

    So are its devices (``add_...``), blocks and freezes, which end with the crash.
    Peers lose the carrier of its links and receive nothing more: no RST, no FIN. Captures on it end. What runs
    in the test itself (``call``, ``with host:``) stays in the old namespace.

    Until it is restarted nothing can run in it, and it gets no sockets, devices, links, blocks or freezing: each
    raises TopologyError.

    Returns:
        The fault: as a context manager it restarts the host at the end of its block.

    Raises:
        TopologyError: it has crashed already, was adopted, or shares its namespace.

    Example:
        >>> with blue.crash():
        ...     assert not red.ping(blue, timeout=0.1)
    """
    network_of(host)._check_node(host, "crash")
    return Crash(host)


def restart(host: BaseNode) -> None:
    """Boot it after a crash: restores its initial sysctls, links, addresses, configured routes and NAT rules.

    Processes are not restarted, and manual changes are lost. A host that runs is crashed first.

    Example:
        >>> blue.crash()
        >>> blue.restart()
    """
    (crash_of(host) or crash(host)).undo()


def crash_of(host: BaseNode) -> Crash | None:
    """The crash that has not been followed by a ``restart()``; None if it runs."""
    return host._crash if isinstance(host._crash, Crash) and host._has_crashed else None


def _check(host: BaseNode) -> None:
    if host._has_crashed:
        raise TopologyError(f"{host.name!r} has crashed already; restart() it first")
    if host.adopted:
        raise TopologyError(f"cannot crash {host.name!r}: its namespace was adopted")
    for other in host.lab:
        if other is not host and not other.closed and other.inode == host.inode:
            raise TopologyError(f"cannot crash {host.name!r}: it shares its namespace with {other.name!r}")


def _delete_others(host: BaseNode, kept: Sequence[Interface]) -> None:
    """Delete all interfaces but ``kept``, the last one first.

    One upon a link of another host would answer as long as anybody holds a socket of the namespace that was.
    """
    stay = {rtnetlink.LOOPBACK_INDEX, *(interface.index for interface in kept)}
    others = [interface for interface in host.interfaces.values() if interface.index not in stay]
    if others:
        with suppress(KernelError):  # some go with others, and some the kernel has made for itself
            host.rtnl.batch([rtnetlink.link_delete(each.index, each.name) for each in reversed(others)])


def _new_namespace(host: BaseNode) -> tuple[int, NetlinkSocket]:
    """An empty network namespace with the sysctls that the host began with."""
    fd, rtnl = create_namespace(host.name, host.initial_sysctls)
    try:
        rtnl.batch([rtnetlink.link_up(rtnetlink.LOOPBACK_INDEX, "lo")])
    except BaseException:
        rtnl.close()
        os.close(fd)
        raise
    return fd, rtnl
