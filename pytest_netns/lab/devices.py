"""Devices: what a host can be given beside its links. One method a kind, all in the same style."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_netns.devices.builder import Addresses, Device, Maker, Wanted
from pytest_netns.lab.stacked import Stacked
from pytest_netns.lab.tunnels import Tunnels

if TYPE_CHECKING:
    from pytest_netns.devices.tuntap import Tap, Tun


class Devices(Stacked, Tunnels):
    """A node that can be given devices, by a method for each kind.

    What each returns is an ``Interface`` that has ``remove()`` too. It goes with its host at the latest.
    """

    @property
    def devices(self) -> list[Device]:
        """The devices that it was given, in the order of their making."""
        return cast("list[Device]", list(self._devices))

    def add_dummy(
        self, name: str, *, address: Addresses = None, mtu: int | None = None, up: bool = True, mac: str | None = None
    ) -> Device:
        """``ip link add NAME type dummy``: swallows what it is sent. A place for further addresses.

        Args:
            name: of the device: 1 to 15 bytes.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return Maker(self, "dummy", Wanted(name, address, mtu, up, mac)).make(Device)

    def add_ifb(self, name: str, *, address: Addresses = None, mtu: int | None = None, up: bool = True) -> Device:
        """``ip link add NAME type ifb``: what tc(8) redirects to it can be queued before it arrives.

        Args:
            name: of the device: 1 to 15 bytes.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        return Maker(self, "ifb", Wanted(name, address, mtu, up)).make(Device)

    # ----------------------------------------------------------- into the test
    # Imported on use, as WireGuard is: most labs have neither.

    def add_tun(
        self, name: str, *, chatter: bool = False, address: Addresses = None, mtu: int | None = None, up: bool = True
    ) -> Tun:
        """``ip tuntap add NAME mode tun``: IP packets that the test itself reads (``recv``) and writes (``send``).

        Args:
            name: of the device: 1 to 15 bytes.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        from pytest_netns.devices.tuntap import open_tun

        return open_tun(Maker(self, "tun", Wanted(name, address, mtu, up)), chatter)

    def add_tap(
        self,
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
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.
            address: one or several, with prefix: ``"10.42.0.1/24"``.
            mtu: in bytes; None for what the kernel chooses.
            up: whether it is set up.
            mac: its MAC address; None for one that is the same at each run.

        Raises:
            TopologyError: a bad name, address or option.
            UnsupportedError: this kernel lacks the kind; the message names its module.
            KernelError: the kernel refused, e.g. because there is such a device. Nothing is left then.
        """
        from pytest_netns.devices.tuntap import open_tap

        return open_tap(Maker(self, "tap", Wanted(name, address, mtu, up, mac)), chatter)
