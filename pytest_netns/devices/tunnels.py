"""Tunnels: where one goes, and the device of VXLAN, which may have several far ends."""

from __future__ import annotations

import struct

from pytest_netns.addresses import Address, AddressWithPrefix
from pytest_netns.devices.builder import Device, Maker
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.netlink.linkinfo import Value
from pytest_netns.kernel.netlink.rtnetlink import AF_BRIDGE
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, Request, attribute
from pytest_netns.stack.destination import Destination, choose, resolve
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_NLM_F_APPEND = 0x800
_NUD_NOARP, _NUD_PERMANENT, _NTF_SELF = 0x40, 0x80, 0x02
_NDA_DST, _NDA_LLADDR = 1, 2
_GRE_KEY = 0x2000
#: Bytes that VXLAN adds to a packet (RFC 7348 5): outer IP, UDP, VXLAN and inner Ethernet headers.
_VXLAN_OVERHEAD = {4: 50, 6: 70}


#: Kinds of devices whose own addresses are no place for another tunnel's end.
TUNNELS = frozenset(
    {"geneve", "gre", "gretap", "ip6gre", "ip6gretap", "ip6tnl", "ipip", "sit", "tun", "vxlan", "wireguard"}
)


def far_end(device: Maker | Device, destination: Destination) -> Address:
    """The address of a far end; of a node, one that is not within a tunnel. Raises TopologyError."""
    if isinstance(destination, Namespace):
        target = choose(device.node, destination.name, _outside(destination), _outside(device.node))
    else:
        target = resolve(device.node, destination)
    return target.address


def _outside(node: Namespace) -> list[AddressWithPrefix]:
    inside = {
        address
        for each in getattr(node, "devices", ())
        if isinstance(each, Device) and each.kind in TUNNELS
        for address in each.addresses
    }
    return [address for address in node.addresses() if address not in inside]


def _end(maker: Maker, keyword: str, destination: Destination) -> Address:
    try:
        return far_end(maker, destination)
    except TopologyError as error:
        raise TopologyError(f"{maker.where}: {keyword}: {error}") from None


def ends(
    maker: Maker, remote: Destination | None, local: Destination | None, version: int | None = None
) -> dict[str, Value]:
    """The options of the two ends of a tunnel.

    Raises:
        TopologyError: they are no addresses, of two families, of the wrong one, or ``local`` is not this host's.
    """
    options: dict[str, Value] = {}
    if remote is not None:
        options["remote"] = _end(maker, "remote", remote)
    if local is not None:
        own = _end(maker, "local", local)
        if all(own != address.ip for address in maker.node.addresses()):
            raise TopologyError(f"{maker.where}: local {own} is not an address of {maker.node.name!r}")
        options["local"] = own
    found = {address.version for address in options.values() if not isinstance(address, int | str)}
    if len(found) > 1:
        raise TopologyError(
            f"{maker.where}: remote {options['remote']} and local {options['local']} are of two families"
        )
    if version is not None and found - {version}:
        given = ", ".join(f"{keyword} {address}" for keyword, address in options.items())
        raise TopologyError(f"{maker.where}: its ends are IPv{version} addresses, and this was given: {given}")
    return options


def version_of(options: dict[str, Value]) -> int:
    """Of the addresses of the ends, 4 if there are none."""
    return next((each.version for each in options.values() if not isinstance(each, int | str)), 4)


def key_options(key: int | None) -> dict[str, Value]:
    """A GRE key (RFC 2890 2.1), the same in both directions."""
    return {} if key is None else {"_iflags": _GRE_KEY, "_oflags": _GRE_KEY, "_ikey": key, "_okey": key}


def vxlan_mtu(maker: Maker, options: dict[str, Value], link: Interface | None) -> int | None:
    """What fits into one packet on the way to the far end; None if that is not known.

    The kernel works it out only where the tunnel is tied to an interface, and fragments otherwise.
    """
    remote = options.get("remote")
    if link is not None or remote is None or isinstance(remote, int | str):
        return None
    try:
        route = maker.node.route_to(remote)
    except KernelError:
        return None
    if route.interface is None or route.interface == "lo":
        return None
    return max(maker.node.interface(route.interface).mtu - _VXLAN_OVERHEAD[remote.version], 68)


class Vxlan(Device):
    """Ethernet in UDP (RFC 7348). Made by ``Host.add_vxlan``."""

    def add_remote(self, destination: Destination, mac: str = "00:00:00:00:00:00") -> None:
        """``bridge fdb append``: a further far end, to which what has no known place is copied.

        Args:
            destination: a node, an interface or an address.
            mac: only what goes to this MAC address.

        Raises:
            TopologyError: it is none of these.
            KernelError: the kernel refused, e.g. because it is there.
        """
        self._remote(_RTM_NEWNEIGH, NLM_F_CREATE | _NLM_F_APPEND, "append", destination, mac)

    def remove_remote(self, destination: Destination, mac: str = "00:00:00:00:00:00") -> None:
        """``bridge fdb delete``: take a far end away.

        Args:
            destination: a node, an interface or an address.
            mac: the MAC address with which it was added.

        Raises:
            TopologyError: it is none of these.
            KernelError: the kernel refused, e.g. because it is not there.
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
