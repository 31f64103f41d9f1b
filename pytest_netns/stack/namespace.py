"""Namespace: one isolated network stack, held by a descriptor."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import itertools
import os
import socket as _socket
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from pytest_netns.errors import KernelError, NetnsError, PrivilegeError, TopologyError
from pytest_netns.events import ResourceOpened, everywhere
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request
from pytest_netns.kernel.netns import attach as foreign
from pytest_netns.kernel.netns import publish as published
from pytest_netns.kernel.netns import registry as directory
from pytest_netns.kernel.netns.create import birth
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.kernel.real_threads import check_threads
from pytest_netns.kernel.syscalls import THREAD_NETNS, enter, entered, let_go
from pytest_netns.process.supervisor import Supervisor
from pytest_netns.stack import current as inside
from pytest_netns.stack import scapy_state, streams
from pytest_netns.stack.commands import Commands
from pytest_netns.stack.views import Views

if TYPE_CHECKING:
    from pytest_netns.impair.engine import Impairments
    from pytest_netns.impair.target import Target
    from pytest_netns.stack.interface import Interface

_P = ParamSpec("_P")
_R = TypeVar("_R")


_births = itertools.count()
# Without callbacks, as a WeakValueDictionary has them: what a signal handler raises in one of them is lost.
_open: dict[int, weakref.ref[Namespace]] = {}
#: Names of the namespaces that were made here, by inode. That of a closed one may have been given to another meanwhile.
_made: dict[int, str] = {}


def open_namespaces() -> list[Namespace]:
    """The namespaces of this process that are not closed, in the order of their birth."""
    return [each for reference in list(_open.values()) if (each := reference()) is not None and not each.closed]


def made_namespaces() -> dict[int, str]:
    """Names of the namespaces that this process has made, by inode, closed ones included; not those of others."""
    return dict(_made)


def forget_closed() -> None:
    """From now on ``made_namespaces`` has the open ones, and those that are made hereafter."""
    still = {each.inode for each in open_namespaces()}
    for inode in _made.keys() - still:
        del _made[inode]


class _Unclosed:
    """Part of an open namespace: it complains when that is collected without having been closed.

    An object of its own, because a closed namespace has nothing to say when it is collected, and shall run no code of
    ours then: what a signal handler raises in a destructor is lost.
    """

    __slots__ = ("fd", "number", "owner", "rtnl", "shown", "sockets")

    def __init__(self, namespace: Namespace) -> None:
        self.owner = os.getpid()
        self.shown = repr(namespace)
        self.rtnl, self.sockets = namespace.rtnl, namespace._sockets
        self.number = next(_births)
        self.fd = namespace.fd
        _open[self.number] = weakref.ref(namespace)

    def let_go(self) -> None:
        """Close what keeps the namespace alive."""
        with uninterrupted:
            fd, self.fd = self.fd, -1
            _open.pop(self.number, None)
            for sock in self.sockets:
                sock.close()
            self.rtnl.close()
            directory.leave(fd)
            let_go(fd)

    def __del__(self) -> None:
        if self.fd >= 0 and not sys.is_finalizing():
            self.let_go()
            if self.owner == os.getpid():  # in a forked child it is its parent's to close
                # last, because it raises where warnings are errors
                warnings.warn(f"unclosed {self.shown}", ResourceWarning, source=self, stacklevel=2)


class Namespace(Views, Commands):
    """One isolated network stack: interfaces, addresses, routes, neighbours, sockets and netfilter rules of its own.

    Anonymous: it has no file in /run/netns and is held by a descriptor of this process, so the kernel takes it away
    when the process ends, whatever way it ends. Loopback is up.

    Args:
        name: what messages call it.
        sysctls: set at birth, on top of the baseline (see ``pytest_netns.kernel.sysctl.BASELINE``).
        supervisor: of its processes: for a lab, which has one for all its nodes.
        existing: descriptor of a namespace to share instead of making one: for ``attach`` and the lab.
        lab_name: of the lab that it is part of, as ``pytest-netns shell`` lists it; "" if it stands alone.

    Attributes:
        name: what messages call it.
        rtnl: a netlink socket inside.

    Raises:
        PrivilegeError: this process may not create namespaces.
    """

    rtnl: NetlinkSocket
    _counter = 0

    def __init__(
        self,
        name: str | None = None,
        *,
        sysctls: Mapping[str, str | int] | None = None,
        supervisor: Supervisor | None = None,
        existing: int | None = None,
        lab_name: str = "",
        ahead: bool = False,
    ) -> None:
        check_threads()
        if name is None:
            Namespace._counter += 1
            name = f"netns-{Namespace._counter}"
        Views.__init__(self)
        Commands.__init__(self, name, supervisor)
        self._lab_name = lab_name
        self._sockets: list[_socket.socket] = []
        self._published: published.Publication | None = None
        self._impairments: Impairments | None = None
        self._owns_impairments = True
        self._foreign = existing is not None
        self._fd = -1
        self._unclosed: _Unclosed | None = None
        try:
            with uninterrupted:
                if existing is not None:
                    with entered(existing):
                        self.rtnl = NetlinkSocket(name)
                    try:
                        self._fd = os.dup(existing)
                    except OSError:
                        self.rtnl.close()
                        raise
                else:
                    self._fd, self.rtnl = birth(name, sysctls or {}, ahead=ahead)
                self._inode = os.fstat(self._fd).st_ino
                self._unclosed = _Unclosed(self)
                directory.enter(self._fd, self._inode, lab_name, name)
                if self._owns_supervisor:  # else it is a lab's
                    everywhere.publish(ResourceOpened, self)
                if existing is None:
                    _made[self._inode] = name
                    self.rtnl.batch([rtnetlink.link_up(rtnetlink.LOOPBACK_INDEX, "lo")])
        except BaseException:  # of the block, or what has waited for its end
            self._let_go()
            raise

    @classmethod
    def attach(cls, target: int | str | os.PathLike[str], name: str | None = None) -> Namespace:
        """Somebody else's namespace: a container's, or a named one. Closing it only lets go of it.

        Nothing in it is changed: no baseline, no loopback set up.

        Args:
            target: a process ID; a path such as ``/proc/PID/ns/net``; or a name, as ``ip netns`` lists them.
            name: what messages call it.

        Raises:
            TopologyError: there is no such process, file or name, or the file is no network namespace.
            PrivilegeError: this process may not enter it.
        """
        fd, shown = foreign.open_foreign(target)
        try:
            return Namespace(name or shown, existing=fd)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise KernelError(error.errno, f"nsenter --net={target}", shown) from error
            raise PrivilegeError(f"cannot enter network namespace {shown!r}: {error.strerror}") from error
        finally:
            os.close(fd)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"net:[{self._inode}]"
        return f"<{type(self).__name__} {self.name!r} {state}>"

    @property
    def closed(self) -> bool:
        """True after ``close()``."""
        return self._fd < 0

    @property
    def fd(self) -> int:
        """The descriptor that keeps it alive. Raises NetnsError once closed."""
        if self._fd < 0:
            raise NetnsError(f"namespace {self.name!r} is closed")
        return self._fd

    @property
    def inode(self) -> int:
        """What ``readlink /proc/PID/ns/net`` shows in brackets for a process inside."""
        return self._inode

    @property
    def path(self) -> str:
        """A path for ``nsenter --net=PATH`` from another terminal, valid while this is open."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    # ------------------------------------------------------------------ life

    def close(self) -> None:
        """Kill its processes, close its sockets and let go of it; allowed more than once.

        The calling thread leaves it, if it is the innermost one that the thread has entered. In a forked child of the
        process that made it only the child's copies are closed: what it does to the namespace is up to its parent.

        Raises:
            ExceptionGroup: of ProcessDied, for background processes that had ended unasked.
        """
        with uninterrupted:
            if self._fd < 0:
                return
            errors: list[Exception] = []
            if self._unclosed is not None and self._unclosed.owner == os.getpid():
                errors += self._leave_impairments()
                errors += self.end_processes()
                if self._owns_impairments and self._impairments is not None:
                    self._impairments.close()
                if self._published is not None:
                    self._published.withdraw()
            self.close_views()
            self._let_go()
            inside.leave_closed()
        if errors:
            raise ExceptionGroup(f"closing namespace {self.name!r}", errors)

    def _let_go(self) -> None:
        """Close what keeps the namespace alive; nothing happens if that was done, or if there was none yet."""
        self._fd = -1
        unclosed, self._unclosed = self._unclosed, None
        if unclosed is not None:
            unclosed.let_go()

    def replace(self, fd: int, rtnl: NetlinkSocket, taken: Sequence[Request] = ()) -> None:
        """Become another network namespace. What is open in the one before is closed.

        Other threads may use this meanwhile. They are in one or the other, and nowhere else: the descriptor keeps its
        number, and the netlink socket its object.

        Args:
            fd: of the other one; nobody else may use it, nor ``rtnl``.
            rtnl: inside of it.
            taken: moves interfaces there.

        Raises:
            KernelError: the kernel refused one of ``taken``. All is as before, but for those that came before it.
        """
        try:
            self.rtnl.become(rtnl, taken)
        except BaseException:
            rtnl.close()
            os.close(fd)
            raise
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self._inode = os.fstat(self._fd).st_ino
        _made[self._inode] = self.name
        directory.enter(self._fd, self._inode, self._lab_name, self.name)
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        self.close_views()
        if self._published is not None:
            self._published.withdraw()
            self._published = None

    def __enter__(self) -> Self:
        inside.enter(self)
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
            inside.leave(self, error or came)
        finally:
            uninterrupted.__exit__()
        if came is not None:
            raise came

    # ------------------------------------------------------------ code inside

    def call(self, func: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run ``func`` in a new thread inside, and return its value or raise its exception.

        Threads that it starts are inside too. Context variables are those of the caller.

        Args:
            func: what to call.
            args: its positional arguments.
            kwargs: its keyword arguments.
        """
        __tracebackhide__ = True
        context = contextvars.copy_context()
        result: list[_R] = []
        failure: list[BaseException] = []

        def run_inside() -> None:
            __tracebackhide__ = True
            try:
                self.enter_thread()
                result.append(context.run(func, *args, **kwargs))
            except BaseException as error:  # raised below, in the caller's thread
                failure.append(error)
            finally:
                scapy_state.left(self._inode)

        check_threads()
        thread = threading.Thread(target=run_inside, name=f"netns-{self.name}", daemon=True)
        try:
            with uninterrupted:  # start() waits for the thread to run
                thread.start()
            thread.join()  # for as long as the function takes, as if it was called here
        finally:
            with uninterrupted:  # threading keeps a WeakSet of threads, whose callback loses what a handler raises
                del thread
        if failure:
            raise failure[0]
        return result[0]

    def enter_thread(self) -> None:
        """Move the calling thread inside for good, with all that the namespace has of its own. Not the main thread."""
        self.before_entry()
        before = os.stat(THREAD_NETNS).st_ino
        enter(self)
        scapy_state.entered(before, self._inode)

    def publish(self, name: str) -> str:
        """Make it visible to ``ip netns`` under a name, until it is closed; returns the path.

        This puts a file into /run/netns, for people and programs outside of the test; nothing else here does. After a
        crash, ``pytest-netns reap`` removes what dead processes have left.

        Args:
            name: as ``ip netns exec`` will know it.

        Raises:
            TopologyError: there is a namespace of that name, or it cannot be a file's name, or it is published already.
            PrivilegeError: /run/netns cannot be written.
        """
        if self._published is not None:
            raise TopologyError(f"namespace {self.name!r} is published already, as {self._published.name!r}")
        with uninterrupted:  # the file, and who removes it
            self._published = published.publish(self.fd, name)
        return self._published.path

    # ------------------------------------------------------------ impairments

    @property
    def impairments(self) -> Impairments:
        """Those of its interfaces, beside others of the same lab."""
        self.fd  # noqa: B018 - raises if it is closed
        if self._impairments is None:
            from pytest_netns.impair.engine import Impairments

            self._impairments = Impairments(self._supervisor)
        return self._impairments

    def impairment_words(self, interface: Target) -> str:
        """What was set last for an interface and by which engine, for messages; empty if nothing was."""
        return "" if self._impairments is None else self._impairments.words(interface)

    def _leave_impairments(self) -> list[Exception]:
        if self._impairments is None:
            return []
        return self._impairments.leave(self._inode, alive=self._foreign)

    def interface_changed(self, index: int) -> None:
        """Called when an interface was set up, or was given or has lost an address.

        Args:
            index: of the interface.
        """

    def next_index(self) -> int:
        """An interface index that is free; 0 lets the kernel choose."""
        return 0

    # ------------------------------------------------------- other namespaces

    def check_peer(self, peer: object, verb: str) -> None:
        """Raise TopologyError if ``peer`` is a node that cannot be meant from here: cannot ``verb`` it, and why."""

    def interface_towards(self, peer: Namespace | Interface) -> Interface | None:
        """The interface that is on one link with a peer, or an interface of it; None if that is not known."""
        del peer
        return None

    # ---------------------------------------------------------------- sockets

    def socket(
        self,
        family: int = _socket.AF_INET,
        type: int = _socket.SOCK_STREAM,
        proto: int = 0,
    ) -> _socket.socket:
        """A plain socket that lives in this namespace for ever, usable from any thread. Closed with the namespace.

        Args:
            family: ``socket.AF_INET``, ``AF_INET6``, ``AF_PACKET``, ...
            type: ``socket.SOCK_STREAM``, ``SOCK_DGRAM``, ``SOCK_RAW``, ...
            proto: protocol number; 0 for the usual one.

        Raises:
            OSError: as ``socket.socket`` does.
        """
        self.before_entry()
        # Held here: a test's own reference is gone before its fixtures are, and Python would complain of the socket.
        return open_socket(self, family, type, proto, self._hold)

    def _hold(self, sock: _socket.socket) -> None:
        self._sockets[:] = [open_ for open_ in self._sockets if open_.fileno() >= 0] + [sock]

    async def open_connection(
        self, host: streams.StreamHost, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """``asyncio.open_connection`` from inside. One event loop can serve every node of a lab.

        Args:
            host: an address, a name that resolves inside, or a node.
            port: TCP port, 1 to 65535.

        Raises:
            OSError: no connection; a note says from where to where.
        """
        self.check_peer(host, "reach")
        return await streams.open_connection(self, host, port)

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
        """
        self.check_peer(host, "listen on")
        return await streams.start_server(self, client_connected_cb, host, port)
