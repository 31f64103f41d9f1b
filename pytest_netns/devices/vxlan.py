"""VXLAN: Ethernet in UDP (RFC 7348)."""

from __future__ import annotations

import struct

from pytest_netns.devices.builder import Addresses, Device, DeviceBuilder, DeviceSpec
from pytest_netns.devices.tunnels import ends, far_end, tied_options, ttl_options
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.netlink.linkinfo import Value
from pytest_netns.kernel.netlink.rtnetlink import AF_BRIDGE
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, Request, attribute
from pytest_netns.stack.destination import Destination
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_lookup import own_interface
from pytest_netns.topology.node import BaseNode

_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_NLM_F_APPEND = 0x800
_NUD_NOARP, _NUD_PERMANENT, _NTF_SELF = 0x40, 0x80, 0x02
_NDA_DST, _NDA_LLADDR = 1, 2
#: Bytes that VXLAN adds to a packet (RFC 7348 5): outer IP, UDP, VXLAN and inner Ethernet headers.
_VXLAN_OVERHEAD = {4: 50, 6: 70}


def _mtu(builder: DeviceBuilder, options: dict[str, Value], link: Interface | None) -> int | None:
    """What fits into one packet on the way to the far end; None if that is not known.

    The kernel works it out only where the tunnel is tied to an interface, and fragments otherwise.
    """
    remote = options.get("remote")
    if link is not None or remote is None or isinstance(remote, int | str):
        return None
    try:
        route = builder.node.route_to(remote)
    except KernelError:
        return None
    if route.interface is None or route.interface == "lo":
        return None
    return max(builder.node.interface(route.interface).mtu - _VXLAN_OVERHEAD[remote.version], 68)


class Vxlan(Device):
    """Ethernet in UDP (RFC 7348). Created by ``Host.add_vxlan``.

    Example:
        >>> vxlan = red.add_vxlan("vx0", 42, address="10.42.0.1/24")
        >>> vxlan.add_remote(blue)
    """

    def add_remote(self, destination: Destination, mac: str = "00:00:00:00:00:00") -> None:
        """``bridge fdb append``: another remote VTEP; frames to unknown MAC addresses are flooded to it.

        Args:
            destination: a node, an interface or an address.
            mac: only what goes to this MAC address.

        Raises:
            TopologyError: it is none of these.
            KernelError: the kernel refused, e.g. because it is there.

        Example:
            >>> vxlan = red.add_vxlan("vx0", 42)
            >>> vxlan.add_remote(blue)
        """
        self._remote(_RTM_NEWNEIGH, NLM_F_CREATE | _NLM_F_APPEND, "append", destination, mac)

    def remove_remote(self, destination: Destination, mac: str = "00:00:00:00:00:00") -> None:
        """``bridge fdb delete``: remove a remote VTEP.

        Args:
            destination: a node, an interface or an address.
            mac: the MAC address with which it was added.

        Raises:
            TopologyError: it is none of these.
            KernelError: the kernel refused, e.g. because it is not there.

        Example:
            >>> vxlan = red.add_vxlan("vx0", 42)
            >>> vxlan.add_remote(blue)
            >>> vxlan.remove_remote(blue)
        """
        self._remote(_RTM_DELNEIGH, 0, "delete", destination, mac)

    def _remote(self, kind: int, flags: int, verb: str, destination: Destination, mac: str) -> None:
        address = far_end(self, destination)
        try:
            hardware = bytes.fromhex(mac.replace(":", ""))
        except ValueError:
            hardware = b""
        if len(hardware) != 6:
            raise TopologyError(f"{self!r}: mac is {mac!r}; expected one such as '02:00:5e:10:00:01'")
        body = struct.pack("=BxxxiHBB", AF_BRIDGE, self.index, _NUD_PERMANENT | _NUD_NOARP, _NTF_SELF, 0)
        body += attribute(_NDA_LLADDR, hardware) + attribute(_NDA_DST, address.packed)
        words = f"bridge fdb {verb} {mac} dev {self.name} dst {address}"
        self.node.rtnl.batch([Request(kind, flags, body, words)])


def add_vxlan(
    host: BaseNode,
    name: str,
    vni: int,
    *,
    remote: Destination | None = None,
    local: Destination | None = None,
    link: str | Interface | BaseNode | None = None,
    port: int = 4789,
    ttl: int | None = None,
    learning: bool = True,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Vxlan:
    """``ip link add NAME type vxlan``: Ethernet in UDP (RFC 7348).

    Args:
        name: of the device: 1 to 15 bytes.
        vni: network identifier, 0 to 16777215.
        remote: the remote endpoint: a node, an interface, an address, or a multicast group, which needs ``link``;
            None: those of ``Vxlan.add_remote``.
        local: source address of the outer packets; None: chosen by the routes.
        link: the underlying interface; None: chosen by the routes.
        port: UDP port of both ends.
        ttl: of the outer packets, 0 to 255; None: the kernel's default.
        learning: whether it learns MAC addresses from received packets.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: None for what fits into one packet on the way to ``remote``.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_vxlan("vx0", vni=42, remote=blue, address="10.42.0.1/24")
        >>> blue.add_vxlan("vx0", vni=42, remote=red, address="10.42.0.2/24")
    """
    builder = DeviceBuilder(host, "vxlan", DeviceSpec(name, address, mtu, up, mac))
    tied = None if link is None else own_interface(host, link, builder.where)
    options = {"vni": vni, **ends(builder, remote, local), **tied_options(tied), **ttl_options(ttl)}
    options |= {"port": port, "learning": int(learning)}
    return builder.build(Vxlan, options, mtu=_mtu(builder, options, tied))
