"""Interface: one network device of a namespace."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError, TopologyError, WaitTimeout
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.rtnetlink import AddressWithPrefix
from pytest_netns.kernel.tables import LinkState, decode_address, decode_link, in_order, is_tentative

if TYPE_CHECKING:
    from pytest_netns.namespace import Namespace

#: Seconds to wait for a carrier. It takes microseconds; this is for a machine that is stuck.
CARRIER_DEADLINE = 5.0

#: Names of the devices that some kernel modules put into every new namespace (net.core.fb_tunnels_only_for_init_net).
FALLBACK_DEVICES = frozenset(
    {"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}
)


def parse_address(value: object, what: str) -> AddressWithPrefix:
    """An address with its prefix, from text or an ipaddress object.

    Raises:
        TopologyError: it is none, or lacks the prefix.
    """
    try:
        address = ip_interface(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise TopologyError(
            f"{what}: {value!r} is not an address with a prefix such as '10.0.0.1/24' ({error})"
        ) from None
    if isinstance(value, str) and "/" not in value:
        raise TopologyError(f"{what}: {value!r} lacks its prefix length; write e.g. '{value}/24'")
    return address


class Interface:
    """A network device, by name and index. What it shows is asked of the kernel at each access.

    Two are equal if they are the same device of the same namespace.
    """

    def __init__(self, node: Namespace, name: str, index: int) -> None:
        self.node = node
        self.name = name
        self.index = index

    def __repr__(self) -> str:
        return f"<Interface {self.name!r} of {self.node.name!r}>"

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
        """Largest IP packet in bytes that it sends in one frame. Can be set; raises KernelError out of range."""
        return self.state.mtu

    @mtu.setter
    def mtu(self, value: int) -> None:
        self.node.rtnl.batch([rtnetlink.link_mtu(self.index, self.name, value)])

    @property
    def is_up(self) -> bool:
        """Whether it can carry a frame now: it is set up, and so is its far end."""
        return self.state.is_up

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """Its addresses in the order of their adding, IPv4 first, link-local ones last."""
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

    def add_address(self, address: str | AddressWithPrefix) -> None:
        """``ip address add``; usable when this returns.

        Raises:
            TopologyError: it is no address, or lacks its prefix.
            KernelError: e.g. it is there already.
        """
        parsed = parse_address(address, f"interface {self.name!r} of {self.node.name!r}")
        self.node.rtnl.batch([rtnetlink.address_add(self.index, self.name, parsed)])
        if parsed.version == 6:
            self.wait_addresses()

    def remove_address(self, address: str | AddressWithPrefix) -> None:
        """``ip address delete``. Raises TopologyError, KernelError."""
        parsed = parse_address(address, f"interface {self.name!r} of {self.node.name!r}")
        self.node.rtnl.batch([rtnetlink.address_delete(self.index, self.name, parsed)])

    def up(self) -> None:
        """``ip link set up``. Does not wait for a carrier: the far end may be down."""
        self.node.rtnl.batch([rtnetlink.link_up(self.index, self.name)])

    def down(self) -> None:
        """``ip link set down``. The kernel forgets the routes through it."""
        self.node.rtnl.batch([rtnetlink.link_down(self.index, self.name)])

    def wait_up(self, *, port: bool = False, timeout: float = CARRIER_DEADLINE) -> None:
        """Wait until it carries frames, and as a bridge port forwards them.

        A link that has just come up still drops its first frames until the kernel's linkwatch work has run, which
        costs the sender a second (the ARP retry). RTM_GETLINK makes it run.

        Raises:
            WaitTimeout: not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            state = self.state
            if state.operstate == "UP" and (not port or state.port_state == "forwarding"):
                return
            if time.monotonic() > deadline:
                seen = f"{state.operstate}{f', port {state.port_state}' if port else ''}"
                raise WaitTimeout(
                    f"interface {self.name!r} of {self.node.name!r}: waited {timeout:g} s until it is "
                    f"UP{' and forwarding' if port else ''}; it is {seen}; is the other end up?"
                )
            os.sched_yield()

    def wait_addresses(self, *, timeout: float = CARRIER_DEADLINE) -> None:
        """Wait until its IPv6 addresses answer to neighbours.

        Even without Duplicate Address Detection the kernel joins the multicast group in which neighbours ask for an
        address from a work queue (addrconf_dad_work()), and only then takes the "tentative" mark away. Whoever asks
        before that gets no answer and asks again a second later.

        Raises:
            WaitTimeout: not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        for turn in itertools.count(1):
            bodies = self.node.rtnl.dump(rtnetlink.address_dump(self.index))
            waiting = [body for body in bodies if is_tentative(body, self.index)]
            if not waiting:
                return
            if turn % 10 == 0 and not self.state.is_up:  # without a carrier they stay so, and nobody can ask
                return
            if time.monotonic() > deadline:
                shown = ", ".join(str(decode_address(body).address) for body in waiting)
                raise WaitTimeout(
                    f"interface {self.name!r} of {self.node.name!r}: waited {timeout:g} s for Duplicate Address "
                    f"Detection of {shown}; do the sysctls accept_dad and dad_transmits differ from 0?"
                )
            os.sched_yield()  # the kernel's worker is often queued on this very processor


class Interfaces(Mapping[str, Interface]):
    """The interfaces of a namespace by name, read from the kernel when this was made.

    Devices that kernel modules put into every new namespace (``sit0`` and the like) are found by name but not listed.
    """

    def __init__(self, node: Namespace) -> None:
        self._node = node
        links = [decode_link(body) for body in node.rtnl.dump(rtnetlink.link_dump())]
        self._all = {link.name: Interface(node, link.name, link.index) for link in links}
        self._listed = [link.name for link in links if link.name not in FALLBACK_DEVICES]

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
