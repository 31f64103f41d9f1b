"""Requests for the VLANs of bridge ports (``bridge vlan``), and decoding of the answers, by pyroute2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pytest_netns.kernel.netlink.pyroute2_codec import attribute_of, decode, encode, nested_in, prepare_pyroute2
from pytest_netns.kernel.netlink.rtnetlink import AF_BRIDGE, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK
from pytest_netns.kernel.netlink.socket import Request

# From <linux/if_bridge.h> and <linux/rtnetlink.h>.
_FLAGS_MASTER, _FLAGS_SELF = 1, 2
_PVID, _UNTAGGED = 1 << 1, 1 << 2
_RTEXT_FILTER_BRVLAN = 1 << 1


@dataclass(frozen=True, slots=True)
class Vlan:
    """A VLAN of a bridge port: a line of ``bridge vlan show``.

    Attributes:
        vid: VLAN ID.
        pvid: whether untagged ingress frames are assigned to this VLAN.
        untagged: whether the tag is removed on egress.

    Example:
        >>> switch = lab.bridge("switch", vlan_filtering=True)
        >>> switch.vlans()
    """

    vid: int
    pvid: bool = False
    untagged: bool = False


def _request(kind: int, index: int, attribute: tuple[str, object], words: str) -> Request:
    prepare_pyroute2()
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    return Request(kind, 0, encode(ifinfmsg, {"family": AF_BRIDGE, "index": index}, [attribute]), words)


def bridge_vlan(
    index: int,
    name: str,
    vid: int,
    *,
    own: bool = False,
    pvid: bool = False,
    untagged: bool = False,
    delete: bool = False,
) -> Request:
    """``bridge vlan add|delete dev NAME vid VID [pvid] [untagged] [self]``; ``own``: on the bridge device itself."""
    flags = (_PVID if pvid else 0) | (_UNTAGGED if untagged else 0)
    vlan = [
        ("IFLA_BRIDGE_VLAN_FLAGS", _FLAGS_SELF if own else _FLAGS_MASTER),
        ("IFLA_BRIDGE_VLAN_INFO", {"flags": flags, "vid": vid}),
    ]
    words = ["bridge vlan", "delete" if delete else "add", f"dev {name} vid {vid}"]
    words += [word for word, given in (("pvid", pvid), ("untagged", untagged), ("self", own)) if given]
    kind = RTM_DELLINK if delete else RTM_SETLINK
    return _request(kind, index, ("IFLA_AF_SPEC", {"attrs": vlan}), " ".join(words))


def bridge_vlan_dump() -> Request:
    """``bridge vlan show``."""
    return _request(RTM_GETLINK, 0, ("IFLA_EXT_MASK", _RTEXT_FILTER_BRVLAN), "bridge vlan show")


def decode_vlans(body: bytes) -> tuple[str, tuple[Vlan, ...]]:
    """Decode an RTM_NEWLINK message about a bridge port: its name and its VLANs."""
    prepare_pyroute2()
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = decode(ifinfmsg, body)
    of_bridge = nested_in(message, "IFLA_AF_SPEC")
    infos = of_bridge.get_attrs("IFLA_BRIDGE_VLAN_INFO") if of_bridge is not None else []
    vlans = tuple(
        Vlan(info["vid"], bool(info["flags"] & _PVID), bool(info["flags"] & _UNTAGGED))
        for info in cast("list[dict[str, int]]", infos)
    )
    return attribute_of(message, "IFLA_IFNAME", ""), vlans
