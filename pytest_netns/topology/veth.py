"""Veth: how the two interfaces of a link are made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pytest_netns.addresses import AddressWithPrefix
from pytest_netns.errors import KernelError, NetnsError, TopologyError
from pytest_netns.kernel.ethtool import disable_offload
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.rtnetlink import VethEnd
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.views import link_names
from pytest_netns.topology.network import Network
from pytest_netns.topology.node import BaseNode


@dataclass(slots=True)
class End:
    """One end of a link that is to be made; ``bridge`` is the device that it becomes a port of, if any.

    Its MAC address and its index are chosen for it where none is given.
    """

    node: BaseNode
    interface: str
    addresses: Sequence[AddressWithPrefix] = ()
    bridge: Interface | None = None
    mac: bytes | None = None
    index: int | None = None

    def new_interface(self) -> Interface:
        """It, under an index that is free unless one was asked for. Raises TopologyError if that is taken."""
        allocator = self.node.allocator
        if self.index is None:
            return Interface(self.node, self.interface, allocator.next_index())
        # Not left to the kernel: what is undone when it refuses would be that of somebody else.
        if (owner := link_names(self.node).get(self.index)) is not None:
            raise TopologyError(f"index {self.index} is that of {owner!r} in {self.node.name!r} already")
        return Interface(self.node, self.interface, allocator.reserve_index(self.index))


def make_veth(network: Network, a: End, b: End, mtu: int | None, offload: bool) -> tuple[Interface, Interface]:
    """Make a veth straight inside two namespaces, addressed, and return when the first packet gets through.

    On failure nothing is left of it.

    Args:
        network: what it is part of.
        a: one end.
        b: the other end.
        mtu: largest IP packet in bytes; 1500 if None.
        offload: whether its ends take frames that are not finished.
    """
    # Explicit indexes spare the look-ups. They start high: some kernel modules put devices of their own into every
    # new namespace, at 2 and above.
    ends = [end.new_interface() for end in (a, b)]
    macs = [end.mac or network._mac_for(end.node.name, end.interface) for end in (a, b)]
    veth = rtnetlink.veth(
        VethEnd(a.interface, ends[0].index, macs[0]),
        VethEnd(b.interface, ends[1].index, macs[1]),
        b.node.fd,
        mtu,
        up=a.bridge is None,
    )
    # Where others make interfaces as well, the veth is asked for alone: if the index is taken, what follows would be
    # done to an interface of theirs. Elsewhere that would make a cable 5 % slower.
    shared = any(end.node.allocator.present is not None for end in (a, b))
    near = _configure(a, ends[0], mtu, created_up=True)
    with ExitStack() as undo:
        undo.callback(_delete_quietly, ends[0])
        try:
            a.node.rtnl.batch([veth] if shared else [veth, *near])
        except KernelError:
            if shared:
                undo.pop_all()  # nothing was made
            raise
        if shared and near:
            a.node.rtnl.batch(near)
        b.node.rtnl.batch(_configure(b, ends[1], mtu, created_up=False))
        for interface in () if offload else ends:
            disable_offload(interface.node, interface.node.name, interface.name)
        for end, interface in zip((a, b), ends, strict=True):
            # A spanning tree takes many seconds: who has asked for one awaits it by Bridge.wait_converged().
            interface.wait_up(port=end.bridge is not None and not end.node._waits_for_stp)
            # A link-local address alone is awaited only where there is no other to use.
            if end.bridge is None and (not end.addresses or any(each.version == 6 for each in end.addresses)):
                interface.wait_addresses()
        undo.pop_all()
    return ends[0], ends[1]


def _configure(end: End, interface: Interface, mtu: int | None, created_up: bool) -> list[Request]:
    requests = []
    if end.bridge is not None:
        device = end.bridge
        requests += rtnetlink.port_up(interface.index, interface.name, device.index, device.name, mtu)
    elif not created_up:
        requests.append(rtnetlink.link_up(interface.index, interface.name))
    requests += [rtnetlink.address_add(interface.index, interface.name, address) for address in end.addresses]
    return requests


def _delete_quietly(interface: Interface) -> None:
    try:
        interface.node.rtnl.batch([rtnetlink.link_delete(interface.index, interface.name)])
    except NetnsError:
        pass  # it is gone already: the error that led here says why
