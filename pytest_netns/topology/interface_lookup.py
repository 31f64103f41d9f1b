"""DeviceOwner: a node that has devices beside its links, and knows which."""

from __future__ import annotations

from typing import Protocol

from pytest_netns.errors import TopologyError
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.events import DeviceAdded, DeviceRemoved
from pytest_netns.topology.network import Network, cables_of
from pytest_netns.topology.node import BaseNode


class OwnedDevice(Protocol):
    """A device that goes with its host.

    Attributes:
        name: of the interface.
    """

    name: str

    def release(self) -> None:
        """Called before its host is closed."""
        ...

    def lost(self) -> None:
        """Called when its host has crashed: it went with the namespace that was."""
        ...


class DeviceOwner(BaseNode):
    """A node that can be given devices, which go with it at the latest."""

    lab: Network
    _devices: tuple[OwnedDevice, ...] = ()

    def _lose_devices(self) -> None:
        """Called when it has crashed."""
        for device in self._devices:
            device.lost()

    def remember_device(self, device: OwnedDevice) -> None:
        """Called when a device was made."""
        self._devices += (device,)
        self.lab.events.publish(DeviceAdded, self, device)

    def forget_device(self, device: OwnedDevice) -> None:
        """Called by a device that was removed."""
        self._devices = tuple(each for each in self._devices if each is not device)
        self.slots.free_ethernet(device.name)
        self.lab.events.publish(DeviceRemoved, self, device)

    def close(self) -> None:
        """Kill its processes, let go of its devices and of itself; allowed more than once."""
        for device in self._devices:
            device.release()
        super().close()

    def own_interface(self, which: str | Interface | BaseNode | None, purpose: str) -> Interface:
        """An interface of this host.

        Args:
            which: a name, the interface itself, the node that it leads to, or None for the first one.
            purpose: what it is for, in words for a message.

        Raises:
            TopologyError: there is none.
        """
        if which is None:
            return self.primary
        if isinstance(which, str):
            try:
                return self.interface(which)
            except TopologyError as error:
                raise TopologyError(f"{purpose}: {error}") from None
        if isinstance(which, Interface):
            if which.node is not self:
                raise TopologyError(f"{purpose}: {which!r} is not an interface of {self.name!r}")
            return which
        if isinstance(which, BaseNode):
            for link in cables_of(self):
                if which in (link.a.node, link.b.node) and which is not self:
                    return link.end(self)
            raise TopologyError(f"{purpose}: {self.name!r} has no link to {which.name!r}")
        raise TopologyError(f"{purpose}: {which!r} is no interface; expected a name, an interface or a node")

    def lower_interface(self, which: str | Interface | BaseNode | None, purpose: str) -> Interface:
        """What a device lies upon: an interface of this host, or of another host of the lab.

        Args:
            which: as of ``own_interface``.
            purpose: what it is for, in words for a message.

        Raises:
            TopologyError: there is none, or it is of another lab.
        """
        if isinstance(which, Interface) and which.node is not self:
            self.lab.check_node(which.node, f"lay {purpose} upon")
            return which
        return self.own_interface(which, purpose)
