"""Owned devices: what a node has beside the ends of its links, and what goes with it at the latest."""

from __future__ import annotations

from pytest_netns.topology.network import network_of
from pytest_netns.topology.network_events import DeviceAdded, DeviceRemoved
from pytest_netns.topology.node import BaseNode, OwnedDevice


def remember_device(node: BaseNode, device: OwnedDevice) -> None:
    """A device was made."""
    node._devices += (device,)
    network_of(node).events.publish(DeviceAdded, node, device)


def forget_device(node: BaseNode, device: OwnedDevice) -> None:
    """A device was removed."""
    node._devices = tuple(each for each in node._devices if each is not device)
    node.allocator.release(device.name)
    network_of(node).events.publish(DeviceRemoved, node, device)


def lose_devices(node: BaseNode) -> None:
    """Its namespace went in a crash, and its devices with it."""
    for device in node._devices:
        device._lost()
