"""The TUN/TAP driver, /dev/net/tun (https://docs.kernel.org/networking/tuntap.html)."""

from __future__ import annotations

import os
import struct

PATH = "/dev/net/tun"

# From <linux/if_tun.h>.
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x0002, 0x1000, 0x4000
_TUNSETIFF, _TUNSETIFINDEX = 0x400454CA, 0x400454DA
_IFREQ = struct.Struct("=16sH22x")


def is_forbidden() -> bool:
    """Whether the driver exists but this user has no permission to use it."""
    return os.path.exists(PATH) and not os.access(PATH, os.R_OK | os.W_OK)


def open_driver() -> int:
    """A non-blocking descriptor for one device. Raises OSError if the file does not exist or is not accessible."""
    return os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def create_device(driver: int, name: str, flags: int, index: int = 0) -> str:
    """Create a device in the calling thread's network namespace. It exists until the descriptor is closed.

    Args:
        driver: descriptor from ``open_driver``.
        name: name of the device; ``%d`` in it is replaced by the first free number.
        flags: IFF_TUN or IFF_TAP, and other flags of the driver.
        index: its interface index; 0: chosen by the kernel.

    Returns:
        The name of the device.

    Raises:
        OSError: the kernel refused.
    """
    import fcntl  # not on Windows, where this module must still import

    if index:
        fcntl.ioctl(driver, _TUNSETIFINDEX, struct.pack("=I", index))
    answer = fcntl.ioctl(driver, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    return str(_IFREQ.unpack(answer)[0].rstrip(b"\0").decode())
