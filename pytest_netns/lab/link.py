"""Link: a veth between two nodes, and how one is made."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError, NetnsError, TopologyError
from pytest_netns.interface import Interface
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Request, attributes
from pytest_netns.kernel.rtnetlink import AddressWithPrefix, VethEnd

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.pattern import Pattern
    from pytest_netns.lab.addressing import Segment
    from pytest_netns.lab.bridge import Bridge
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.node import Node

_RTPROT_KERNEL = 2
_RTN_UNICAST = 1
_RTA_OIF = 4


@dataclass(slots=True)
class End:
    """One end of a link that is to be made."""

    node: Node
    interface: str
    addresses: Sequence[AddressWithPrefix] = ()
    bridge: Bridge | None = None


class Link:
    """A veth: ``a`` and ``b`` are its two ends. What goes in at one comes out at the other."""

    def __init__(
        self,
        lab: Lab,
        ends: tuple[Interface, Interface],
        segment: Segment,
        owned: bool,
        given: Sequence[AddressWithPrefix] = (),
    ) -> None:
        self.lab = lab
        self.a, self.b = ends
        self._given = list(given)
        self._segment = segment
        self._owns_segment = owned
        self._removed = False
        self._routes: list[tuple[Interface, bytes]] = []

    def __repr__(self) -> str:
        return f"<Link {self.a} -- {self.b}{' removed' if self._removed else ''}>"

    @property
    def removed(self) -> bool:
        """True after ``remove()``."""
        return self._removed

    @property
    def interfaces(self) -> tuple[Interface, Interface]:
        """Both ends."""
        return self.a, self.b

    def end(self, node: Node) -> Interface:
        """The end that is in a node. Raises TopologyError if neither is."""
        for interface in self.interfaces:
            if interface.node is node:
                return interface
        raise TopologyError(f"{self!r} has no end in {node.name!r}")

    def _check(self) -> None:
        if self._removed:
            raise TopologyError(f"{self!r}: it was removed; connect the nodes anew")

    @property
    def is_up(self) -> bool:
        """Whether it carries frames."""
        self._check()
        return self.a.is_up and self.b.is_up

    def down(self) -> None:
        """Set both ends down, as if the cable were pulled. Addresses stay, and ``up()`` brings the routes back."""
        self._check()
        for end in self.interfaces:
            self._routes += [(end, body) for body in _routes_through(end)]
        for end in self.interfaces:
            end.down()

    def up(self) -> None:
        """Set both ends up, wait for the carrier, and restore the routes that the kernel forgot at ``down()``."""
        self._check()
        for end in self.interfaces:
            end.up()
        for end in self.interfaces:
            end.wait_up()
            end.wait_addresses()
        routes, self._routes = self._routes, []
        for end, body in routes:
            end.node.rtnl.batch(
                [
                    Request(
                        rtnetlink.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"ip route restore dev {end.name}"
                    )
                ]
            )

    def capture(
        self,
        filter: str | Pattern | None = None,
        *,
        chatter: bool = False,
    ) -> Capture:
        """Capture the frames on this link, both directions, each once. See ``Node.capture``."""
        from pytest_netns.capture.capture import Capture

        self._check()
        return Capture(f"{self.a}--{self.b}", lambda: [(self.a.node, self.a.name)], filter, chatter)

    def remove(self) -> None:
        """Delete both ends: removing one removes the other. Takes some 15 ms (an RCU grace period)."""
        self._check()
        addresses = [*self._given, *(address for end in self.interfaces for address in end.addresses)]
        try:
            self.a.node.rtnl.batch([rtnetlink.link_delete(self.a.index, self.a.name)])
        except KernelError as error:
            if error.errno != errno.ENODEV:  # somebody has deleted it by hand: what is left to do is ours
                raise
        self._removed = True
        self._segment.release(addresses)
        if self._owns_segment:
            self.lab.plan.free(self._segment.networks)
        self.lab.forget(self)


def _routes_through(interface: Interface) -> list[bytes]:
    """Routes that somebody added through an interface, as the kernel dumps them. It makes the others itself."""
    found = []
    for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6):
        for body in interface.node.rtnl.dump(rtnetlink.route_dump(family)):
            protocol, kind = body[5], body[7]
            index = attributes(body, 12).get(_RTA_OIF)
            if index == struct.pack("=I", interface.index) and kind == _RTN_UNICAST and protocol != _RTPROT_KERNEL:
                found.append(body)
    return found


def make_veth(lab: Lab, a: End, b: End, mtu: int | None) -> tuple[Interface, Interface]:
    """Make a veth straight inside two namespaces, addressed, and return when the first packet gets through.

    On failure nothing is left of it.
    """
    # Explicit indexes spare the look-ups. They start high: some kernel modules put devices of their own into every
    # new namespace, at 2 and above.
    ends = [Interface(end.node, end.interface, end.node.slots.next_index()) for end in (a, b)]
    macs = [lab.mac_for(end.node.name, end.interface) for end in (a, b)]
    near = [
        rtnetlink.veth(
            VethEnd(a.interface, ends[0].index, macs[0]),
            VethEnd(b.interface, ends[1].index, macs[1]),
            b.node.fd,
            mtu,
            up=a.bridge is None,
        ),
        *_configure(a, ends[0], created_up=True),
    ]
    with ExitStack() as undo:
        undo.callback(_delete_quietly, ends[0])
        a.node.rtnl.batch(near)
        b.node.rtnl.batch(_configure(b, ends[1], created_up=False))
        for end, interface in zip((a, b), ends, strict=True):
            # A spanning tree takes many seconds: who has asked for one awaits it by Bridge.wait_converged().
            interface.wait_up(port=end.bridge is not None and not end.bridge.settings.stp)
            # A link-local address alone is awaited only where there is no other to use.
            if end.bridge is None and (not end.addresses or any(each.version == 6 for each in end.addresses)):
                interface.wait_addresses()
        undo.pop_all()
    return ends[0], ends[1]


def _configure(end: End, interface: Interface, created_up: bool) -> list[Request]:
    requests = []
    if end.bridge is not None:
        device = end.bridge.device
        requests += rtnetlink.port_up(interface.index, interface.name, device.index, device.name)
    elif not created_up:
        requests.append(rtnetlink.link_up(interface.index, interface.name))
    requests += [rtnetlink.address_add(interface.index, interface.name, address) for address in end.addresses]
    return requests


def _delete_quietly(interface: Interface) -> None:
    try:
        interface.node.rtnl.batch([rtnetlink.link_delete(interface.index, interface.name)])
    except NetnsError:
        pass  # it was never made: the error that led here says why
