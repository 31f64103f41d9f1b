"""Target: what an impairment is put upon, as far as the engines know it. An ``Interface`` is one."""

from __future__ import annotations

from typing import Protocol

from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netlink.tables import LinkState


class TargetNode(Protocol):
    """The namespace that an interface is in.

    Attributes:
        name: its name in messages.
        rtnl: a netlink socket inside.
    """

    name: str
    rtnl: NetlinkSocket

    @property
    def fd(self) -> int:
        """Its descriptor."""
        ...

    @property
    def inode(self) -> int:
        """Its number."""
        ...

    def _next_index(self) -> int:
        """An interface index that is free; 0 lets the kernel choose."""
        ...


class Target(Protocol):
    """An interface whose frames are impaired when it sends them.

    Attributes:
        name: ``eth0``.
        index: its number in its namespace.
    """

    name: str
    index: int

    @property
    def node(self) -> TargetNode:
        """The namespace that it is in."""
        ...

    @property
    def mtu(self) -> int:
        """Largest IP packet in bytes that it sends in one frame."""
        ...

    @property
    def state(self) -> LinkState:
        """What the kernel says of it. Raises TopologyError if it was removed."""
        ...
