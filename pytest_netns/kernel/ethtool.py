"""Offloads of a device, by the ioctl of ethtool(8). No program is needed.

A veth accepts frames with partial checksums and unsegmented TCP or UDP data, and passes them on unchanged. Between
network stacks on one machine that is correct and fast. But a program that forwards frames itself receives them
unfinished.
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
#: ETHTOOL_STSO, SGSO, SGRO, SSG, STXCSUM: segmentation first, as it depends on the others.
_OFFLOADS = {"tso": 0x1F, "gso": 0x24, "gro": 0x2C, "sg": 0x19, "tx": 0x17}
_IFREQ = struct.Struct("16sP16x")


def disable_offload(place: Holder, node: str, interface: str) -> None:
    """``ethtool -K NAME tso off gso off gro off sg off tx off``: frames are segmented and checksummed before sending.

    Args:
        place: the namespace that the interface is in.
        node: name of the node for messages.
        interface: name of the interface.

    Raises:
        KernelError: there is no such interface, or its driver cannot turn an offload off.
    """
    with open_socket(place, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for offload, command in _OFFLOADS.items():
            value = array.array("I", [command, 0])  # struct ethtool_value
            try:
                fcntl.ioctl(sock, _SIOCETHTOOL, _IFREQ.pack(interface.encode(), value.buffer_info()[0]))
            except OSError as error:
                raise KernelError(error.errno or 0, f"ethtool -K {interface} {offload} off", node) from error
