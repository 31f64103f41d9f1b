"""Links: properties of interfaces beyond their state: XDP programs, options of their kind, bridge port flags."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.linkinfo import info_data
from pytest_netns.kernel.netlink.rtnetlink import (
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINKINFO,
)
from pytest_netns.kernel.netlink.socket import attributes
from pytest_netns.kernel.netlink.tables import LinkState, decode_link
from pytest_netns.lab.nodes import Node

IFF_NOARP = 0x80
# IFLA_... of <linux/if_link.h>
_IFLA_LINK, _IFLA_XDP, _XDP_ATTACHED = 5, 43, 2
# IFLA_BRPORT_... there, by the words of bridge(8)
_PORT_FLAGS = {
    "learning": 8,
    "flood": 9,
    "mcast_flood": 27,
    "bcast_flood": 30,
    "neigh_suppress": 32,
    "isolated": 33,
    "locked": 39,
}


@dataclass(frozen=True, slots=True)
class LinkDetails:
    """A link, as in ``ip -d link show`` and ``bridge -d link show``.

    Attributes:
        state: its name, MAC address, MTU, flags and kind.
        lower: index of its lower interface; 0 if none.
        xdp: whether an XDP program is attached to it.
        options: the attributes of its kind (IFLA_INFO_DATA), by number.
        port: bridge port flags by their bridge(8) names; empty if it is no port.
    """

    state: LinkState
    lower: int
    xdp: bool
    options: Mapping[int, bytes]
    port: Mapping[str, bool]

    def number(self, option: int) -> int:
        """An option of its kind as a number of the machine's byte order; 0 if it has none."""
        raw = self.options.get(option, b"")
        form = {1: "=B", 2: "=H", 4: "=I"}.get(len(raw))
        return int(struct.unpack(form, raw)[0]) if form else 0


def details(node: Node) -> dict[str, LinkDetails]:
    """All links of a node by name."""
    found = {}
    for body in node.rtnl.dump(rtnetlink.link_dump()):
        state = decode_link(body)
        own = attributes(body, 16)
        info = attributes(own.get(IFLA_LINKINFO, b""))
        is_port = info.get(IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"bridge"
        port = attributes(info.get(IFLA_INFO_SLAVE_DATA, b"")) if is_port else {}
        found[state.name] = LinkDetails(
            state,
            struct.unpack("=I", own.get(_IFLA_LINK, bytes(4)))[0],
            attributes(own.get(_IFLA_XDP, b"")).get(_XDP_ATTACHED, b"\0")[0] != 0,
            info_data(body),
            {word: port[number][0] != 0 for word, number in _PORT_FLAGS.items() if number in port},
        )
    return found
