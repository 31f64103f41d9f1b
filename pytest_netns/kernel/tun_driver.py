"""The TUN/TAP driver, which makes devices whose far end is a descriptor (https://docs.kernel.org/networking/tuntap.html)."""

from __future__ import annotations

import os
import struct
from typing import Literal

DRIVER = "/dev/net/tun"

# From <linux/if_tun.h>.
_TUNSETIFF, _TUNSETIFINDEX = 0x400454CA, 0x400454DA
_MODES = {"tun": 0x0001, "tap": 0x0002}
_IFF_NO_PI, _IFF_VNET_HDR = 0x1000, 0x4000
_IFREQ = struct.Struct("=16sH22x")


def open_driver() -> int:
    """A descriptor that does not block, of which ``make_device`` makes a device. The caller closes it.

    Raises:
        OSError: there is no such driver, or one may not use it.
    """
    return os.open(DRIVER, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def make_device(
    driver: int, name: str, mode: Literal["tun", "tap"], *, index: int = 0, vnet_header: bool = False
) -> str:
    """Make a device in the namespace of this thread; it goes when its descriptor is closed. Returns its name.

    Args:
        driver: from ``open_driver``.
        name: of the device; ``%d`` in it is a number that the kernel chooses.
        mode: IP packets, or Ethernet frames.
        index: which index it gets; 0 lets the kernel choose.
        vnet_header: whether each frame has a ``struct virtio_net_hdr`` before it.

    Raises:
        OSError: the kernel refused.
    """
    import fcntl  # not on Windows, where this module must still import

    if index:
        fcntl.ioctl(driver, _TUNSETIFINDEX, struct.pack("=I", index))
    flags = _MODES[mode] | _IFF_NO_PI | (_IFF_VNET_HDR if vnet_header else 0)
    answer = fcntl.ioctl(driver, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    return str(_IFREQ.unpack(answer)[0].rstrip(b"\0").decode())
