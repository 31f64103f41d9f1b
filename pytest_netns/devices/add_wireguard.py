"""How a host is given a WireGuard device, by the kernel or by wireguard-go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_netns.devices.builder import Addresses, DeviceBuilder, DeviceSpec
from pytest_netns.errors import UnsupportedError
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.devices.wireguard import WireGuard

# Both ways are imported on use: most labs have neither.


def add_wireguard(
    host: BaseNode,
    name: str,
    *,
    private_key: str | None = None,
    listen_port: int = 51820,
    userspace: bool | None = None,
    address: Addresses = None,
    mtu: int | None = None,
    up: bool = True,
) -> WireGuard:
    """``ip link add NAME type wireguard``: an encrypted tunnel. It has no peers yet: see ``WireGuard.add_peer``.

    Args:
        name: of the device: 1 to 15 bytes.
        private_key: in base64, as ``wg genkey`` prints it; a random one if None.
        listen_port: UDP port.
        userspace: whether wireguard-go implements it instead of the kernel; None: if the kernel does not, and
            it is installed, together with wg(8).
        address: one or several, with prefix: ``"10.42.0.1/24"``.
        mtu: in bytes; None: the kernel's default.
        up: whether to set it up.

    Raises:
        TopologyError: an invalid name, address or option.
        UnsupportedError: this kernel lacks the device kind; the message names the module.
        KernelError: the kernel refused, e.g. because the name is taken (EEXIST). Nothing is created then.

    Example:
        >>> a = red.add_wireguard("wg0", address="10.50.0.1/24")
        >>> b = blue.add_wireguard("wg0", address="10.50.0.2/24")
        >>> a.add_peer(b)
        >>> b.add_peer(a)
    """
    from pytest_netns.devices import wireguard, wireguard_go

    builder = DeviceBuilder(host, "wireguard", DeviceSpec(name, address, mtu, up))
    key = wireguard.checked_key(private_key, builder.where)
    port = wireguard.check_port("listen_port", listen_port, builder.where)
    if userspace:
        return wireguard_go.make(builder, key, port)
    try:
        return wireguard.make(builder, key, port)
    except UnsupportedError as error:
        if userspace is False:
            raise
        if packages := wireguard_go.lacking():
            raise UnsupportedError(f"{error}; or do without it: apt-get install {' '.join(packages)}") from error
    return wireguard_go.make(builder, key, port)
