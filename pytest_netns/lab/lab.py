"""Lab: a network of nodes and links that lives as long as a test."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, cast, get_args

from pytest_netns.checks import check_sysctls, check_text
from pytest_netns.errors import NetnsError, TopologyError, WaitTimeout
from pytest_netns.events import ResourceOpened, everywhere
from pytest_netns.faults.schedule import Schedules
from pytest_netns.impair.engine import Impairments
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.history import History, labs
from pytest_netns.lab.host import Host
from pytest_netns.lab.link import Link
from pytest_netns.lab.members import HostAddresses, Members
from pytest_netns.lab.name_resolution import Names
from pytest_netns.lab.nodes import Node
from pytest_netns.lab.router import Router
from pytest_netns.lab.switch import SwitchSettings
from pytest_netns.lab.wiring import EndAddresses, Identity, Wiring, check_offload
from pytest_netns.process.isolation import Kind
from pytest_netns.process.supervisor import Supervisor
from pytest_netns.stack.lazy_verbs import verb_modules
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.addressing import AddressPlan, HostAddress, SubnetSpec
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.failure import Failure
from pytest_netns.topology.network import Network
from pytest_netns.topology.network_events import LabClosing, LabFailing, LinkAdded, LinkRemoved
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.faults import heal, partition
    from pytest_netns.faults.schedule import Event, Schedule
    from pytest_netns.impair.impairment import Engine
    from pytest_netns.lab import captures
    from pytest_netns.probe import loss as losing
    from pytest_netns.probe import matrix
    from pytest_netns.probe import throughput as measuring
    from pytest_netns.topology.autoroute import Autoroutes
else:
    heal, partition = verb_modules("pytest_netns.faults", "heal", "partition")
    (captures,) = verb_modules("pytest_netns.lab", "captures")
    losing, matrix, measuring = verb_modules("pytest_netns.probe", "loss", "matrix", "throughput")

#: Whether the nodes of a lab find each other's MAC addresses themselves, or know them.
Neighbours = Literal["learned", "known"]


class Lab(Network):
    """A network. Iterating gives its nodes, ``lab["red"]`` the one of that name.

    Args:
        name: its name in messages; MAC addresses are derived from it too.
        ipv4: pool of subnets for links and bridges that are not given one; None: no IPv4 unless asked for.
        ipv6: the same for IPv6.
        sysctls: initial sysctls of every node, in addition to the baseline.
        isolate: which namespaces every host and router has besides its network; see ``host``.
        visible: gives directories under /run and /tmp that isolated hosts still see.
        impairments: the default engine for impairments: ``"netem"``, ``"tbf"``, ``"relay"``, or
            ``"auto"``; see ``Interface.impair``.
        neighbours: ``"learned"``: nodes ask for each other's MAC addresses by ARP and neighbour discovery. ``"known"``:
            those of all ends of links and of bridges are entered in advance (``extern_learn``, see ip-neighbour(8)).
            The kernel's table of neighbours has room for some 1,000 on the whole machine; known ones do not count. Use
            it for labs of dozens of hosts that all talk to each other, and where others on the machine fill the table.
        offload: whether senders leave checksums and segmentation to the ends of links, which never do it: right and
            fast between kernels. False: every frame is finished and no longer than the mtu, as a program needs it that
            forwards frames by itself (``ethtool -K ... tx off sg off tso off gso off gro off``).

    Attributes:
        name: its name in messages.
        dns: names for isolated hosts, beside every node's own: ``lab.dns["www.example.com"] = blue``.
        plan: which subnets are given out.
        supervisor: of the processes of all its nodes.
        impairments: those in force on its interfaces.
        faults: those in force; iterating gives each.
        failed: the last 50 probes that failed, and traces, to be explained.
        visible: as given.
        offload: likewise.

    Raises:
        TopologyError: a pool is no network, or there is no such engine, or no such choice of ``neighbours``
            or ``offload``.

    Example:
        >>> with Lab(neighbours="known") as lab:
        ...     red, blue = lab.host("red"), lab.host("blue")
        ...     link = lab.connect(red, blue)
        ...     assert red.ping(blue)
    """

    def __init__(
        self,
        name: str = "lab",
        *,
        ipv4: str | IPv4Network | None = "10.0.0.0/8",
        ipv6: str | IPv6Network | None = "fd00::/48",
        sysctls: Mapping[str, str | int] | None = None,
        isolate: Iterable[Kind] = (),
        visible: Callable[[], Iterable[str | os.PathLike[str]]] = tuple,
        impairments: Engine = "auto",
        neighbours: Neighbours = "learned",
        offload: bool = True,
    ) -> None:
        super().__init__()
        check_text("the name of a lab", name)
        self.name = name
        self._history = History(self.events)
        self.failed: deque[Failure] = self._history.failed
        self._schedules = Schedules(name)
        labs.add(self)
        if not isinstance(offload, bool):
            raise TopologyError(f"lab {name!r}: offload={offload!r}: expected True or False")
        self.offload = offload
        if neighbours not in get_args(Neighbours):
            raise TopologyError(f"lab {name!r}: neighbours={neighbours!r}: expected 'learned' or 'known'")
        if neighbours == "known":
            from pytest_netns.topology.known_neighbours import KnownNeighbours

            self.known_neighbours: KnownNeighbours | None = KnownNeighbours(self)
        self.plan: AddressPlan = AddressPlan(name, ipv4, ipv6)
        self.supervisor: Supervisor = Supervisor(f"lab {name!r}")
        self.impairments: Impairments = Impairments(self.supervisor, impairments)
        self.impairments.mending = self.faults.mending
        self.dns: Names = Names(self)
        self.visible = visible
        self._sysctls = check_sysctls(sysctls)
        self._members = Members(self, isolate)
        self._wiring = Wiring(self)
        self._let_go = False
        everywhere.publish(ResourceOpened, self)

    # What can be seen and measured of it as a whole, and what can befall it. Each is told in its module.
    capture: Final = captures.capture_lab
    ping_all: Final = matrix.ping_all
    throughput: Final = measuring.throughput
    loss: Final = losing.loss
    partition: Final = partition.partition
    heal: Final = heal.heal

    def schedule(self, events: Iterable[Event]) -> Schedule:
        """Run actions at given times, in the background, one after the other.

        Args:
            events: pairs of seconds from now and something to call without arguments:
                ``[(0.5, link.down), (1.5, link.up)]``. In any order. Times are on CLOCK_MONOTONIC.

        Returns:
            The schedule: ``wait()`` for its end, or use it as a context manager. What an action raises is raised there,
            or else when the lab is closed, which also cancels what is not due yet.

        Raises:
            TopologyError: no pairs, a time that is none, or an action that cannot be called.

        Example:
            >>> with lab.schedule([(0.0, link.down), (0.1, link.up)]):
            ...     red.ping(blue, timeout=0.1)
        """
        with self._lock:
            self._check_open()
            return self._schedules.start(events)

    @property
    def captures(self) -> list[Capture]:
        """The recent captures in this lab that are still referenced, oldest first."""
        return self._history.captures

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._members)} nodes, {len(self._links)} links"
        return f"<Lab {self.name!r}: {state}>"

    def __getitem__(self, name: str) -> Node:
        return self._members[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, node: object) -> bool:
        return node in self._members if isinstance(node, str) else node in self._members.values()

    def __bool__(self) -> bool:
        return True  # an empty lab is a lab

    # ------------------------------------------------------------------- life

    def close(self) -> None:
        """Kill all processes and release all nodes; idempotent.

        Running captures are stopped. If an exception interrupts it, call it again. In a forked
        child of the process that created the lab, only the child's copies are closed.

        Raises:
            ExceptionGroup: all errors, e.g. ProcessDied for processes that had exited unexpectedly.

        Example:
            >>> lab = Lab("second")
            >>> lab.close()
        """
        if self._owner != os.getpid():
            self._close_copies()
            return
        try:
            self._close()
        except BaseException as error:
            # It was interrupted before it had begun, or while it was waiting for something.
            if not self._let_go and not isinstance(error, WaitTimeout):
                self._close()
            raise

    def _close(self) -> None:
        # Not under the lock, which their actions may wait for.
        errors = self._schedules.cancel()
        with self._lock:
            if self._let_go:
                return
            if not self._closed:
                self.events.publish(LabClosing, self)
                errors += self._schedules.untold() + self.faults.undo_all(self._members.adopted)
                errors += self._history.stop_captures()
                for link in self.links:
                    if not any(end.node in self._members.adopted for end in link.interfaces):
                        continue
                    try:
                        link.remove()  # its end in a namespace that lives on would go some time later: now is better
                    except NetnsError as error:  # reported below, with all others
                        errors.append(error)
                for node in self._members.adopted:
                    errors += self.impairments.leave(node.inode, alive=True)
            self._closed = True
            errors += self.supervisor.close()
            self.impairments.close()
            for node in reversed(list(self._members.values())):
                try:
                    node.close()
                except ExceptionGroup as group:
                    errors += group.exceptions
                except Exception as error:  # reported below, with all others
                    errors.append(error)
            self._let_go = True
        if errors:
            raise ExceptionGroup(f"closing lab {self.name!r}", errors)

    def _close_copies(self) -> None:
        """Close what a forked child has got of its parent's lab. What is in the kernel is the parent's to undo."""
        self._closed = True
        self._history.stop_captures()
        self.supervisor.close()
        self.impairments.close()
        for node in self:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not self._closed:
            self.events.publish(LabFailing, self, error)
        try:
            self.close()
        except ExceptionGroup as group:
            if error is None:
                raise
            # The error of the block is what matters; it must not be hidden behind ours.
            for each in group.exceptions:
                error.add_note(f"and while closing lab {self.name!r}: {each}")

    # ------------------------------------------------------------------ nodes

    def host(
        self,
        name: str,
        *networks: Bridge,
        address: HostAddresses = None,
        sysctls: Mapping[str, str | int] | None = None,
        shares: Node | None = None,
        isolate: Iterable[Kind] | None = None,
        offload: bool | None = None,
        mac: str | None = None,
        index: int | None = None,
    ) -> Host:
        """A new host, attached to the given bridges in order (``eth0``, ``eth1``, ...).

        Args:
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.
            networks: bridges of this lab.
            address: its address on the first of them, instead of the next free one; or a list, one for each of
                them, None for the next free one, False for none; False alone: none on any, as a client of DHCP has.
            sysctls: its initial sysctls, in addition to the lab's.
            shares: a node whose network namespace it lives in, instead of one of its own: the same interfaces,
                addresses and ports, as containers of one pod have.
            isolate: which namespaces its processes, and functions run by ``call``, have besides the network; the
                lab's default if None. ``"mount"``: an empty /run and /tmp, a /sys that shows its interfaces, and
                /etc/hosts and /etc/resolv.conf in which every node's name resolves (``Lab.dns``). ``"uts"``: its
                name as host name. ``"pid"``: a /proc that shows its own processes only. ``"ipc"``: its own
                queues, semaphores and shared memory of System V (sysvipc(7)) and queues of POSIX (mq_overview(7)).
            offload: of its links to these bridges; see ``connect``.
            mac: MAC address of its interface on the first of these bridges; None: one that no other of the lab has.
            index: number of that interface, 2 to 2147483647; None: a free one.

        Raises:
            TopologyError: an invalid name, bridge or address. No host is created then.

        Example:
            >>> pink = lab.host("pink", lan, address="10.0.0.77")
        """
        with self._lock:
            self._check_open()
            kinds = self._members.check(name, networks, address, isolate, mac, index)
            check_offload(offload, repr(name))
            if shares is not None:
                self._check_running(shares, "share the namespace of")
                if isinstance(shares, Bridge):
                    raise TopologyError(f"{name!r} cannot share the namespace of {shares.name!r}: it is a bridge")
                if sysctls:
                    raise TopologyError(f"{name!r} shares the sysctls of {shares.name!r}; set them there")
                host = Host(self, name, {}, existing=shares.fd, allocator=shares.allocator)
            else:
                host = Host(self, name, {**self._sysctls, **check_sysctls(sysctls)})
            return self._members.attached(host, networks, address, kinds, offload, mac, index)

    def router(
        self,
        name: str,
        *networks: Bridge,
        address: HostAddresses = None,
        sysctls: Mapping[str, str | int] | None = None,
        isolate: Iterable[Kind] | None = None,
        offload: bool | None = None,
    ) -> Router:
        """A new router: a host that forwards IPv4 and IPv6 between its interfaces.

        Other nodes use it once they have routes through it: ``Host.default_route``, ``Lab.autoroute``.

        Its sysctls, besides the baseline of every namespace: ``net.ipv4.ip_forward`` and
        ``net.ipv6.conf.all.forwarding`` are 1; ``net.ipv4.conf.all.send_redirects`` and ``.default.send_redirects`` are
        0, as redirects would teach hosts to bypass it.

        Args:
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.
            networks: bridges of this lab, to which it is attached in order (``eth0``, ``eth1``, ...).
            address: its address on the first of them, instead of the next free one; or a list, one for each of
                them, None for the next free one, False for none; False alone: none on any, as a client of DHCP has.
            sysctls: its initial sysctls, in addition to the lab's.
            isolate: which namespaces it has besides its network: ``"mount"``, ``"uts"``, ``"pid"``, ``"ipc"``; the
                lab's default if None.
            offload: of its links to these bridges; see ``connect``.

        Raises:
            TopologyError: an invalid name, bridge or address. No router is created then.

        Example:
            >>> wan = lab.bridge("wan", "203.0.113.0/24")
            >>> gateway = lab.router("gateway", lan, wan)
        """
        with self._lock:
            self._check_open()
            kinds = self._members.check(name, networks, address, isolate)
            check_offload(offload, repr(name))
            router = Router(self, name, {**self._sysctls, **check_sysctls(sysctls)})
            return self._members.attached(router, networks, address, kinds, offload)

    def adopt(self, namespace: Namespace, name: str) -> Host:
        """Make an existing namespace (``Namespace.attach``), e.g. a container's, a node of the lab.

        Nothing in it is changed until you do so. Closing the lab does not delete it: links to nodes of the lab
        are removed, the namespace stays.

        Args:
            namespace: an open one, from ``Namespace.attach`` for example.
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.

        Raises:
            TopologyError: a bad name, or a namespace that is closed or a node already.

        Example:
            >>> with Namespace.attach(container_pid) as container:
            ...     box = lab.adopt(container, "box")
            ...     lab.connect(red, box)
        """
        with self._lock:
            self._check_open()
            return self._members.adopt(namespace, name)

    def here(self, name: str = "here") -> Host:
        """Make the namespace that the calling thread is in a node: code under test in the test process has a cable.

        For an isolated test (``@pytest.mark.netns``, ``--netns-isolate``) or a session in the sandbox
        (``--netns-sandbox=always``; without root that is so anyhow). Its sysctls become those of every node. Closing
        the lab removes its links and leaves the namespace as it is.

        Args:
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.

        Raises:
            TopologyError: a bad name; the thread is in the machine's own network, in which nothing is ever made; or the
                namespace is a node of this lab already.

        Example:
            >>> box = Namespace("box")
            >>> with box:
            ...     here = lab.here()
            ...     lab.connect(here, red)
            ...     socket.create_server((str(here.ip4), 8080)).close()
            >>> box.close()
        """
        with self._lock:
            self._check_open()
            current = Namespace.current(name)
            try:
                return self._members.take_over(current, name, self._sysctls)
            finally:
                current.close()

    @cached_property
    def _autoroutes(self) -> Autoroutes:
        from pytest_netns.topology.autoroute import Autoroutes

        return Autoroutes()

    def autoroute(self, *, ecmp: bool = False) -> None:
        """Give every node static shortest-path routes to every subnet, for IPv4 and IPv6.

        Likewise to every address that a node was given on loopback (``host.add_address("192.0.2.1/32", "lo")``).
        Among paths of equal length the router that was made first wins, so the result is the same at each run. Call
        it again after a change: what it set before is replaced. Routes that you set are not touched, and win where
        their metric is lower.

        Args:
            ecmp: use all paths of equal length: routes have several next hops, among which flows are shared out.

        Example:
            >>> lab.autoroute()
            >>> red.ping(green)
        """
        if not isinstance(ecmp, bool):
            raise TypeError(f"ecmp is {ecmp!r}; it can be True or False")
        with self._lock:
            self._check_open()
            self._autoroutes.renew([node for node in self if isinstance(node, Host) and not node.closed], ecmp=ecmp)

    def bridge(
        self,
        name: str,
        subnet: SubnetSpec | Bridge = None,
        *,
        vlan_filtering: bool = False,
        stp: bool = False,
        priority: int | None = None,
        forward_delay: float | None = None,
        hello_time: float | None = None,
        max_age: float | None = None,
        sysctls: Mapping[str, str | int] | None = None,
    ) -> Bridge:
        """A new bridge. Without spanning tree a port forwards as soon as something is attached.

        Args:
            name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``; unique in the lab.
            subnet: where the addresses of attached nodes come from: None for one of each of the lab's pools; an IPv4
                network, to which an IPv6 one of the pool is added; an IPv6 network; one of each; False for none; or
                another bridge, to share its subnets (connect the two for one large segment).
            vlan_filtering: whether it filters by VLAN; all ports start in VLAN 1; ``Bridge.set_vlan`` and
                its like change that.
            stp: whether it takes part in a spanning tree (IEEE 802.1D), so that trunks may form loops. Then nothing
                waits for a port to forward: see ``Bridge.wait_converged``.
            priority: the lowest in the tree is the root, 0 to 65535; 32768 if None.
            forward_delay: seconds in each of the states listening and learning, 2 to 30; 15 if None.
            hello_time: seconds between BPDUs of the root, 1 to 10; 2 if None.
            max_age: seconds until a received BPDU expires, 6 to 40; 20 if None.
            sysctls: its initial sysctls, in addition to the lab's.

        Raises:
            TopologyError: a bad name; a subnet that is none, too small, or overlaps another of the lab; a time out of
                range.
            UnsupportedError: this kernel's bridges have no VLAN filtering.

        Example:
            >>> wan = lab.bridge("wan", "203.0.113.0/24")
        """
        with self._lock:
            self._check_open()
            self._members.check_name(name)
            settings = SwitchSettings(vlan_filtering, stp, priority, forward_delay, hello_time, max_age)
            if isinstance(subnet, Bridge):
                self._check_node(subnet, "share the subnet of")
                segment, owned = subnet.segment, False
            else:
                segment, owned = self.plan.segment(subnet, f"bridge {name!r}", hosts=2), True
            try:
                return self._members.add(
                    Bridge(self, name, segment, {**self._sysctls, **check_sysctls(sysctls)}, settings)
                )
            except BaseException:
                if owned:
                    self.plan.free(segment.networks)
                raise

    # ------------------------------------------------------------------ links

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, oldest first.

        Example:
            >>> [link.is_up for link in lab.links]
        """
        return tuple(cast("list[Link]", self._links))

    def _remember(self, cable: Cable) -> None:
        """Called when a cable was made."""
        self._links.append(cable)
        self._interface_changed(cable.nodes[0], cable.a.index)
        self.events.publish(LinkAdded, cable)

    def _forget(self, cable: Cable) -> None:
        """Called by a cable that was removed."""
        self._links.remove(cable)
        self._disconnected(*cable.interfaces)
        self.events.publish(LinkRemoved, cable)
        for interface in cable.interfaces:
            if isinstance(interface.node, Bridge):
                interface.node._free_port_name(interface.name)

    def connect(
        self,
        a: Node,
        b: Node,
        subnet: SubnetSpec = None,
        *,
        addresses: tuple[EndAddresses, EndAddresses] | None = None,
        mtu: int | None = None,
        names: tuple[str, str] | None = None,
        offload: bool | None = None,
        mac: tuple[str | None, str | None] = (None, None),
        index: tuple[int | None, int | None] = (None, None),
    ) -> Link:
        """Connect two nodes by a veth pair. Returns once packets can pass.

        A bridge on either side gets a port, and the other side an address of the bridge's subnet; two bridges are
        joined by a trunk without addresses.

        Args:
            a: a node of this lab.
            b: another one; or the same, if it is no bridge: both ends are in its namespace then.
            subnet: where addresses come from, in order, ``.1`` for ``a`` and ``.2`` for ``b``: None for one of each of
                the lab's pools; an IPv4 network, to which an IPv6 one of the pool is added; an IPv6 network; one of
                each; False for no addresses.
            addresses: instead of the next free ones: what ``a`` and what ``b`` gets, each one address or several,
                with prefix (``"10.0.0.1/24"``) unless they are of ``subnet``.
            mtu: largest IP packet in bytes; 1500 if None.
            names: what the interface is called in ``a`` and in ``b``, instead of ``eth0`` and so on.
            offload: False: frames on this link have finished checksums and are no longer than the mtu, as a program
                needs it that forwards them by itself; None: the lab's default.
            mac: MAC address of the interface in ``a`` and in ``b``; None for one that no other of the lab has.
            index: number of the interface in ``a`` and in ``b``, 2 to 2147483647; None for a free one.

        Raises:
            TopologyError: a bridge with itself, a node of another lab, closed or crashed; a bad subnet, address, name,
                MAC address or index. Nothing is made then.
            KernelError: the kernel refused, e.g. an ``mtu`` out of range. Nothing is left then.

        Example:
            >>> lab.connect(red, green, "10.3.0.0/30", mtu=1400)
        """
        with self._lock:
            for node in (a, b):
                self._check_running(node, "connect")
            if a is b and isinstance(a, Bridge):
                raise TopologyError(f"cannot connect {a.name!r} to itself: frames would go round for ever in a bridge")
            return self._wiring.connect(a, b, subnet, addresses, mtu, names, offload, Identity(mac, index))

    def _is_adopted(self, node: BaseNode) -> bool:
        """Whether a node's namespace was adopted."""
        return node in self._members.adopted

    def attach(
        self,
        bridge: BaseNode,
        node: BaseNode,
        address: HostAddress,
        *,
        offload: bool | None = None,
        mac: str | None = None,
        index: int | None = None,
    ) -> Link:
        """Connect a node to a bridge, by the next free address of its subnet or by the one given.

        Args:
            bridge: of this lab.
            node: what is attached; a bridge gets no address.
            address: of the bridge's subnet; None for the next free one, False for none.
            offload: see ``connect``.
            mac: MAC address of the node's interface; None: one that no other of the lab has.
            index: number of the node's interface, 2 to 2147483647; None: a free one.

        Raises:
            TopologyError: a node of another lab, closed or crashed, or an address outside the subnet or taken.

        Example:
            >>> lab.attach(lan, blue, "10.0.0.77")
        """
        with self._lock:
            self._check_running(node, "attach")
            self._check_node(bridge, "attach to")
            if not isinstance(bridge, Bridge) or not isinstance(node, Node):
                raise TopologyError(f"cannot attach {node.name!r} to {bridge.name!r}: it is no bridge; see connect()")
            if isinstance(node, Bridge):
                if address:
                    raise TopologyError(f"bridge {node.name!r}: a trunk takes no address, and {address} was given")
                return self.connect(node, bridge, offload=offload, mac=(mac, None), index=(index, None))
            identity = Identity((mac, None), (index, None))
            identity.check(f"link {node.name}--{bridge.name}")
            taken = [] if address is False else bridge.segment.take(node.name, address)
            return self._wiring.join(node, bridge, bridge.segment, False, (taken, []), None, None, offload, identity)


def lab_of(node: BaseNode) -> Lab:
    """The lab that a node is part of, which the floors below know as a ``Network``."""
    return cast("Lab", node.lab)
