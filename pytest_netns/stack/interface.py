"""Interface: one network device of a namespace."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Unpack

from pytest_netns.addresses import AddressWithPrefix, parse_address
from pytest_netns.checks import A_DAY, check_range, check_whole
from pytest_netns.clock import monotonic
from pytest_netns.errors import KernelError, TopologyError, WaitTimeout
from pytest_netns.kernel.interface_names import is_hidden
from pytest_netns.kernel.interrupts import checkpoint
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.tables import LinkState, decode_address, decode_link, in_order, is_tentative

if TYPE_CHECKING:
    from pytest_netns.impair.impairment import ActiveImpairment, Engine, Impairment
    from pytest_netns.impair.options import ImpairOptions
    from pytest_netns.stack.handle import Handle
    from pytest_netns.stack.kernel_counters import CounterChange, KernelCounters
    from pytest_netns.units import Quantity

#: Seconds to wait for a carrier. It takes microseconds; this is for a machine that is stuck.
CARRIER_DEADLINE = 5.0


class Interface:
    """A network device, by name and index. Each attribute access queries the kernel.

    Two are equal if they are the same device of the same namespace.

    Attributes:
        node: the namespace that it is in.
        name: ``eth0``.
        index: its number there, as ``ip link`` shows it.

    Example:
        >>> eth0 = red.interfaces["eth0"]
        >>> eth0.mac, eth0.mtu, eth0.addresses
    """

    def __init__(self, node: Handle, name: str, index: int) -> None:
        self.node = node
        self.name = name
        self.index = index

    def __repr__(self) -> str:
        impaired = self.node._impairment_words(self)
        return f"<Interface {self.name!r} of {self.node.name!r}{f', impaired: {impaired}' if impaired else ''}>"

    def __str__(self) -> str:
        return f"{self.node.name}:{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interface) and (self.node, self.index) == (other.node, other.index)

    def __hash__(self) -> int:
        return hash((id(self.node), self.index))

    @property
    def state(self) -> LinkState:
        """All that ``ip link show`` says of it. Raises TopologyError if it was removed."""
        try:
            return decode_link(self.node.rtnl.get(rtnetlink.link_get(self.index, self.name)))
        except KernelError as error:
            if error.errno == errno.ENODEV:
                raise TopologyError(f"interface {self.name!r} of {self.node.name!r} was removed") from None
            raise

    @property
    def kind(self) -> str:
        """Its kind, as ip-link(8) calls it: ``veth``, ``bridge``, ``vlan``, ...; empty if it has none (``lo``)."""
        return self.state.kind

    @property
    def mac(self) -> str:
        """Its MAC address, e.g. ``02:1f:0a:33:5b:c0``."""
        return self.state.mac

    @property
    def mtu(self) -> int:
        """MTU in bytes. Settable; raises KernelError if out of range."""
        return self.state.mtu

    @mtu.setter
    def mtu(self, value: int) -> None:
        check_whole("mtu", value, 1, 0x7FFFFFFF)  # the kernel knows the range
        self.node.rtnl.batch([rtnetlink.link_mtu(self.index, self.name, value)])
        if self.node._impairment_words(self):
            self.node.impairments.fit(self)

    @property
    def is_up(self) -> bool:
        """Whether its operational state is up (RFC 2863): it and its peer are set up."""
        return self.state.is_up

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """Its addresses in the order they were added, IPv4 first, link-local last."""
        entries = [decode_address(body) for body in self.node.rtnl.dump(rtnetlink.address_dump(self.index))]
        return in_order(entry for entry in entries if entry.index == self.index)

    @property
    def ip4(self) -> IPv4Address | None:
        """Its first IPv4 address, or None."""
        return next((a.ip for a in self.addresses if a.version == 4), None)

    @property
    def ip6(self) -> IPv6Address | None:
        """Its first IPv6 address, link-local only if it has no other; or None."""
        return next((a.ip for a in self.addresses if a.version == 6), None)

    @property
    def counters(self) -> KernelCounters:
        """What it has counted so far: ``rx_packets``, ``tx_bytes``, ``rx_dropped``, ... (``ip -s -s link``).

        Raises KernelError if it was removed.
        """
        from pytest_netns.stack.kernel_counters import interface_counters

        return interface_counters(self.node.rtnl, self.index, self.name)

    def counting(self) -> AbstractContextManager[CounterChange]:
        """Count during a ``with`` block: gives by how much each counter has changed since its beginning.

        Example:
            >>> with red.interfaces["eth0"].counting() as change:
            ...     red.ping(blue)
            >>> assert change["tx_packets"] >= 1
        """
        from pytest_netns.stack.kernel_counters import counted

        return counted(lambda: self.counters, lambda: self.node.inode)

    def add_address(self, address: str | AddressWithPrefix) -> None:
        """``ip address add``; usable when this returns.

        Args:
            address: with its prefix, e.g. ``"10.0.0.1/24"``.

        Raises:
            TopologyError: not an address with a prefix.
            KernelError: e.g. it is there already.

        Example:
            >>> red.interfaces["eth0"].add_address("10.42.0.1/24")
        """
        parsed = parse_address(address, f"interface {self.name!r} of {self.node.name!r}")
        self.node.rtnl.batch([rtnetlink.address_add(self.index, self.name, parsed)])
        if parsed.version == 6:
            self.wait_addresses()
        self.node._interface_changed(self.index)

    def remove_address(self, address: str | AddressWithPrefix) -> None:
        """``ip address delete``.

        Args:
            address: with its prefix, e.g. ``"10.0.0.1/24"``.

        Raises:
            TopologyError: not an address with a prefix.
            KernelError: it is not there (EADDRNOTAVAIL).

        Example:
            >>> red.interfaces["eth0"].add_address("10.42.0.1/24")
            >>> red.interfaces["eth0"].remove_address("10.42.0.1/24")
        """
        parsed = parse_address(address, f"interface {self.name!r} of {self.node.name!r}")
        self.node.rtnl.batch([rtnetlink.address_delete(self.index, self.name, parsed)])
        self.node._interface_changed(self.index)

    @property
    def is_set_up(self) -> bool:
        """Whether it is administratively up (flag UP of ip(8)), with or without a carrier."""
        return self.state.is_set_up

    def up(self) -> None:
        """``ip link set up``. Does not wait for a carrier: the far end may be down.

        Example:
            >>> red.interfaces["eth0"].down()
            >>> red.interfaces["eth0"].up()
        """
        self.node.rtnl.batch([rtnetlink.link_up(self.index, self.name)])
        self.node._interface_changed(self.index)

    def down(self) -> None:
        """``ip link set down``. The kernel removes the routes through it.

        Example:
            >>> red.interfaces["eth0"].down()
        """
        self.node.rtnl.batch([rtnetlink.link_down(self.index, self.name)])

    # ------------------------------------------------------------ impairments
    # Imported on use: most tests have none.

    def impair(
        self,
        impairment: Impairment | None = None,
        *,
        delay: Quantity | None = None,
        jitter: Quantity | None = None,
        loss: Quantity | None = None,
        rate: Quantity | None = None,
        reorder: Quantity | None = None,
        duplicate: Quantity | None = None,
        corrupt: Quantity | None = None,
        seed: int | None = None,
        engine: Engine | None = None,
    ) -> ActiveImpairment:
        """Impair the frames it sends, replacing any earlier impairment; returns what is in force, read back.

        Args:
            impairment: a preset or another ``Impairment``; the other arguments override its attributes.
            delay: seconds, or text such as ``"20ms"``: one-way. For this and the following see
                ``Impairment``.
            jitter: seconds, or text.
            loss: a fraction, or text such as ``"1%"``.
            rate: bit/s, or text such as ``"10mbit"``.
            reorder: a fraction, or text.
            duplicate: a fraction, or text.
            corrupt: a fraction, or text.
            seed: seed of the random numbers: the same frames are treated alike in each run. Background traffic (ARP,
                neighbour discovery, multicast) uses random numbers of its own, except with netem.
            engine: ``"netem"`` (the kernel), ``"tbf"`` (the kernel, for a rate alone), ``"relay"`` (a user-space
                process), or ``"auto"``: the first of these that is available and supports it. None: the lab's default.

        Raises:
            TopologyError: no value or an invalid one; the interface was removed.
            UnsupportedError: the engine is not available, or does not support this.
            KernelError: the kernel refused.
            ProcessDied: the relay process has exited.

        Example:
            >>> red.interfaces["eth0"].impair(delay="20ms", jitter="2ms")
        """
        from pytest_netns.impair.request import requested

        values = requested(
            impairment,
            str(self),
            delay=delay,
            jitter=jitter,
            loss=loss,
            rate=rate,
            reorder=reorder,
            duplicate=duplicate,
            corrupt=corrupt,
        )
        return self.node.impairments.apply(self, values, seed, engine)

    def heal(self) -> None:
        """Remove the impairment; frames already delayed still arrive. Does nothing if there is none.

        Raises:
            KernelError: the kernel refused.

        Example:
            >>> red.interfaces["eth0"].impair(delay="20ms")
            >>> red.interfaces["eth0"].heal()
        """
        if self.node._impairment_words(self):
            self.node.impairments.heal(self)

    @contextmanager
    def impaired(
        self, impairment: Impairment | None = None, **options: Unpack[ImpairOptions]
    ) -> Iterator[ActiveImpairment]:
        """Impair the frames it sends during a ``with`` block, then restore the previous state.

        Args:
            impairment: a preset or another ``Impairment``; the other arguments override its attributes.
            options: the keywords of ``impair``: ``delay``, ``jitter``, ``loss``, ``rate``, ``reorder``, ``duplicate``,
                ``corrupt``, ``seed``, ``engine``.

        Returns:
            A context manager, which gives what is in force, read back.

        Raises:
            TopologyError: no value or an invalid one; the interface was removed.
            UnsupportedError: the engine is not available, or does not support this.
            KernelError: the kernel refused.
            ProcessDied: the relay process has exited.

        Example:
            >>> with red.interfaces["eth0"].impaired(loss="10%", seed=7):
            ...     red.ping(blue, count=5, timeout=0.1)
        """
        from pytest_netns.impair.restoring import restored

        with restored([lambda: self]):
            yield self.impair(impairment, **options)

    @property
    def impairment(self) -> ActiveImpairment | None:
        """What is in force for what it sends, read back, with what it has done so far; None if nothing is.

        Raises:
            ProcessDied: the relay process has exited.
            KernelError: it was removed by other means, e.g. tc(8).
            TopologyError: the interface was removed.
        """
        return self.node.impairments.of(self) if self.node._impairment_words(self) else None

    def wait_up(self, *, port: bool = False, timeout: float = CARRIER_DEADLINE) -> None:
        """Wait until it carries frames, and as a bridge port forwards them.

        A link that has just come up still drops its first frames until the kernel's linkwatch work has run, which
        costs the sender a second (the ARP retry). RTM_GETLINK makes it run.

        Args:
            port: whether it must forward too, as a bridge port.
            timeout: seconds to wait.

        Raises:
            WaitTimeout: not in time.

        Example:
            >>> red.interfaces["eth0"].wait_up(timeout=5)
        """
        check_range("timeout", timeout, 0, A_DAY)
        deadline = monotonic() + timeout
        while True:
            state = self.state
            if state.operstate == "UP" and state.is_up and (not port or state.port_state == "forwarding"):
                return
            if monotonic() > deadline:
                seen = f"{state.operstate}{f', port {state.port_state}' if port else ''}"
                raise WaitTimeout(
                    f"interface {self.name!r} of {self.node.name!r}: waited {timeout:g} s until it is "
                    f"UP{' and forwarding' if port else ''}; it is {seen}; is the other end up?"
                )
            checkpoint()
            os.sched_yield()

    def wait_addresses(self, *, timeout: float = CARRIER_DEADLINE) -> None:
        """Wait until its IPv6 addresses answer to neighbours.

        Even without Duplicate Address Detection the kernel joins the multicast group in which neighbours ask for an
        address from a work queue (addrconf_dad_work()), and only then takes the "tentative" mark away. Whoever asks
        before that gets no answer and asks again a second later.

        Raises:
            WaitTimeout: not within ``timeout`` seconds.

        Example:
            >>> red.interfaces["eth0"].wait_addresses(timeout=5)
        """
        check_range("timeout", timeout, 0, A_DAY)
        deadline = monotonic() + timeout
        for turn in itertools.count(1):
            bodies = self.node.rtnl.dump(rtnetlink.address_dump(self.index))
            waiting = [body for body in bodies if is_tentative(body, self.index)]
            if not waiting:
                return
            if turn % 10 == 0 and not self.state.is_up:  # without a carrier they stay so, and nobody can ask
                return
            if monotonic() > deadline:
                shown = ", ".join(str(decode_address(body).address) for body in waiting)
                raise WaitTimeout(
                    f"interface {self.name!r} of {self.node.name!r}: waited {timeout:g} s for Duplicate Address "
                    f"Detection of {shown}; do the sysctls accept_dad and dad_transmits differ from 0?"
                )
            checkpoint()
            os.sched_yield()  # the kernel's worker is often queued on this very processor


class Interfaces(Mapping[str, Interface]):
    """The interfaces of a namespace by name, read from the kernel when this was made.

    Devices that kernel modules put into every new namespace (``sit0`` and the like), and those by which frames reach
    our relay, are found by name but not listed.
    """

    def __init__(self, node: Handle) -> None:
        self._node = node
        links = [decode_link(body) for body in node.rtnl.dump(rtnetlink.link_dump())]
        self._all = {link.name: Interface(node, link.name, link.index) for link in links}
        self._listed = [link.name for link in links if not is_hidden(link.name)]

    def __getitem__(self, name: str) -> Interface:
        try:
            return self._all[name]
        except KeyError:
            known = ", ".join(self._listed)
            raise KeyError(f"namespace {self._node.name!r} has no interface {name!r}; it has: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)

    def __repr__(self) -> str:
        return f"<interfaces of {self._node.name!r}: {', '.join(self._listed)}>"
