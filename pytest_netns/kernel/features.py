"""What this kernel and this machine can do, found out by asking: device kinds, queueing disciplines, programs.

A request for a device of a kind that the kernel does not know is refused with EOPNOTSUPP, or for a queueing discipline
with ENOENT, after the kernel has tried to load the module. Any other answer means that it knows it. All of it happens
in a namespace made for the purpose.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from pytest_netns.errors import KernelError
from pytest_netns.kernel import linkinfo
from pytest_netns.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, Request, attribute
from pytest_netns.kernel.rtnetlink import (
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    LOOPBACK_INDEX,
    RTM_NEWLINK,
    link_get,
)
from pytest_netns.kernel.syscalls import CLONE_NEWNET, open_namespace, setns, unshare

_RTM_NEWQDISC = 36
_TCA_KIND = 1
_TC_H_ROOT = 0xFFFFFFFF

#: Device kinds by name, with the module that brings each.
DEVICES = {
    "bareudp": "bareudp",
    "bond": "bonding",
    "bridge": "bridge",
    "dummy": "dummy",
    "geneve": "geneve",
    "gre": "ip_gre",
    "gretap": "ip_gre",
    "ifb": "ifb",
    "ip6gre": "ip6_gre",
    "ip6gretap": "ip6_gre",
    "ip6tnl": "ip6_tunnel",
    "ipip": "ipip",
    "ipvlan": "ipvlan",
    "macvlan": "macvlan",
    "macvtap": "macvtap",
    "nlmon": "nlmon",
    "sit": "sit",
    "tap": "tun",
    "team": "team",
    "tun": "tun",
    "veth": "veth",
    "vlan": "8021q",
    "vrf": "vrf",
    "vxlan": "vxlan",
    "wireguard": "wireguard",
}
#: The device that is opened for a TUN or TAP device.
TUN = "/dev/net/tun"
#: Queueing disciplines by name, with the module that brings each.
QDISCS = {
    name: f"sch_{name}"
    for name in ("cake", "fq", "fq_codel", "htb", "ingress", "netem", "pfifo_fast", "prio", "red", "sfq", "tbf")
}


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that a test may need.

    Attributes:
        name: as in ``netns_requires``.
        present: whether it is there.
        reason: why not, and how to get it; empty if it is there.
    """

    name: str
    present: bool
    reason: str = ""


def _in_new_namespace(ask: Callable[[NetlinkSocket], None]) -> int:
    """The errno with which the kernel refused; 0 if it did not."""
    previous = open_namespace()
    try:
        unshare(CLONE_NEWNET)
        try:
            link = NetlinkSocket("probe")
            try:
                ask(link)
            except KernelError as error:
                return error.errno
            finally:
                link.close()
        finally:
            setns(previous)
    finally:
        os.close(previous)
    return 0


def _tun() -> bool:
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _vlan_filtering() -> bool:
    """Whether bridges look at VLAN tags. A kernel without that ignores the request for it, and shows no such state."""

    def ask(link: NetlinkSocket) -> None:
        link.batch([linkinfo.device(linkinfo.Born("bridge", "probe0", 1000, {"vlan_filtering": 1}))])
        shown = linkinfo.info_data(link.get(link_get(1000, "probe0")))
        if linkinfo.BRIDGE_VLAN_FILTERING not in shown:
            raise KernelError(errno.EOPNOTSUPP, "ip link add probe0 type bridge vlan_filtering 1", "probe")

    return _in_new_namespace(ask) == 0


def _device(name: str) -> bool:
    if DEVICES[name] == "tun":  # they are not made by netlink
        return _tun()
    body = (
        struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        + attribute(IFLA_IFNAME, b"probe0\0")
        + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, name.encode()))
    )
    request = Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"ip link add probe0 type {name}")
    return _in_new_namespace(lambda link: link.batch([request])) != errno.EOPNOTSUPP


def _qdisc(name: str) -> bool:
    parent = 0xFFFFFFF1 if name == "ingress" else _TC_H_ROOT
    body = struct.pack("=BxxxiIII", 0, LOOPBACK_INDEX, 0, parent, 0) + attribute(_TCA_KIND, name.encode() + b"\0")
    request = Request(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, f"tc qdisc add dev lo root {name}")
    return _in_new_namespace(lambda link: link.batch([request])) != errno.ENOENT


def known() -> list[str]:
    """The names that ``feature`` understands, programs apart."""
    return sorted({*DEVICES, *QDISCS, "nft", "vlan_filtering"})


@cache
def feature(name: str) -> Feature:
    """Whether something is there: a device kind, a queueing discipline, ``nft``, or ``program:NAME``.

    Raises:
        ValueError: nothing of that name is known.
    """
    kind, _, program = name.partition(":")
    if kind == "program" and program:
        if shutil.which(program) is not None:
            return Feature(name, True)
        return Feature(
            name, False, f"the program {program!r} is not installed; look for it by: apt-file search bin/{program}"
        )
    if name == "nft":
        from pytest_netns.errors import UnsupportedError
        from pytest_netns.kernel.nftables import engine

        try:
            engine()
        except UnsupportedError as error:
            return Feature(name, False, str(error))
        return Feature(name, True)
    if name == "vlan_filtering":
        if _vlan_filtering():
            return Feature(name, True)
        reason = "the bridges of this kernel have no VLAN filtering; it takes one with CONFIG_BRIDGE_VLAN_FILTERING=y"
        return Feature(name, False, reason)
    for table, what, ask in ((DEVICES, "devices of kind", _device), (QDISCS, "the queueing discipline", _qdisc)):
        if name in table:
            if ask(name):
                return Feature(name, True)
            module = table[name]
            return Feature(name, False, f"this kernel lacks {what} {name!r}; try as root: modprobe {module}")
    raise ValueError(f"{name!r} is not known; known are {', '.join(known())}, and program:NAME")
