"""Handle: a network namespace that is held by a descriptor, and what is open in it."""

from __future__ import annotations

import itertools
import os
import socket as _socket
import sys
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_netns.checks import check_sysctls, check_text
from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.events import ResourceOpened, everywhere
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request
from pytest_netns.kernel.netns import registry
from pytest_netns.kernel.netns.create import create_namespace
from pytest_netns.kernel.netns.lost import lost, shows
from pytest_netns.kernel.real_threads import check_threads
from pytest_netns.kernel.syscalls import THREAD_NETNS, enter, entered, let_go
from pytest_netns.process.environment import Environment, ours
from pytest_netns.process.supervisor import Supervisor
from pytest_netns.stack import scapy_state

if TYPE_CHECKING:
    from pyroute2 import IPRoute

    from pytest_netns.impair.engine import Impairments
    from pytest_netns.impair.target import Target
    from pytest_netns.kernel.netns.publish import Publication
    from pytest_netns.kernel.nftables import Nftables
    from pytest_netns.process.process import Process
    from pytest_netns.stack.threaded_iproute import ThreadedIPRoute

_births = itertools.count()
# Without callbacks, as a WeakValueDictionary has them: what a signal handler raises in one of them is lost.
_open: dict[int, weakref.ref[Handle]] = {}
#: Names of the namespaces that were made here, by inode. That of a closed one may have been given to another meanwhile.
_made: dict[int, str] = {}


def open_namespaces() -> list[Handle]:
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

    __slots__ = ("fd", "inode", "number", "owner", "rtnl", "shown", "sockets")

    def __init__(self, namespace: Handle) -> None:
        self.owner = os.getpid()
        self.shown = repr(namespace)
        self.rtnl, self.sockets = namespace.rtnl, namespace._sockets
        self.number = next(_births)
        self.fd, self.inode = namespace.fd, namespace.inode
        _open[self.number] = weakref.ref(namespace)

    def let_go(self) -> list[str]:
        """Close what keeps the namespace alive. Returns, in words, which descriptor somebody else has closed."""
        with uninterrupted:
            fd, self.fd = self.fd, -1
            _open.pop(self.number, None)
            for sock in self.sockets:
                sock.close()
            trouble = self.rtnl.close()
            registry.unregister(fd)
            if shows(fd, self.inode):
                let_go(fd)
            else:
                trouble.append(lost(fd, f"which held network namespace net:[{self.inode}]"))
            return trouble

    def __del__(self) -> None:
        if self.fd >= 0 and not sys.is_finalizing():
            self.let_go()
            if self.owner == os.getpid():  # in a forked child it is its parent's to close
                # last, because it raises where warnings are errors
                warnings.warn(f"unclosed {self.shown}", ResourceWarning, source=self, stacklevel=2)


class Handle:
    """A network namespace that is held by a descriptor: all that works on one, and knows no verbs of it, knows this.

    Args:
        name: its name in messages.
        sysctls: initial sysctls, in addition to the baseline (see ``pytest_netns.kernel.sysctl.BASELINE``).
        supervisor: of its processes: for a lab, which has one for all its nodes.
        existing: descriptor of a namespace to share instead of making one: for ``attach`` and the lab.
        lab_name: of the lab that it is part of, as ``pytest-netns shell`` lists it; "" if it stands alone.
        apart: its descriptors lie far above those that a test opens.

    Attributes:
        name: its name in messages.
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
        apart: bool = False,
    ) -> None:
        check_threads()
        if name is None:
            Handle._counter += 1
            name = f"netns-{Handle._counter}"
        check_text("the name of a namespace", name)
        self.name = name
        self._supervisor = supervisor or Supervisor(f"namespace {name!r}")
        self._owns_supervisor = supervisor is None
        self._xtables_lock = -1
        self._iproute: IPRoute | None = None
        self._iproute_worker: ThreadedIPRoute | None = None
        self._nftables: Nftables | None = None
        self._lab_name = lab_name
        self._sockets: list[_socket.socket] = []
        self._published: Publication | None = None
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
                    self._fd, self.rtnl = create_namespace(name, check_sysctls(sysctls), apart=apart)
                self._inode = os.fstat(self._fd).st_ino
                self._unclosed = _Unclosed(self)
                registry.register(self._fd, self._inode, lab_name, name)
                if self._owns_supervisor:  # else it is a lab's
                    everywhere.publish(ResourceOpened, self)
                if existing is None:
                    _made[self._inode] = name
                    self.rtnl.batch([rtnetlink.link_up(rtnetlink.LOOPBACK_INDEX, "lo")])
        except BaseException:  # of the block, or what has waited for its end
            self._let_go()
            raise

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"net:[{self._inode}]"
        return f"<{type(self).__name__} {self.name!r} {state}>"

    @property
    def closed(self) -> bool:
        """True after ``close()``."""
        return self._fd < 0

    @property
    def _is_foreign(self) -> bool:
        """Whether it was not made for this handle: attached to, or shared."""
        return self._foreign

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

    @property
    def processes(self) -> list[Process]:
        """Its background processes, ended ones included, in the order of their start."""
        return [process for process in self._supervisor.processes if process.node == self.name]

    def close(self) -> None:
        """Kill its processes, close its sockets and release the namespace; idempotent.

        The calling thread leaves it, if it is the innermost one that the thread has entered. In a forked child of the
        process that created it, only the child's copies are closed: the namespace belongs to the parent.

        Raises:
            ExceptionGroup: of ProcessDied, for background processes that had exited unexpectedly; of NetnsError, for
                descriptors of it that somebody else has closed.
        """
        with uninterrupted:
            if self._fd < 0:
                return
            errors: list[Exception] = []
            if self._unclosed is not None and self._unclosed.owner == os.getpid():
                errors += self._leave_impairments()
                errors += self._end_processes()
                if self._owns_impairments and self._impairments is not None:
                    self._impairments.close()
                if self._published is not None:
                    self._published.withdraw()
            self._close_views()
            errors += map(NetnsError, self._let_go())
        if errors:
            raise ExceptionGroup(f"closing namespace {self.name!r}", errors)

    def _let_go(self) -> list[str]:
        """Close what keeps the namespace alive; nothing happens if that was done, or if there was none yet.

        Returns, in words, which descriptors somebody else has closed.
        """
        self._fd = -1
        unclosed, self._unclosed = self._unclosed, None
        return [] if unclosed is None else unclosed.let_go()

    def _replace(self, fd: int, rtnl: NetlinkSocket, taken: Sequence[Request] = ()) -> None:
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
        if self._unclosed is not None:
            self._unclosed.inode = self._inode
        _made[self._inode] = self.name
        registry.register(self._fd, self._inode, self._lab_name, self.name)
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        self._close_views()
        if self._published is not None:
            self._published.withdraw()
            self._published = None

    def _close_views(self) -> None:
        """Let go of what talks to it: pyroute2 and libnftables."""
        worker, self._iproute_worker = self._iproute_worker, None
        if worker is not None:
            worker.close()
        iproute, self._iproute = self._iproute, None
        if iproute is not None:
            iproute.close()
        nftables, self._nftables = self._nftables, None
        if nftables is not None:
            nftables.close()

    def _hold(self, sock: _socket.socket) -> None:
        self._sockets[:] = [open_ for open_ in self._sockets if open_.fileno() >= 0] + [sock]

    def environment(self) -> Environment:
        """The environment of its processes unless they are given another.

        It is ours, with /usr/sbin and its like at the end of PATH, and a lock of its own for iptables.

        The iptables programs serialize on one lock file, though rulesets are per namespace; parallel tests would fail
        each other, and without root it cannot even be opened.

        Example:
            >>> red.environment()["PATH"]
        """
        if self._xtables_lock < 0:
            try:
                self._xtables_lock = os.memfd_create("xtables.lock", os.MFD_CLOEXEC)
            except OSError as error:
                raise KernelError.of(error, "memfd_create for the lock of iptables", self.name) from error
        found = ours()
        found["XTABLES_LOCKFILE"] = f"/proc/{os.getpid()}/fd/{self._xtables_lock}"
        return found

    def _before_entry(self) -> None:
        """Called before a thread or a process of the test goes inside."""

    def _forget(self, process: Process) -> None:
        """Let go of a process that has ended, as if it had never been one of its background processes."""
        self._supervisor.forget(process)

    def _end_processes(self) -> list[Exception]:
        """Kill them, and return an error for each that had exited unexpectedly."""
        errors = self._supervisor.close() if self._owns_supervisor else self._supervisor.end(self.name)
        if self._xtables_lock >= 0:
            os.close(self._xtables_lock)
            self._xtables_lock = -1
        return errors

    @property
    def impairments(self) -> Impairments:
        """Those of its interfaces, beside others of the same lab."""
        self.fd  # noqa: B018 - raises if it is closed
        if self._impairments is None:
            from pytest_netns.impair.engine import Impairments

            self._impairments = Impairments(self._supervisor)
        return self._impairments

    def _impairment_words(self, interface: Target) -> str:
        """What was set last for an interface and by which engine, for messages; empty if nothing was."""
        return "" if self._impairments is None else self._impairments.words(interface)

    def _leave_impairments(self) -> list[Exception]:
        if self._impairments is None:
            return []
        return self._impairments.leave(self._inode, alive=self._foreign)

    def _interface_changed(self, index: int) -> None:
        """Called when an interface was set up, or was given or has lost an address.

        Args:
            index: of the interface.
        """

    def _next_index(self) -> int:
        """An interface index that is free; 0 lets the kernel choose."""
        return 0

    def _enter_thread(self, around: Collection[int] = ()) -> None:
        """Move the calling thread inside for good, with all that the namespace has of its own. Not the main thread.

        Args:
            around: numbers of the namespaces that whoever waits for the thread goes back to.
        """
        self._before_entry()
        before = os.stat(THREAD_NETNS).st_ino
        enter(self)
        scapy_state.entered(before, self._inode, around)
