"""Devices as a program lists them, without those that some kernel modules put into every new namespace."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_netns.kernel.interface_names import FALLBACK_DEVICES

#: What the bonding module puts beside the devices in /sys/class/net: a file (kernel: Documentation/networking/bonding).
_NO_DEVICE = "bonding_masters"


def made(names: Iterable[str]) -> list[str]:
    """Those that somebody made, in the order given; ip(8) writes a peer behind a name."""
    return [name for name in names if name.partition("@")[0] not in {*FALLBACK_DEVICES, _NO_DEVICE}]
