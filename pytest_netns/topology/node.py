"""Node: a namespace with a place in a lab, and the questions it can put on the wire."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, ClassVar

from pytest_netns.addresses import Address, AddressWithPrefix
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netns import registry as directory
from pytest_netns.lab.prober import Prober
from pytest_netns.process.isolation import Isolation, Kind
from pytest_netns.process.supervisor import Supervisor
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_allocator import Slots
from pytest_netns.topology.saved_config import Losses

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.link import Link


@dataclass(frozen=True, slots=True)
class Failure:
    """A probe that failed, or a trace, which may have gone another way than was expected.

    Attributes:
        node: who asked.
        result: what came of it.
        question: which method of a node, or of a lab, asked.
        details: what else it takes to ask again.
        in_force: the faults and impairments of its lab at that time.
        at: when, in nanoseconds of ``time.monotonic_ns``.
    """

    node: Node
    result: object
    question: str
    details: tuple[object, ...]
    in_force: tuple[str, ...] = ()
    at: int = field(default_factory=time.monotonic_ns)


class Node(Prober):
    """A host, router or bridge. Made by its lab, not by hand.

    Attributes:
        lab: the lab that it is part of.
        isolation: what it has of its own beside the network; None unless it was made with ``isolate``.
        slots: which interface names and indexes are given out.
        losses: addresses and routes that it will have again.
    """

    #: Sysctls of this kind of node, between the baseline and what its author asks for.
    born_with: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        lab: Lab,
        name: str,
        sysctls: Mapping[str, str | int],
        *,
        existing: int | None = None,
        slots: Slots | None = None,
    ) -> None:
        self.sysctls_at_birth: dict[str, str | int] = {**self.born_with, **sysctls}
        super().__init__(
            name, sysctls=self.sysctls_at_birth, supervisor=lab.supervisor, existing=existing, lab_name=lab.name
        )
        self.lab = lab
        self.slots: Slots = slots or Slots()
        self.losses: Losses = Losses(self)
        self.isolation: Isolation | None = None
        self._impairments = lab.impairments
        self._owns_impairments = False

    def isolate(self, kinds: Iterable[Kind]) -> None:
        """Give it more of its own than a network; called by its lab before anything runs in it.

        Args:
            kinds: of ``"mount"``, ``"uts"`` and ``"pid"``.
        """
        self.isolation = Isolation(kinds, self.name, self.fd, self.lab.visible)
        self._supervisor = Supervisor(self.isolation)
        self._owns_supervisor = True
        directory.enter(self.fd, self.inode, self.lab.name, self.name, self._supervisor.start())

    def before_entry(self) -> None:
        """Called before a thread or a process of the test goes inside."""
        if self.isolation is not None:
            self.lab.dns.refresh()

    def enter_thread(self) -> None:
        """Move the calling thread inside for good, with all that the host has of its own. Not the main thread."""
        super().enter_thread()
        if self.isolation is not None:
            self.isolation.enter()

    def environment(self) -> dict[str, str]:
        """The environment of its processes unless they are given another."""
        if self.isolation is not None and "mount" in self.isolation.kinds:
            return dict(os.environ)  # its /run is its own, and so are the locks in it
        return super().environment()

    def postpone(self, end: Interface) -> bool:
        """Called when a link of it is about to be set up: True if ``end`` is set up later."""
        del end
        return False

    def forget_end(self, end: Interface) -> None:
        """Called when the link was removed of which ``end`` was here."""
        self.losses.forget(end)

    def next_index(self) -> int:
        """An interface index that is free."""
        return self.slots.next_index()

    def _leave_impairments(self) -> list[Exception]:
        if any(other is not self and other.inode == self.inode and not other.closed for other in self.lab):
            return []  # somebody shares the namespace
        errors = super()._leave_impairments()
        if self.lab.impairments.in_force() and not self.lab.is_adopted(self):
            for link in self.links:  # what is at their other ends goes with the namespace
                if not (far := link.other(link.end(self))).node.closed:
                    self.lab.impairments.forget(far)
        return errors

    @property
    def links(self) -> list[Link]:
        """The links that end here, in the order of their making."""
        return [link for link in self.lab.links if self in (link.a.node, link.b.node)]

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
            if isinstance(address.ip, IPv6Address) and not address.is_link_local:
                return address.ip
        raise TopologyError(f"{self.name!r} has no IPv6 address beyond link-local")

    @property
    def ip(self) -> Address:
        """Its first address, IPv4 if it has one. Raises TopologyError if it has none."""
        for address in self.addresses():
            if not address.is_link_local:
                return address.ip
        raise TopologyError(f"{self.name!r} has no address")

    @property
    def primary(self) -> Interface:
        """Its first interface beside loopback. Raises TopologyError if it has none."""
        for name, interface in self.interfaces.items():
            if name != "lo":
                return interface
        raise TopologyError(f"{self.name!r} has no interface yet; connect it to something")

    @property
    def mac(self) -> str:
        """MAC address of its first interface. Raises TopologyError if it has none."""
        return self.primary.mac

    def add_address(self, address: str | AddressWithPrefix, interface: str | Interface | None = None) -> None:
        """``ip address add``, on the first interface unless another is named; usable when this returns.

        Args:
            address: with its prefix, e.g. ``"10.0.0.1/24"``.
            interface: one of its interfaces, by object or name.

        Raises:
            TopologyError: no such interface, or an address without a prefix.
            KernelError: the kernel refused it, e.g. because it is there already.
        """
        if interface is None:
            interface = self.primary
        elif isinstance(interface, str):
            interface = self.interface(interface)
        elif interface.node is not self:
            raise TopologyError(f"{interface!r} is not an interface of {self.name!r}")
        interface.add_address(address)

    def node_names(self) -> dict[Address, str]:
        """Which node of its lab has an address."""
        return {address.ip: node.name for node in self.lab if not node.closed for address in node.addresses()}

    def note_failure(self, result: object, question: str, *details: object) -> None:
        """Keep a falsy result, or a trace, should somebody want to know why.

        Args:
            result: what came of it.
            question: which method of a node, or of a lab, asked.
            details: what else it takes to ask again.
        """
        self.lab.failed.append(Failure(self, result, question, details, self.lab.in_force()))

    def note_capture(self, capture: Capture) -> None:
        """Have ``capture`` remembered by its lab, should its test fail."""
        self.lab.note_capture(capture)
