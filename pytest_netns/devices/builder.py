"""Device: an interface that a host was given, and how one is made so that a refusal leaves nothing."""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, TypeVar

from pytest_netns.addresses import IPV6_MIN_MTU, Address, AddressWithPrefix, parse_address
from pytest_netns.checks import A_DAY, check_range, is_whole
from pytest_netns.clock import monotonic
from pytest_netns.errors import KernelError, NetnsError, TopologyError, UnsupportedError, WaitTimeout
from pytest_netns.kernel.features.features import feature
from pytest_netns.kernel.interrupts import checkpoint
from pytest_netns.kernel.netlink import linkinfo, rtnetlink
from pytest_netns.kernel.netlink.linkinfo import LinkSpec, Value
from pytest_netns.stack.interface import CARRIER_DEADLINE, Interface
from pytest_netns.topology.naming import check_interface_name
from pytest_netns.topology.network import network_of
from pytest_netns.topology.owned_devices import forget_device, remember_device

if TYPE_CHECKING:
    from pytest_netns.topology.node import BaseNode

Addresses = str | IPv4Interface | IPv6Interface | Iterable[str | IPv4Interface | IPv6Interface] | None

#: Of devices on a link of another namespace: above all that ``InterfaceAllocator`` gives.
_indexes_abroad = itertools.count(1 << 20)
_CARRYING = ("UP", "UNKNOWN")  # most kinds without a cable never say more than UNKNOWN (RFC 2863)
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


class Device(Interface):
    """An interface that can be removed. Made by the ``add_...`` methods of a host.

    Attributes:
        lower: the interface that it lies upon, for a VLAN, macvlan or ipvlan; else None.
        remote: the remote endpoint of a tunnel that has one; else None.
        port: the UDP port that it sends to; None if it sends no UDP.

    Example:
        >>> device = red.add_dummy("dummy0", address="10.42.0.1/24")
        >>> device.remove()
    """

    node: BaseNode
    lower: Interface | None = None
    remote: Address | None = None
    port: int | None = None

    def __init__(self, node: BaseNode, name: str, index: int, kind: str) -> None:
        super().__init__(node, name, index)
        self._kind = kind
        self._removed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} ({self._kind}) of {self.node.name!r}>"

    @property
    def kind(self) -> str:
        """Its kind, as ip-link(8) calls it."""
        return self._kind

    @property
    def removed(self) -> bool:
        """True after ``remove()``."""
        return self._removed

    def remove(self) -> None:
        """``ip link delete``; allowed more than once. Takes some 15 ms (an RCU grace period).

        Example:
            >>> device = red.add_dummy("dummy0")
            >>> device.remove()
        """
        if self._removed:
            return
        self.node.impairments.forget(self)
        try:
            self.node.rtnl.batch([rtnetlink.link_delete(self.index, self.name)])
        except KernelError as error:
            if error.errno != errno.ENODEV:  # it went with the link that it lay upon
                raise
        self._removed = True
        forget_device(self.node, self)

    def _release(self) -> None:
        """Called before its host is closed."""

    def _lost(self) -> None:
        """Called when its host has crashed: it went with the namespace that was."""
        self._removed = True
        self._release()
        forget_device(self.node, self)

    def wait_up(self, *, port: bool = False, timeout: float = CARRIER_DEADLINE) -> None:
        """Wait until it carries frames.

        Args:
            port: whether it must forward too, as a bridge port.
            timeout: seconds to wait.

        Raises:
            WaitTimeout: not in time.

        Example:
            >>> red.add_dummy("dummy0").wait_up(timeout=5)
        """
        if port:
            super().wait_up(port=True, timeout=timeout)
            return
        check_range("timeout", timeout, 0, A_DAY)
        deadline = monotonic() + timeout
        while True:
            state = self.state
            if state.is_up and state.operstate in _CARRYING:
                return
            if monotonic() > deadline:
                raise WaitTimeout(
                    f"{self._kind} {self.name!r} of {self.node.name!r}: waited {timeout:g} s until it is up; it is "
                    f"{state.operstate}; is what it lies upon up?"
                )
            checkpoint()
            os.sched_yield()


_D = TypeVar("_D", bound=Device)


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """What all kinds have in common.

    Attributes:
        name: of the device.
        address: one or several, with prefix.
        mtu: in bytes; None for the kernel's choice.
        up: whether to set it up.
        mac: as text; None for one that is the same at each run, where the kind has one.
    """

    name: str
    address: Addresses = None
    mtu: int | None = None
    up: bool = True
    mac: str | None = None


def addresses_of(address: Addresses, where: str) -> list[AddressWithPrefix]:
    """Every address with its prefix. Raises TopologyError."""
    if address is None:
        return []
    if isinstance(address, str | bytes | IPv4Interface | IPv6Interface) or not isinstance(address, Iterable):
        return [parse_address(address, where)]
    return [parse_address(each, where) for each in address]


def _mac(text: str, where: str) -> bytes:
    if not isinstance(text, str) or not _MAC.fullmatch(text):
        raise TopologyError(f"{where}: mac is {text!r}; expected one such as '02:00:5e:10:00:01'")
    return bytes.fromhex(text.replace(":", ""))


def unsupported(error: KernelError, kind: str) -> NetnsError:
    """The error to raise for a refusal: that the kernel lacks the kind, if it does."""
    if error.errno == errno.EOPNOTSUPP and not (found := feature(kind)).present:
        return UnsupportedError(f"{error.operation!r} in namespace {error.node!r}: {found.reason}")
    return error


class DeviceBuilder:
    """Makes one device of a host, step by step; whatever is refused, nothing is left.

    Args:
        node: whose.
        kind: as ip-link(8) calls it.
        spec: what all kinds have in common.

    Raises:
        TopologyError: a bad name, address, MTU or MAC address.
    """

    def __init__(self, node: BaseNode, kind: str, spec: DeviceSpec) -> None:
        self.node = node
        self.kind = kind
        self.spec = spec
        self.where: str = f"{kind} {spec.name!r} of {node.name!r}"
        network_of(node)._check_running(node, f"give a {kind} to")
        check_interface_name(spec.name, f"{kind} of {node.name!r}")
        mtu = spec.mtu
        if mtu is not None and not is_whole(mtu, 1, (1 << 31) - 1):
            raise TopologyError(f"{self.where}: mtu is {mtu!r}; expected a number of bytes, e.g. 1400")
        self.addresses: list[AddressWithPrefix] = addresses_of(spec.address, self.where)
        if mtu is not None and mtu < IPV6_MIN_MTU and (six := [a for a in self.addresses if a.version == 6]):
            raise TopologyError(
                f"{self.where}: with an mtu of {mtu} it can have no IPv6 address, and {six[0]} was given; "
                f"IPv6 needs {IPV6_MIN_MTU} bytes (RFC 8200 section 5)"
            )
        self.given_mac: bytes | None = None if spec.mac is None else _mac(spec.mac, self.where)

    def mac(self) -> bytes:
        """The MAC address that was asked for, or one that no other interface of the lab has."""
        return self.given_mac or network_of(self.node)._mac_for(self.node.name, self.spec.name)

    def build(
        self,
        cls: type[_D],
        options: Mapping[str, Value] | None = None,
        *,
        link: Interface | None = None,
        mtu: int | None = None,
        has_mac: bool = True,
        finish: Callable[[_D], None] | None = None,
    ) -> _D:
        """Make it by netlink.

        Args:
            cls: the class of the result.
            options: by the keywords of ``pytest_netns.kernel.netlink.linkinfo.OPTIONS``.
            link: the interface that it lies upon.
            mtu: in bytes, unless another was asked for.
            has_mac: whether a MAC address is chosen for it if none was given.
            finish: called before it is set up and addressed.

        Raises:
            TopologyError: an option is out of range.
            UnsupportedError: the kernel lacks the kind.
            KernelError: the kernel refused.
        """
        name, born_as = self.spec.name, self.spec.name
        index = self.node.allocator.next_index()
        lower = None if link is None else (link.index, link.name)
        abroad = None
        if link is not None and link.node is not self.node:
            # On a link of another node, as a container's is. Older kernels (6.1) make the device there first, so its
            # index and its name must be free in both.
            abroad = linkinfo.namespace_number(self.node.rtnl, link.node.fd)
            index = next(_indexes_abroad)
            born_as = f"born{index:x}"
        mac = self.mac() if has_mac else self.given_mac
        try:
            request = linkinfo.device(
                LinkSpec(self.kind, born_as, index, options or {}, mac, self.spec.mtu or mtu, lower, abroad)
            )
        except ValueError as error:
            raise TopologyError(f"{self.where}: {error}") from None

        def create() -> None:
            try:
                self.node.rtnl.batch([request])
            except KernelError as error:
                raise unsupported(error, self.kind) from error

        def named(device: _D) -> None:
            if born_as != name:
                self.node.rtnl.batch([linkinfo.rename(index, born_as, name)])
            if finish is not None:
                finish(device)

        device = cls(self.node, name, index, self.kind)
        device.lower = link
        remote = (options or {}).get("remote")
        device.remote = None if isinstance(remote, int | str) else remote
        port = (options or {}).get("port")
        device.port = port if isinstance(port, int) else None
        return self.bring_up(device, create, named)

    def _check_free(self, name: str) -> None:
        """The kernel would refuse it too, but by another errno for each kind, and some of them by another name."""
        if name in self.node.interfaces:
            operation = f"ip link add {name} type {self.kind}"
            raise KernelError(errno.EEXIST, operation, self.node.name, f"{self.node.name!r} has an interface {name!r}")

    def bring_up(self, device: _D, create: Callable[[], None], finish: Callable[[_D], None] | None) -> _D:
        """Create a device, and give it what was asked for."""
        self._check_free(device.name)
        allocator = self.node.allocator
        with ExitStack() as undo:
            if allocator.reserve(device.name):
                undo.callback(allocator.release, device.name)
            undo.callback(device._release)
            create()
            undo.callback(_delete_quietly, device)
            if finish is not None:
                finish(device)
            requests = [rtnetlink.address_add(device.index, device.name, address) for address in self.addresses]
            if self.spec.up:
                requests.insert(0, rtnetlink.link_up(device.index, device.name))
            if requests:
                self.node.rtnl.batch(requests)
            if self.spec.up:
                device.state  # noqa: B018 - the kernel settles the carrier before it answers
                device.wait_addresses()
            undo.pop_all()
        remember_device(self.node, device)
        return device


def _delete_quietly(device: Device) -> None:
    try:
        device.node.rtnl.batch([rtnetlink.link_delete(device.index, device.name)])
    except NetnsError:
        pass  # the error that led here says why
