"""How a host is given a TUN or a TAP device."""

from __future__ import annotations

from pytest_netns.devices.builder import Addresses, Device, DeviceBuilder, DeviceSpec
from pytest_netns.devices.tuntap import Tap, Tun
from pytest_netns.kernel.netlink import linkinfo, rtnetlink
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.topology.network import network_of
from pytest_netns.topology.node import BaseNode


def add_tun(
    host: BaseNode,
    name: str,
    *,
    chatter: bool = False,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
) -> Tun:
    """``ip tuntap add NAME mode tun``: IP packets that the test itself reads (``recv``) and writes (``send``).

    Args:
        name: of the device: 1 to 15 bytes.
        chatter: keep neighbour discovery, MLD and IGMP, the background traffic of hosts.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> tun = red.add_tun("tun0", address="10.42.0.1/24")
        >>> tun.send(IP(src="10.42.0.2", dst="10.42.0.1") / ICMP())
    """
    return _open_tun(DeviceBuilder(host, "tun", DeviceSpec(name, address, mtu, up)), chatter)


def _open_tun(builder: DeviceBuilder, chatter: bool) -> Tun:
    """Make a TUN device. It gets no link-local address: without a MAC address that would be a random one."""

    def finish(device: Tun) -> None:
        builder.node.rtnl.batch([linkinfo.no_link_local(device.index, device.name), *_mtu(builder, device)])

    device = Tun(builder.node, builder.spec.name, builder.node.allocator.next_index(), "tun")
    return builder.bring_up(device, lambda: device.open(chatter), finish)


def add_tap(
    host: BaseNode,
    name: str,
    *,
    chatter: bool = False,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Tap:
    """``ip tuntap add NAME mode tap``: Ethernet frames that the test itself reads (``recv``) and writes (``send``).

    Args:
        name: of the device: 1 to 15 bytes.
        chatter: keep neighbour discovery, MLD and IGMP, the background traffic of hosts.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> tap = red.add_tap("tap0", address="10.42.0.1/24")
        >>> tap.send(Ether() / ARP(psrc="10.42.0.2", pdst="10.42.0.1"))
    """
    return _open_tap(DeviceBuilder(host, "tap", DeviceSpec(name, address, mtu, up, mac)), chatter)


def _open_tap(builder: DeviceBuilder, chatter: bool) -> Tap:
    """Make a TAP device."""

    def finish(device: Tap) -> None:
        builder.node.rtnl.batch([linkinfo.set_mac(device.index, device.name, builder.mac()), *_mtu(builder, device)])

    device = Tap(builder.node, builder.spec.name, builder.node.allocator.next_index(), "tap")
    device.peer_mac = network_of(builder.node)._mac_for(builder.node.name, f"{device.name} peer").hex(":")
    return builder.bring_up(device, lambda: device.open(chatter), finish)


def _mtu(builder: DeviceBuilder, device: Device) -> list[Request]:
    mtu = builder.spec.mtu
    return [] if mtu is None else [rtnetlink.link_mtu(device.index, device.name, mtu)]
