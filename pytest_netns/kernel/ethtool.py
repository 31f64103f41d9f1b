"""Offloads of a device: what a sender leaves to it, by the ioctl of ethtool(8). No program is needed.

A veth takes frames with unfinished checksums, and many segments of TCP or UDP in one piece, and hands them on as they
are. Between two kernels of one machine that is right, and fast. A program that forwards frames by itself cannot know.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

from pytest_netns.errors import KernelError
from pytest_netns.kernel.open_socket import open_socket
from pytest_netns.kernel.syscalls import Holder

# From <linux/sockios.h> and <linux/ethtool.h>.
_SIOCETHTOOL = 0x8946
#: ETHTOOL_STSO, SGSO, SGRO, SSG, STXCSUM: segmentation goes first, as it needs the others.
_OFFLOADS = {"tso": 0x1F, "gso": 0x24, "gro": 0x2C, "sg": 0x19, "tx": 0x17}
_IFREQ = struct.Struct("16sP16x")


def disable_offload(place: Holder, node: str, interface: str) -> None:
    """``ethtool -K NAME tso off gso off gro off sg off tx off``: each frame is finished before it is sent.

    Args:
        place: the namespace that the interface is in.
        node: what messages call it.
        interface: its name.

    Raises:
        KernelError: there is no such interface, or its driver cannot do without.
    """
    with open_socket(place, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for offload, command in _OFFLOADS.items():
            value = array.array("I", [command, 0])  # struct ethtool_value
            try:
                fcntl.ioctl(sock, _SIOCETHTOOL, _IFREQ.pack(interface.encode(), value.buffer_info()[0]))
            except OSError as error:
                raise KernelError(error.errno or 0, f"ethtool -K {interface} {offload} off", node) from error
