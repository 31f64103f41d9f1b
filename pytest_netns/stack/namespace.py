"""Namespace: one isolated network stack, and what can be done in it."""

from __future__ import annotations

import errno
import os
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, ParamSpec, Self, TypeVar

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.errors import KernelError, PrivilegeError, TopologyError
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.real_threads import check_threads
from pytest_netns.stack import calls, commands, current, views
from pytest_netns.stack.handle import Handle
from pytest_netns.stack.interface import Interface, Interfaces
from pytest_netns.stack.lazy_verbs import verb_modules

if TYPE_CHECKING:
    import asyncio

    from pyroute2 import IPRoute

    from pytest_netns.kernel import sysctl
    from pytest_netns.stack import nft as nftables
    from pytest_netns.stack import node_socket, streams
    from pytest_netns.stack.kernel_counters import CounterChange, KernelCounters
else:
    nftables, node_socket = verb_modules("pytest_netns.stack", "nft", "node_socket")

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Namespace(Handle):
    """One isolated network stack: interfaces, addresses, routes, neighbours, sockets and netfilter rules of its own.

    Anonymous: it has no file in /run/netns and is held by a descriptor of this process, so the kernel removes it
    when the process ends, however it ends. Loopback is up.

    Args:
        name: its name in messages.
        sysctls: initial sysctls, in addition to the baseline (see ``pytest_netns.kernel.sysctl.BASELINE``).
        supervisor: of its processes: for a lab, which has one for all its nodes.
        existing: descriptor of a namespace to share instead of making one: for ``attach`` and the lab.
        lab_name: of the lab that it is part of, as ``pytest-netns shell`` lists it; "" if it stands alone.

    Attributes:
        name: its name in messages.
        rtnl: a netlink socket inside.

    Raises:
        PrivilegeError: this process may not create namespaces.

    Example:
        >>> with Namespace("box") as box:
        ...     print(box.interfaces)
        >>> box.close()
    """

    # What runs in it.
    run: Final = commands.run
    spawn: Final = commands.spawn

    # Code of the test that talks from it.
    call: Final = calls.call
    socket: Final = node_socket.socket

    # What the kernel says of it now.
    interface: Final = views.interface
    routes: Final = views.routes
    route_to: Final = views.route_to
    neighbours: Final = views.neighbours

    # nftables.
    nft: Final = nftables.nft
    nft_ruleset: Final = nftables.nft_ruleset
    nft_with_handles: Final = nftables.nft_with_handles

    def addresses(self) -> list[AddressWithPrefix]:
        """Its addresses, IPv4 first, loopback's after others, IPv6 link-local ones last; not 127.0.0.1, ::1.

        Example:
            >>> red.addresses()
        """
        return views.addresses(self)

    @property
    def interfaces(self) -> Interfaces:
        """Its interfaces by name, in the order of their creation."""
        return Interfaces(self)

    @property
    def counters(self) -> KernelCounters:
        """What its kernel has counted so far, by the names of nstat(8), e.g. ``"TcpExtListenDrops"``.

        Example:
            >>> red.counters["IpInReceives"]
        """
        from pytest_netns.stack.kernel_counters import namespace_counters

        return namespace_counters(self.fd, self.name)

    def counting(self) -> AbstractContextManager[CounterChange]:
        """Count during a ``with`` block: gives by how much each counter has changed since its beginning.

        Example:
            >>> with blue.counting() as change:
            ...     red.tcp(blue, 80)
            >>> assert change["TcpExtListenDrops"] == 0
        """
        from pytest_netns.stack.kernel_counters import counted

        return counted(lambda: self.counters, lambda: self.inode)

    @property
    def iproute(self) -> IPRoute:
        """A pyroute2 ``IPRoute`` that talks to this namespace from whatever thread uses it. Closed with it.

        Inside a running event loop its calls are made by a thread, and the loop waits: pyroute2 has a loop of its own.
        """
        from pytest_netns.stack.iproute import iproute_of

        return iproute_of(self)

    @property
    def sysctl(self) -> sysctl.Sysctls:
        """Its network sysctls by name, as text: ``ns.sysctl["net.ipv4.ip_forward"] = 1``.

        Raises KeyError for one that does not exist, or that is set and not a namespace's own; KernelError for a value
        that the kernel refuses.
        """
        from pytest_netns.kernel.sysctl import Sysctls

        return Sysctls(self)

    @classmethod
    def attach(cls, target: int | str | os.PathLike[str], name: str | None = None) -> Namespace:
        """An existing namespace, e.g. a container's or a named one. Closing it does not delete it.

        Nothing in it is changed: no baseline, no loopback set up.

        Args:
            target: a process ID; a path such as ``/proc/PID/ns/net``; or a name, as ``ip netns`` lists them.
            name: its name in messages.

        Raises:
            TopologyError: there is no such process, file or name, or the file is no network namespace.
            PrivilegeError: this process may not enter it.

        Example:
            >>> box = Namespace.attach(container_pid)
            >>> box.close()
        """
        from pytest_netns.kernel.netns.attach import open_namespace_of

        fd, shown = open_namespace_of(target)
        try:
            return Namespace(name or shown, existing=fd)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise KernelError(error.errno, f"nsenter --net={target}", shown) from error
            raise PrivilegeError(f"cannot enter network namespace {shown!r}: {error.strerror}") from error
        finally:
            os.close(fd)

    @classmethod
    def current(cls, name: str = "here") -> Namespace:
        """The namespace that the calling thread is in, if it was made for tests; closing it only lets go.

        That is the one of an isolated test (``@pytest.mark.netns``, ``--netns-isolate``), of a ``with`` block, or the
        sandbox of the session. ``Lab.here`` makes a node of it.

        Args:
            name: its name in messages.

        Raises:
            TopologyError: the thread is in the machine's own network, in which nothing is ever made.

        Example:
            >>> box = Namespace("box")
            >>> with box:
            ...     here = Namespace.current()
            >>> assert here.inode == box.inode
            >>> here.close()
            >>> box.close()
        """
        check_threads()
        fd = current.open_own()
        try:
            return Namespace(name, existing=fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Kill its processes, close its sockets and release the namespace; idempotent.

        The calling thread leaves it, if it is the innermost one that the thread has entered. In a forked child of the
        process that created it, only the child's copies are closed: the namespace belongs to the parent.

        Raises:
            ExceptionGroup: of ProcessDied, for background processes that had exited unexpectedly.

        Example:
            >>> box = Namespace("box")
            >>> box.close()
        """
        with uninterrupted:
            if not self.closed:
                try:
                    super().close()
                finally:
                    current.leave_closed()

    def __enter__(self) -> Self:
        current.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # All in this function, because at the entry into another one that could be interrupted before it has begun.
        came: BaseException | None = None
        while True:
            try:
                uninterrupted.__enter__()
            except BaseException as interruption:
                came = interruption
            else:
                break
        try:
            current.leave(self, error or came)
        finally:
            uninterrupted.__exit__()
        if came is not None:
            raise came

    def publish(self, name: str) -> str:
        """Make it visible to ``ip netns`` under a name, until it is closed; returns the path.

        This puts a file into /run/netns, for people and programs outside of the test; nothing else here does. After a
        crash, ``pytest-netns reap`` removes what dead processes have left.

        Args:
            name: as ``ip netns exec`` will know it.

        Raises:
            TopologyError: there is a namespace of that name, or it cannot be a file's name, or it is published already.
            PrivilegeError: /run/netns cannot be written.

        Example:
            >>> path = red.publish("red")
        """
        from pytest_netns.kernel.netns.publish import publish

        if self._published is not None:
            raise TopologyError(f"namespace {self.name!r} is published already, as {self._published.name!r}")
        with uninterrupted:  # the file, and who removes it
            self._published = publish(self.fd, name)
        return self._published.path

    async def open_connection(
        self, host: streams.StreamHost, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """``asyncio.open_connection`` from inside. One event loop can serve every node of a lab.

        Args:
            host: an address, a name that resolves inside, or a node.
            port: TCP port, 1 to 65535.

        Raises:
            OSError: no connection; a note says from where to where.

        Example:
            >>> reader, writer = await red.open_connection(blue, 80)
        """
        from pytest_netns.stack.streams import open_connection

        self._check_peer(host, "reach")
        return await open_connection(self, host, port)

    async def start_server(
        self, client_connected_cb: streams.ClientConnected, host: streams.StreamHost, port: int
    ) -> asyncio.Server:
        """``asyncio.start_server`` inside, on one address.

        Args:
            client_connected_cb: called with a reader and a writer for each client.
            host: an address of this namespace, ``"0.0.0.0"`` or ``"::"`` for any, or a node.
            port: TCP port, 1 to 65535; 0 lets the kernel choose.

        Raises:
            OSError: the address is not its own, or the port is taken; a note says where.

        Example:
            >>> server = await blue.start_server(serve, "0.0.0.0", 8080)
        """
        from pytest_netns.stack.streams import start_server

        self._check_peer(host, "listen on")
        return await start_server(self, client_connected_cb, host, port)

    def _check_peer(self, peer: object, verb: str) -> None:
        """Raise TopologyError if ``peer`` is a node that cannot be meant from here: cannot ``verb`` it, and why."""

    def _interface_towards(self, peer: Namespace | Interface) -> Interface | None:
        """The interface that is on one link with a peer, or an interface of it; None if that is not known."""
        del peer
        return None
