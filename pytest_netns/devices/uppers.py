"""Devices that lie upon an interface: VLANs, macvlan, macvtap, ipvlan."""

from __future__ import annotations

from typing import Literal

from pytest_netns.devices.builder import Addresses, Device, DeviceBuilder, DeviceSpec
from pytest_netns.kernel.netlink.linkinfo import Value
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_lookup import lower_interface
from pytest_netns.topology.node import BaseNode

MacvlanMode = Literal["bridge", "private", "vepa", "passthru"]


def add_vlan(
    host: BaseNode,
    name: str,
    vid: int,
    *,
    link: str | Interface | BaseNode | None = None,
    protocol: Literal["802.1Q", "802.1ad"] = "802.1Q",
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Device:
    """``ip link add link LINK NAME type vlan``: what is sent there leaves the link with a tag (IEEE 802.1Q).

    Args:
        name: of the device: 1 to 15 bytes.
        vid: VLAN identifier, 1 to 4094.
        link: an interface of this host, or the node that it leads to; its first one if None. Another VLAN is
            possible: two tags (QinQ); and an interface of another host, whose container this one is.
        protocol: ``"802.1ad"`` for the outer one of two.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: that of the link if None.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_vlan("eth0.10", 10, address="10.10.0.1/24")
        >>> blue.add_vlan("eth0.10", 10, address="10.10.0.2/24")
    """
    builder = DeviceBuilder(host, "vlan", DeviceSpec(name, address, mtu, up, mac))
    options: dict[str, Value] = {"protocol": protocol, "vid": vid}
    return builder.build(Device, options, link=lower_interface(host, link, builder.where), has_mac=False)


def add_macvlan(
    host: BaseNode,
    name: str,
    *,
    link: str | Interface | BaseNode | None = None,
    mode: MacvlanMode = "bridge",
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Device:
    """``ip link add link LINK NAME type macvlan``: a further MAC address on a link.

    It does not reach the host's own address on that link.

    Args:
        name: of the device: 1 to 15 bytes.
        link: an interface of this host, or the node that it leads to; its first one if None. An interface of
            another host makes this one a container of it.
        mode: what its siblings on the link are to it: ``"bridge"`` reaches them, ``"private"`` never,
            ``"vepa"`` by way of a switch that sends back, ``"passthru"`` has no siblings.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_macvlan("mv0", address="192.168.15.10/24")
    """
    return _macvlan(host, "macvlan", DeviceSpec(name, address, mtu, up, mac), link, mode)


def add_macvtap(
    host: BaseNode,
    name: str,
    *,
    link: str | Interface | BaseNode | None = None,
    mode: MacvlanMode = "bridge",
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Device:
    """``ip link add link LINK NAME type macvtap``: a macvlan whose frames go to a character device.

    That device is /dev/tapN, N being the index of the interface, where /dev is kept by the kernel; it is for
    hypervisors. What the test itself reads and writes is ``add_tap``.

    Args:
        name: of the device: 1 to 15 bytes.
        link: an interface of this host, or the node that it leads to; its first one if None. An interface of
            another host makes this one a container of it.
        mode: what its siblings on the link are to it: ``"bridge"`` reaches them, ``"private"`` never,
            ``"vepa"`` by way of a switch that sends back, ``"passthru"`` has no siblings.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_macvtap("mvtap0", mode="bridge")
    """
    return _macvlan(host, "macvtap", DeviceSpec(name, address, mtu, up, mac), link, mode)


def add_ipvlan(
    host: BaseNode,
    name: str,
    *,
    link: str | Interface | BaseNode | None = None,
    mode: Literal["l2", "l3", "l3s"] = "l2",
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
) -> Device:
    """``ip link add link LINK NAME type ipvlan``: further IP addresses on a link that share its MAC address.

    It does not reach the host's own address on that link.

    Args:
        name: of the device: 1 to 15 bytes.
        link: an interface of this host, or the node that it leads to; its first one if None. An interface of
            another host makes this one a container of it.
        mode: ``"l2"`` answers ARP, ``"l3"`` routes and hears no broadcasts, ``"l3s"`` likewise, seen by netfilter.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_ipvlan("ipv0", mode="l2", address="192.168.15.10/24")
    """
    builder = DeviceBuilder(host, "ipvlan", DeviceSpec(name, address, mtu, up))
    return builder.build(Device, {"mode": mode}, link=lower_interface(host, link, builder.where), has_mac=False)


def _macvlan(
    host: BaseNode, kind: str, wanted: DeviceSpec, link: str | Interface | BaseNode | None, mode: str
) -> Device:
    builder = DeviceBuilder(host, kind, wanted)
    return builder.build(Device, {"mode": mode}, link=lower_interface(host, link, builder.where))
