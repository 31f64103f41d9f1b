"""The driver of TUN and TAP devices, /dev/net/tun (https://docs.kernel.org/networking/tuntap.html)."""

from __future__ import annotations

import os
import struct

PATH = "/dev/net/tun"

# From <linux/if_tun.h>.
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x0002, 0x1000, 0x4000
_TUNSETIFF, _TUNSETIFINDEX = 0x400454CA, 0x400454DA
_IFREQ = struct.Struct("=16sH22x")


def is_forbidden() -> bool:
    """Whether the driver is there, and this user may not use it."""
    return os.path.exists(PATH) and not os.access(PATH, os.R_OK | os.W_OK)


def open_driver() -> int:
    """A descriptor that does not block, for one device. Raises OSError: the file is not there, or not accessible."""
    return os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def create_device(driver: int, name: str, flags: int, index: int = 0) -> str:
    """Create a device in the network namespace of this thread. It exists as long as the descriptor does.

    Args:
        driver: from ``open_driver``.
        name: its name; ``%d`` in it stands for the first free number.
        flags: IFF_TUN or IFF_TAP, and others of the driver's.
        index: its interface index; 0 lets the kernel choose.

    Returns:
        Its name.

    Raises:
        OSError: the kernel refused.
    """
    import fcntl  # not on Windows, where this module must still import

    if index:
        fcntl.ioctl(driver, _TUNSETIFINDEX, struct.pack("=I", index))
    answer = fcntl.ioctl(driver, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    return str(_IFREQ.unpack(answer)[0].rstrip(b"\0").decode())
