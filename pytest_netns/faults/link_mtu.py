"""Link mtu: the mtu of both ends of a link, changed for a while."""

from __future__ import annotations

from contextlib import ExitStack

from pytest_netns.checks import is_whole
from pytest_netns.errors import TopologyError
from pytest_netns.faults.breakable_cable import BreakableCable
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.fault import Fault


def set_mtu(link: BreakableCable, mtu: int) -> Fault:
    """Change the mtu of both ends.

    Below 1280 bytes the kernel takes IPv6 away from them, with its addresses and routes (RFC 8200 section 5). They
    come back with an mtu that allows it.

    Args:
        mtu: bytes, 68 (RFC 791) to 65535.

    Returns:
        The fault: as a context manager it sets what was before at the end of its block.

    Raises:
        TopologyError: it is no such number, or the link was removed, or went with one of its nodes.

    Example:
        >>> with link.set_mtu(1400):
        ...     assert red.interfaces["eth0"].mtu == 1400
    """
    check_mtu(link, mtu)
    link._check_ends()
    with ExitStack() as undo:
        for end in link.interfaces:
            undo.callback(link._mtus.ask(end, mtu))
        mend = undo.pop_all()
    return Fault(link.lab.faults, f"the mtu of {link.a} -- {link.b} is {mtu}", mend.close, [])


def check_mtu(link: Cable, mtu: object) -> None:
    """Raise TopologyError unless this is an mtu that a veth can have (veth_setup() in drivers/net/veth.c)."""
    if not is_whole(mtu, 68, 65535):
        raise TopologyError(f"{link!r}: mtu={mtu!r}: expected bytes, a whole number from 68 to 65535")
