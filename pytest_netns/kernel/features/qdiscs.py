"""Whether this kernel has a given classifier or action of tc(8).

A request without options is refused with EINVAL if the kernel knows the kind, and with ENOENT if it does not, after it
has tried to load the module. See net/sched/cls_api.c and act_api.c in its source.
"""

from __future__ import annotations

import errno
import struct

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.rtnetlink import LOOPBACK_INDEX
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkSocket, Request, attribute
from pytest_netns.kernel.netns.throwaway import errno_of

# From <linux/rtnetlink.h> and <linux/pkt_sched.h>.
RTM_NEWQDISC, RTM_NEWTFILTER = 36, 44
TCA_KIND = TCA_ACT_KIND = 1
_TCA_OPTIONS = 2
# From <linux/pkt_cls.h>: a selector without keys matches everything.
_TCA_U32_SEL, _TCA_U32_ACT, _SELECTOR_SIZE = 5, 7, 16
_TCA_MATCHALL_ACT = 2
TC_H_ROOT, TC_H_CLSACT = 0xFFFFFFFF, 0xFFFFFFF1
_TC_H_MIN_INGRESS = 0xFFFFFFF2
_ETH_P_ALL_BE = 0x0300
_PRIORITY = 1 << 16

#: Classifiers and actions by name, with the kernel module of each.
CLASSIFIERS = {f"tc:{name}": f"cls_{name}" for name in ("basic", "bpf", "cgroup", "flow", "flower", "fw", "matchall")}
CLASSIFIERS["tc:u32"] = "cls_u32"
ACTIONS = {
    f"tc:{name}": f"act_{name}"
    for name in ("connmark", "csum", "ct", "gact", "mirred", "nat", "pedit", "police", "skbedit", "tunnel_key", "vlan")
}
_UNKNOWN = (errno.ENOENT, errno.EOPNOTSUPP)


def qdisc_request(kind: str) -> Request:
    """``tc qdisc add dev lo ...``, without options."""
    parent = TC_H_CLSACT if kind in ("ingress", "clsact") else TC_H_ROOT
    body = struct.pack("=BxxxiIII", 0, LOOPBACK_INDEX, 0, parent, 0) + attribute(TCA_KIND, kind.encode() + b"\0")
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, f"tc qdisc add dev lo root {kind}")


def _filter_errno(kind: str, options: bytes = b"") -> int:
    """The errno with which ``tc filter add dev lo ingress KIND`` is refused; 0 if it is accepted."""

    def ask(link: NetlinkSocket) -> None:
        try:
            link.batch([qdisc_request("clsact")])
            parent = _TC_H_MIN_INGRESS
        except KernelError:
            link.batch([qdisc_request("prio")])  # without clsact, any classful qdisc will do
            parent = 0
        body = struct.pack("=BxxxiIII", 0, LOOPBACK_INDEX, 0, parent, _PRIORITY | _ETH_P_ALL_BE)
        body += attribute(TCA_KIND, kind.encode() + b"\0") + options
        link.batch([Request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body, f"tc filter add dev lo ingress {kind}")])

    return errno_of(ask)


def has_classifier(kind: str) -> bool:
    """Whether the kernel has a classifier."""
    return _filter_errno(kind) not in _UNKNOWN


def has_action(kind: str) -> bool:
    """Whether the kernel has an action.

    The request attaches it to a filter: without root, standalone actions are refused before the kind is checked.
    """
    action = attribute(1, attribute(TCA_ACT_KIND, kind.encode() + b"\0"))
    by_u32 = attribute(_TCA_U32_SEL, bytes(_SELECTOR_SIZE)) + attribute(_TCA_U32_ACT, action)
    by_matchall = attribute(_TCA_MATCHALL_ACT, action)
    for classifier, options in (("u32", by_u32), ("matchall", by_matchall)):
        if has_classifier(classifier):
            return _filter_errno(classifier, attribute(_TCA_OPTIONS, options)) not in _UNKNOWN
    return False
