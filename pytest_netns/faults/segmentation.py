"""Segmentation: whether TCP cuts its data into frames before they leave the ends of a link, or its devices do."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import attributes

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.topology.cable import Cable

_IFINFO = 16  # bytes of struct ifinfomsg


@dataclass(slots=True)
class _Side:
    """One end of a link: how many have asked for frames there, and gso_max_segs as it was before."""

    askers: int = 0
    base: int = 0


class Segmentation:
    """That of one link.

    TCP leaves it to the device what follows (GSO), and a chunk of 64 KiB passes every mtu of a veth or a bridge on its
    way (__is_skb_forwardable() in include/linux/netdevice.h).

    Args:
        link: whose ends.
    """

    def __init__(self, link: Cable) -> None:
        self._link = link
        self._lock = Lock("changing the segmentation of an interface")
        self._sides = _Side(), _Side()

    def ask(self, end: Interface) -> Callable[[], None]:
        """Have TCP cut its data into frames before they leave an end, until the last who has asked takes it back.

        Returns:
            What takes it back.

        Raises:
            KernelError: the kernel refused.
        """
        number = self._link.interfaces.index(end)
        side = self._sides[number]
        with self._lock:
            if not side.askers:
                found = attributes(end.node.rtnl.get(rtnetlink.link_get(end.index, end.name)), _IFINFO)
                side.base = struct.unpack("=I", found[rtnetlink.IFLA_GSO_MAX_SEGS])[0]
                self._set(number, 1)
            side.askers += 1
        return lambda: self._take_back(number)

    def _take_back(self, number: int) -> None:
        side = self._sides[number]
        with self._lock:
            side.askers -= 1
            if side.askers or self._link._is_gone:
                return
            try:
                self._set(number, side.base)
            except KernelError as error:
                if error.errno != errno.ENODEV:  # it has gone, and its setting with it
                    raise

    def _set(self, number: int, segments: int) -> None:
        end = self._link.interfaces[number]
        end.node.rtnl.batch([rtnetlink.link_gso_max_segs(end.index, end.name, segments)])
