"""QuietPeer: what an isolated namespace sees behind its ``eth0``, so that it looks like a machine on a network.

A machine that has an interface with addresses and a default route can tell its own address, by ``connect()`` of a UDP
socket, and join multicast groups. Nothing gets out: the far end is a namespace of ours that forwards nothing, and that
answers for its own two addresses only.
"""

from __future__ import annotations

import ipaddress

from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.rtnetlink import VethEnd
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

#: Private, and what virtual machines have by default (QEMU's user network); the IPv6 one is its unique local likeness.
_HERE = ("10.0.2.15/24", "fd00:a00:2::f/64")
_THERE = ("10.0.2.2/24", "fd00:a00:2::2/64")
_INDEX = 1000
_MACS = (b"\x02\x00\x0a\x00\x02\x0f", b"\x02\x00\x0a\x00\x02\x02")
_GROUPS = "224.0.0.0/4"


class QuietPeer:
    """The far end of an interface.

    Args:
        namespace: that gets the interface.
        interface: its name.

    Raises:
        KernelError: the kernel refused.
    """

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self._peer = Namespace(f"peer of {namespace.name}"[:60], apart=True)
        try:
            self._connect(namespace, Interface(namespace, interface, _INDEX))
        except BaseException:
            self._peer.close()
            raise

    def close(self) -> None:
        """The interface goes with it."""
        self._peer.close()

    @property
    def namespace(self) -> Namespace:
        """Its own."""
        return self._peer

    def _connect(self, namespace: Namespace, near: Interface) -> None:
        far = Interface(self._peer, "eth0", _INDEX)
        here = [ipaddress.ip_interface(text) for text in _HERE]
        there = [ipaddress.ip_interface(text) for text in _THERE]
        namespace.rtnl.batch(
            [
                rtnetlink.veth(
                    VethEnd(near.name, near.index, _MACS[0]),
                    VethEnd(far.name, far.index, _MACS[1]),
                    self._peer.fd,
                    None,
                )
            ]
        )
        families = [4, 6] if "net.ipv6.conf.all.forwarding" in self._peer.sysctl else [4]
        self._peer.rtnl.batch(
            [
                rtnetlink.link_up(far.index, far.name),
                *(rtnetlink.address_add(far.index, far.name, each) for each in there if each.version in families),
            ]
        )
        requests = [rtnetlink.address_add(near.index, near.name, each) for each in here if each.version in families]
        namespace.rtnl.batch(requests)
        near.wait_up()
        far.wait_up()
        near.wait_addresses()
        any_address = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}
        namespace.rtnl.batch(
            [
                rtnetlink.route_add(ipaddress.ip_network(_GROUPS), None, near.index),
                *(
                    rtnetlink.route_add(any_address[each.version], each.ip, near.index)
                    for each in there
                    if each.version in families
                ),
            ]
        )
