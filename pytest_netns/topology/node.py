"""BaseNode: a namespace with a place in a lab, and the questions it can put on the wire."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, ClassVar, Protocol

from pytest_netns.addresses import Address, AddressWithPrefix, is_of_link
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netns import registry
from pytest_netns.kernel.sysctl import existing_ones
from pytest_netns.process.environment import Environment, ours
from pytest_netns.process.isolation import Isolation, Kind
from pytest_netns.process.supervisor import Supervisor
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.views import own_interface
from pytest_netns.topology.interface_allocator import InterfaceAllocator
from pytest_netns.topology.saved_config import SavedConfig

if TYPE_CHECKING:
    from pytest_netns.impair.engine import Impairments


class CableEnds(Protocol):
    """What a node knows of a cable that ends in it.

    Attributes:
        a: one end.
        b: the other end.
    """

    a: Interface
    b: Interface

    def end(self, node: BaseNode) -> Interface:
        """The end that is in a node."""
        ...

    def other(self, end: Interface) -> Interface:
        """The end that is not this one."""
        ...


class Names(Protocol):
    """Where the names of nodes are looked up."""

    def refresh(self) -> None:
        """Called when names or addresses may have changed."""
        ...

    def follow(self) -> None:
        """Called when a node shows them to its processes, which see all that changes from now on."""
        ...

    def known(self) -> Mapping[str, Sequence[Address]]:
        """All of them, with their addresses, which are looked up when they are asked for."""
        ...


class Surroundings(Protocol):
    """What a node knows of the network that it is part of.

    Attributes:
        name: of the lab.
        supervisor: of the processes of all its nodes.
        impairments: those in force.
        faults: likewise.
        visible: gives directories under /run and /tmp that isolated hosts still see.
    """

    name: str
    supervisor: Supervisor
    impairments: Impairments
    visible: Callable[[], Iterable[str | os.PathLike[str]]]

    @property
    def dns(self) -> Names:
        """Its names."""
        ...

    @property
    def links(self) -> Sequence[CableEnds]:
        """All cables, oldest first."""
        ...

    def __iter__(self) -> Iterator[BaseNode]:
        """All nodes."""
        ...

    def _is_adopted(self, node: BaseNode) -> bool:
        """Whether a node's namespace was adopted."""
        ...

    def _interface_changed(self, node: BaseNode, index: int) -> None:
        """Called when an interface was set up or connected, or its addresses have changed."""
        ...

    def _node_closed(self, node: BaseNode) -> None:
        """Called when a node was closed."""
        ...


class CrashState(Protocol):
    """What a node knows of its crash."""

    @property
    def in_force(self) -> bool:
        """False once it was restarted."""
        ...

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """What the node will have again, IPv4 first."""
        ...

    def defer_up(self, end: Interface) -> bool:
        """An end that was down at the crash comes up at the restart; False after it."""
        ...


class OwnedDevice(Protocol):
    """A device that goes with its node.

    Attributes:
        name: of the interface.
    """

    name: str

    def _release(self) -> None:
        """Called before its node is closed."""
        ...

    def _lost(self) -> None:
        """Called when its node has crashed: it went with the namespace that was."""
        ...


class BaseNode(Namespace):
    """A host, router or bridge. Made by its lab, not by hand.

    Attributes:
        lab: the lab that it is part of.
        isolation: its namespaces besides the network; None unless it was created with ``isolate``.
        allocator: which interface names and indexes are given out.
        saved_config: configuration that the kernel has dropped, and that is restored when its cause ends.
    """

    #: Sysctls of this kind of node, between the baseline and what its author asks for.
    _initial_sysctls: ClassVar[Mapping[str, str]] = {}
    #: Whether packets for others go on from here: it is a router.
    forwards: ClassVar[bool] = False
    #: Whether it passes frames on from port to port: it is a bridge.
    is_switch: ClassVar[bool] = False

    _crash: CrashState | None = None
    _devices: tuple[OwnedDevice, ...] = ()

    def __init__(
        self,
        lab: Surroundings,
        name: str,
        sysctls: Mapping[str, str | int],
        *,
        existing: int | None = None,
        allocator: InterfaceAllocator | None = None,
    ) -> None:
        self.initial_sysctls: dict[str, str | int] = {**existing_ones(self._initial_sysctls), **sysctls}
        self.lab: Surroundings = lab  # first: what goes wrong below is told by methods that ask for it
        super().__init__(
            name, sysctls=self.initial_sysctls, supervisor=lab.supervisor, existing=existing, lab_name=lab.name
        )
        self.allocator: InterfaceAllocator = allocator or InterfaceAllocator()
        self.saved_config: SavedConfig = SavedConfig(self)
        self.isolation: Isolation | None = None
        self._impairments = lab.impairments
        self._owns_impairments = False

    def _isolate(self, kinds: Iterable[Kind]) -> None:
        """Give it more of its own than a network; called by its lab before anything runs in it.

        Args:
            kinds: of ``"mount"``, ``"uts"``, ``"pid"`` and ``"ipc"``.
        """
        self.isolation = Isolation(kinds, self.name, self.fd, self.lab.visible)
        self._supervisor = Supervisor(f"host {self.name!r}", self.isolation)
        self._owns_supervisor = True
        self.lab.dns.follow()
        registry.register(self.fd, self.inode, self.lab.name, self.name, self._supervisor.start())

    def close(self) -> None:
        """Kill its processes, close its sockets and devices, and release the namespace; idempotent.

        Raises:
            ExceptionGroup: of ProcessDied, for background processes that had exited unexpectedly.
        """
        for device in self._devices:
            device._release()
        super().close()
        self.lab._node_closed(self)

    def _before_entry(self) -> None:
        """Called before a thread or a process of the test goes inside. Raises TopologyError if it has crashed."""
        if self._has_crashed:
            raise TopologyError(f"{self.name!r} has crashed, and nothing can run in it; restart() it first")
        if self.isolation is not None:
            self.lab.dns.refresh()

    def _enter_thread(self, around: Collection[int] = ()) -> None:
        """Move the calling thread inside for good, with all that the host has of its own. Not the main thread."""
        super()._enter_thread(around)
        if self.isolation is not None:
            self.isolation.enter()

    def environment(self) -> Environment:
        """The environment of its processes unless they are given another.

        Example:
            >>> red.environment()["PATH"]
        """
        if self.isolation is not None and "mount" in self.isolation.kinds:
            return ours()  # its /run is its own, and so are the locks in it
        if self.isolation is not None and self.isolation.held_by_init:
            found = ours()
            found["XTABLES_LOCKFILE"] = f"/proc/1/fd/{self.isolation.held_by_init[0]}"
            return found
        return super().environment()

    @property
    def _waits_for_stp(self) -> bool:
        """Whether its ports forward only when a spanning tree has settled, which takes many seconds."""
        return False

    def _check_peer(self, peer: object, verb: str) -> None:
        """Raise TopologyError if ``peer`` is a node of another lab: cannot ``verb`` it, and why."""
        if isinstance(peer, BaseNode) and peer.lab is not self.lab:
            raise TopologyError(
                f"cannot {verb} {peer.name!r} from {self.name!r}: it is a node of another lab ({peer.lab!r})"
            )

    @property
    def _has_crashed(self) -> bool:
        """Whether it has crashed and was not restarted."""
        return self._crash is not None and self._crash.in_force

    def addresses(self) -> list[AddressWithPrefix]:
        """Its addresses, IPv4 first, link-local ones last; of a crashed host those that it will have again.

        Example:
            >>> red.addresses()
        """
        while True:
            last = self._crash
            if last is not None and last.in_force:
                return last.addresses
            found = super().addresses()
            if self._crash is last:  # else it crashed while the kernel was asked
                return found

    def _on_crash(self, crash: CrashState) -> None:
        """Called by the ``crash`` before anything of the host goes."""
        self._crash = crash

    def _on_restart(self) -> None:
        """Called after a restart, for what kinds of hosts have beside addresses and routes."""

    def _pids(self) -> list[int]:
        """The processes in its network namespace that were started by this lab, daemons included."""
        return self._supervisor.pids(self.inode)

    @property
    def adopted(self) -> bool:
        """Whether its namespace was adopted: ``Lab.adopt``."""
        return self.lab._is_adopted(self)

    def _kill_processes(self) -> None:
        """Kill everything that runs in it, at once."""
        self._supervisor.kill_all(self.name, self.inode)

    def _defer_up(self, end: Interface) -> bool:
        """Called when a link of it is about to be set up: True if ``end``, of a crashed host, is set up later."""
        return self._has_crashed and self._crash is not None and self._crash.defer_up(end)

    def _move_to(self, fd: int, rtnl: NetlinkSocket, keep: Sequence[Interface]) -> None:
        """Move into another network namespace. Impairments of what is kept go along: they are those of the cables.

        Args:
            fd: its descriptor; nobody else may use it, nor ``rtnl``.
            rtnl: a netlink socket inside.
            keep: interfaces that are taken along.
        """
        before = self.inode
        settings = [(end, setting) for end in keep if (setting := self.impairments.setting(end)) is not None]
        self.impairments.leave(before, alive=False)
        self._replace(fd, rtnl, [rtnetlink.link_move(each.index, each.name, fd) for each in keep])
        if self.isolation is not None:
            kinds = self.isolation.kinds
            self._supervisor.close()
            self._isolate(kinds)
        else:  # what another thread was starting at that moment
            self._supervisor.kill_all(self.name, before, self.inode)
        for end, setting in settings:
            self.impairments.apply(end, *setting)

    def _forget_end(self, end: Interface) -> None:
        """Called when the link was removed of which ``end`` was here."""
        self.saved_config.forget(end)

    def _interface_changed(self, index: int) -> None:
        """Called when an interface was set up, or was given or has lost an address.

        Args:
            index: of the interface.
        """
        self.lab._interface_changed(self, index)

    def _is_plugged(self, port: Interface) -> bool:
        """Whether frames go in and out at a port of a bridge, as far as that is for the bridge to say."""
        del port
        return True

    def _next_index(self) -> int:
        """An interface index that is free."""
        return self.allocator.next_index()

    def _leave_impairments(self) -> list[Exception]:
        if any(other is not self and other.inode == self.inode and not other.closed for other in self.lab):
            return []  # somebody shares the namespace
        errors = super()._leave_impairments()
        if self.lab.impairments.in_force() and not self.lab._is_adopted(self):
            for cable in self._cables:  # what is at their other ends goes with the namespace
                if not (far := cable.other(cable.end(self))).node.closed:
                    self.lab.impairments.forget(far)
        return errors

    @property
    def _cables(self) -> list[CableEnds]:
        """The cables that end here, oldest first."""
        return [cable for cable in self.lab.links if self in (cable.a.node, cable.b.node)]

    @property
    def ip4(self) -> IPv4Address:
        """Its first IPv4 address. Raises TopologyError if it has none."""
        for address in self.addresses():
            if isinstance(address.ip, IPv4Address):
                return address.ip
        raise TopologyError(f"{self.name!r} has no IPv4 address")

    @property
    def ip6(self) -> IPv6Address:
        """Its first IPv6 address that is not link-local. Raises TopologyError if it has none."""
        for address in self.addresses():
            if isinstance(address.ip, IPv6Address) and not is_of_link(address):
                return address.ip
        raise TopologyError(f"{self.name!r} has no IPv6 address beyond link-local")

    @property
    def ip(self) -> Address:
        """Its first address, IPv4 if it has one. Raises TopologyError if it has none."""
        for address in self.addresses():
            if not is_of_link(address):
                return address.ip
        raise TopologyError(f"{self.name!r} has no address")

    @property
    def _primary(self) -> Interface:
        """Its first interface beside loopback. Raises TopologyError if it has none."""
        for name, interface in self.interfaces.items():
            if name != "lo":
                return interface
        raise TopologyError(f"{self.name!r} has no interface yet; connect it to something")

    @property
    def mac(self) -> str:
        """MAC address of its first interface. Raises TopologyError if it has none."""
        return self._primary.mac

    def add_address(self, address: str | AddressWithPrefix, interface: str | Interface | None = None) -> None:
        """``ip address add``, on the first interface unless another is named; usable when this returns.

        Args:
            address: with its prefix, e.g. ``"10.0.0.1/24"``.
            interface: one of its interfaces, by object or name.

        Raises:
            TopologyError: no such interface, or an address without a prefix.
            KernelError: the kernel refused it, e.g. because it exists already.

        Example:
            >>> red.add_address("10.42.0.1/24", interface="eth0")
        """
        (self._primary if interface is None else own_interface(self, interface)).add_address(address)
