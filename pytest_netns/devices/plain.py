"""Devices that stand by themselves: dummy, ifb."""

from __future__ import annotations

from pytest_netns.devices.builder import Addresses, Device, DeviceBuilder, DeviceSpec
from pytest_netns.topology.node import BaseNode


def add_dummy(
    host: BaseNode,
    name: str,
    *,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
    mac: str | None = None,
) -> Device:
    """``ip link add NAME type dummy``: discards what is sent to it. Holds additional addresses.

    Args:
        name: of the device: 1 to 15 bytes.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.
        mac: its MAC address; None: derived from its name, the same in each run.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> blue.add_dummy("dummy0", address="10.42.0.1/32")
    """
    return DeviceBuilder(host, "dummy", DeviceSpec(name, address, mtu, up, mac)).build(Device)


def add_ifb(host: BaseNode, name: str, *, address: Addresses = None, mtu: int | None = None, up: bool = True) -> Device:
    """``ip link add NAME type ifb``: what tc(8) redirects to it can be queued before it arrives.

    Args:
        name: of the device: 1 to 15 bytes.
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> red.add_ifb("ifb0")
    """
    return DeviceBuilder(host, "ifb", DeviceSpec(name, address, mtu, up)).build(Device)
