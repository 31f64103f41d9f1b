"""Features of this kernel and machine, found by trying them: device kinds, traffic control, nftables, programs.

The kernel refuses an unknown device kind with EOPNOTSUPP, and an unknown queueing discipline with ENOENT, after it has
tried to load the module. Any other answer means that it has the feature. All requests are made in a throwaway
namespace.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from pytest_netns.errors import KernelError, UnsupportedError
from pytest_netns.kernel import tun_driver
from pytest_netns.kernel.features.nft_features import NFT, why_not
from pytest_netns.kernel.features.qdiscs import ACTIONS, CLASSIFIERS, has_action, has_classifier, qdisc_request
from pytest_netns.kernel.features.socket_families import SOCKETS, TUN_TAP, why_no_socket, why_no_tunnel
from pytest_netns.kernel.libpcap import libpcap
from pytest_netns.kernel.netlink import linkinfo
from pytest_netns.kernel.netlink.rtnetlink import IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_NEWLINK, link_get
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, Request, attribute
from pytest_netns.kernel.netns.throwaway import errno_of
from pytest_netns.kernel.nftables import engine
from pytest_netns.kernel.perf.packet_log import why_no_reasons
from pytest_netns.kernel.search_path import find_program

#: Device kinds by name, with the kernel module of each.
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
    "team": "team",
    "veth": "veth",
    "vlan": "8021q",
    "vrf": "vrf",
    "vxlan": "vxlan",
    "wireguard": "wireguard",
}
#: Queueing disciplines by name, with the kernel module of each.
QDISCS = {
    name: f"sch_{name}"
    for name in (
        "cake",
        "clsact",
        "fq",
        "fq_codel",
        "htb",
        "ingress",
        "netem",
        "pfifo_fast",
        "prio",
        "red",
        "sfq",
        "tbf",
    )
}
QDISCS["clsact"] = "sch_ingress"


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature that a test may need.

    Attributes:
        name: its name, as in ``netns_requires``.
        present: whether it is available.
        reason: why it is not available, and how to get it; empty if it is.
    """

    name: str
    present: bool
    reason: str = ""


def _device(name: str) -> bool:
    body = (
        struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        + attribute(IFLA_IFNAME, b"probe0\0")
        + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, name.encode()))
    )
    request = Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"ip link add probe0 type {name}")
    return errno_of(lambda link: link.batch([request])) != errno.EOPNOTSUPP


def _qdisc(name: str) -> bool:
    return errno_of(lambda link: link.batch([qdisc_request(name)])) != errno.ENOENT


#: Tables of kernel features, with the noun of each for messages.
_KERNEL: tuple[tuple[Mapping[str, str], str, Callable[[str], bool]], ...] = (
    (DEVICES, "devices of kind", _device),
    (QDISCS, "the queueing discipline", _qdisc),
    (CLASSIFIERS, "the classifier", lambda name: has_classifier(name.removeprefix("tc:"))),
    (ACTIONS, "the action", lambda name: has_action(name.removeprefix("tc:"))),
)
#: Bridge features, with the kernel configuration that provides each.
BRIDGES = {"vlan_filtering": "a kernel with CONFIG_BRIDGE_VLAN_FILTERING=y"}


def _why_no_filtering(_: str) -> str:
    """Why bridges have no VLAN filtering. A kernel without it ignores the request and does not report the setting."""

    def ask(link: NetlinkSocket) -> None:
        link.batch([linkinfo.device(linkinfo.LinkSpec("bridge", "probe0", 1000, {"vlan_filtering": 1}))])
        if linkinfo.BRIDGE_VLAN_FILTERING not in linkinfo.info_data(link.get(link_get(1000, "probe0"))):
            raise KernelError(errno.EOPNOTSUPP, "ip link add probe0 type bridge vlan_filtering 1", "probe")

    return "the bridges of this kernel have no VLAN filtering" if errno_of(ask) else ""


#: Whether the kernel's drop reasons are available, which explanations use as evidence.
DROP_REASONS = "drop-reasons"

#: Tables of sockets and devices that a program opens, with the function that says why that fails.
_OPENED: tuple[tuple[Mapping[str, str], Callable[[str], str]], ...] = (
    (SOCKETS, why_no_socket),
    (TUN_TAP, why_no_tunnel),
    (BRIDGES, _why_no_filtering),
)


def sections() -> dict[str, list[str]]:
    """The names that ``feature`` accepts, by section, without programs."""
    return {
        "device": sorted({*DEVICES, *TUN_TAP, *BRIDGES}),
        "qdisc": sorted(QDISCS),
        "classifier": sorted(CLASSIFIERS),
        "action": sorted(ACTIONS),
        "nftables": ["nft", *NFT],
        "socket": sorted(SOCKETS),
        "library": ["libpcap"],
        "tracing": [DROP_REASONS],
    }


def known() -> list[str]:
    """All names that ``feature`` accepts, without programs."""
    return [name for names in sections().values() for name in names]


def check_name(name: str) -> None:
    """Raise ValueError, which lists the known names, unless ``feature`` accepts the name."""
    kind, _, program = name.partition(":")
    names = known()
    if name in names or (kind == "program" and program.strip() and ("/" not in program or os.path.isabs(program))):
        return
    from difflib import get_close_matches

    close = get_close_matches(name.casefold(), names, 1) or [each for each in names if each.endswith(f":{name}")][:1]
    guess = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"{name!r} is not known; {guess}known are {', '.join(names)}, and program:NAME")


@cache
def feature(name: str) -> Feature:
    """Whether this machine has a feature.

    Args:
        name: one of ``known()``: a device kind (``wireguard``), a queueing discipline (``netem``), a classifier or
            action of tc(8) (``tc:bpf``, ``tc:mirred``), ``nft`` or a feature of it (``nft:queue``), a kind of socket
            (``ipv6``, ``sctp``), ``tun`` or ``tap``, ``libpcap``, ``drop-reasons``; or ``program:NAME``, or
            ``program:/PATH``.

    Raises:
        ValueError: the name is unknown.
    """
    check_name(name)
    kind, _, program = name.partition(":")
    if kind == "program":
        return Feature(name, *_program(program))
    for table, what, has in _KERNEL:
        if name in table:
            short = name.removeprefix("tc:")
            present = has(name)
            reason = f"this kernel lacks {what} {short!r}; try as root: modprobe {table[name]}"
            return Feature(name, present, "" if present else reason)
    for opened, why in _OPENED:
        if name in opened:
            said = why(name)
            cure = opened[name]
            if (
                why is why_no_tunnel
                and os.path.exists(tun_driver.PATH)
                and not os.access(tun_driver.PATH, os.R_OK | os.W_OK)
            ):
                cure = f"sudo chmod 0666 {tun_driver.PATH}"  # udev's default (50-udev-default.rules)
            return Feature(name, not said, f"{said}; to get it: {cure}" if said else "")
    if name == DROP_REASONS:
        said = why_no_reasons()
        return Feature(
            name, not said, f"explanations go without the kernel's reasons for drops: {said}" if said else ""
        )
    try:
        if name == "libpcap":
            libpcap()
            return Feature(name, True)
        engine()
        refused = why_not(name) if name in NFT else ""
    except UnsupportedError as error:
        refused = str(error)
    return Feature(name, not refused, refused)


def _program(name: str) -> tuple[bool, str]:
    if find_program(name) is not None:
        return True, ""
    if "/" in name:
        what = "is there, and cannot be executed" if os.path.exists(name) else "does not exist"
        return False, f"the program {name!r} {what}"
    return False, f"the program {name!r} is not installed; look for it by: apt-file search bin/{name}"
