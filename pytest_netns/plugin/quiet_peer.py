"""QuietPeer: the far end of an isolated namespace's ``eth0``, so that it looks like a machine on a network.

With an interface, addresses and a default route, a program can find its own address by ``connect()`` on a UDP socket,
and join multicast groups. No packet gets out: the far end is a namespace that does not forward and answers only for its
own two addresses.
"""

from __future__ import annotations

import ipaddress

from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.rtnetlink import VethEnd
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

#: Private addresses, as QEMU's user network gives virtual machines; for IPv6, a similar unique local prefix (RFC 4193).
_HERE = ("10.0.2.15/24", "fd00:a00:2::f/64")
_THERE = ("10.0.2.2/24", "fd00:a00:2::2/64")
_INDEX = 1000
_MACS = (b"\x02\x00\x0a\x00\x02\x0f", b"\x02\x00\x0a\x00\x02\x02")
_GROUPS = "224.0.0.0/4"


class QuietPeer:
    """The far end of an interface.

    Args:
        namespace: the namespace that gets the interface.
        interface: name of the interface.

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
        """Close the peer's namespace, which removes the interface too."""
        self._peer.close()

    @property
    def namespace(self) -> Namespace:
        """The peer's own namespace."""
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
