"""Traffic control requests: pure functions that encode the tc(8) part of rtnetlink(7).

Each returns a ``Request`` whose ``operation`` is the equivalent tc(8) command.

Encoded by hand: pyroute2 lacks netem's seed and 64-bit times, tbf's 64-bit rates and the instructions of a bpf filter;
and it needs 0.28 ms per message, where impairing a link takes some 3 ms with four messages.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, attribute, attributes

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46

TC_H_ROOT = 0xFFFFFFFF
_TC_H_CLSACT = 0xFFFFFFF1
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_CLSACT_HANDLE = 0xFFFF0000

TCA_KIND, TCA_OPTIONS = 1, 2
_TCA_STATS2, _TCA_STATS_QUEUE = 7, 3
_TCA_BPF_ACT, _TCA_BPF_OPS_LEN, _TCA_BPF_OPS = 1, 4, 5
_TCA_ACT_KIND, _TCA_ACT_OPTIONS = 1, 2
_TCA_MIRRED_PARMS = 2
_TC_ACT_STOLEN = 4
_TCA_EGRESS_REDIR = 1

_ETH_P_ALL = 3
#: Priority of the ``redirect_add`` filter: before any other.
PRIORITY = 1
_HANDLE = 1

_TCMSG = struct.Struct("=BxxxiIII")
_INSTRUCTION = struct.Struct("=HBBI")


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A line of ``tc -s qdisc show``.

    Attributes:
        kind: qdisc kind, e.g. ``netem``.
        index: interface index.
        handle: qdisc handle; 0 for the kernel's default qdisc.
        parent: parent handle; ``TC_H_ROOT`` for the root qdisc.
        options: the undecoded options.
        queued: number of frames queued now.
        dropped: number of frames dropped so far.
    """

    kind: str
    index: int
    handle: int
    parent: int
    options: bytes
    queued: int
    dropped: int


def _message(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    return _TCMSG.pack(0, index, handle, parent, info)


def _kind(name: str) -> bytes:
    return attribute(TCA_KIND, name.encode() + b"\0")


def qdisc_replace(index: int, name: str, kind: str, options: bytes, words: str) -> Request:
    """``tc qdisc replace dev NAME root KIND ...``: a qdisc of the same kind is changed and keeps its queue."""
    body = _message(index, 0, TC_H_ROOT) + _kind(kind) + (attribute(TCA_OPTIONS, options) if options else b"")
    operation = f"tc qdisc replace dev {name} root {kind} {words}".rstrip()
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body, operation)


def qdisc_delete(index: int, name: str) -> Request:
    """``tc qdisc delete dev NAME root``. Queued frames are lost."""
    return Request(RTM_DELQDISC, 0, _message(index, 0, TC_H_ROOT), f"tc qdisc delete dev {name} root")


def qdisc_dump(index: int, name: str) -> Request:
    """``tc -s qdisc show dev NAME``. Older kernels return the qdiscs of all interfaces."""
    return Request(RTM_GETQDISC, 0, _message(index, 0, 0), f"tc -s qdisc show dev {name}")


def decode_qdisc(body: bytes) -> Qdisc:
    """Decode the body of an RTM_NEWQDISC message."""
    _, index, handle, parent, _ = _TCMSG.unpack_from(body)
    found = attributes(body, _TCMSG.size)
    queue = attributes(found.get(_TCA_STATS2, b"")).get(_TCA_STATS_QUEUE, b"")
    queued, _, dropped = struct.unpack_from("=III", queue) if len(queue) >= 12 else (0, 0, 0)
    kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode()
    return Qdisc(kind, index, handle, parent, found.get(TCA_OPTIONS, b""), queued, dropped)


def clsact_add(index: int, name: str) -> Request:
    """``tc qdisc add dev NAME clsact``: hooks for filters, without a queue."""
    body = _message(index, _CLSACT_HANDLE, _TC_H_CLSACT) + _kind("clsact")
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, f"tc qdisc add dev {name} clsact")


def clsact_delete(index: int, name: str) -> Request:
    """``tc qdisc delete dev NAME clsact``, with all its filters."""
    body = _message(index, _CLSACT_HANDLE, _TC_H_CLSACT) + _kind("clsact")
    return Request(RTM_DELQDISC, 0, body, f"tc qdisc delete dev {name} clsact")


def redirect_add(index: int, name: str, mark: int, to: int, to_name: str) -> Request:
    """Add an egress filter that redirects an interface's frames to another interface, except those with a mark.

    The filter is classic BPF, which needs no privilege outside the user namespace: ``ld mark; jeq #MARK, pass; ret -1;
    pass: ret 0``.
    """
    program = (
        (0x20, 0, 0, 0xFFFFF014),  # ld [SKF_AD_OFF + SKF_AD_MARK]
        (0x15, 1, 0, mark),
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    )
    mirred = struct.pack("=IIiiiiI", 0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_EGRESS_REDIR, to)
    action = attribute(_TCA_ACT_KIND, b"mirred\0") + attribute(_TCA_ACT_OPTIONS, attribute(_TCA_MIRRED_PARMS, mirred))
    options = (
        attribute(_TCA_BPF_ACT, attribute(1, action))
        + attribute(_TCA_BPF_OPS_LEN, struct.pack("=H", len(program)))
        + attribute(_TCA_BPF_OPS, b"".join(_INSTRUCTION.pack(*each) for each in program))
    )
    body = (
        _message(index, _HANDLE, _EGRESS, PRIORITY << 16 | _swapped(_ETH_P_ALL))
        + _kind("bpf")
        + attribute(TCA_OPTIONS, options)
    )
    operation = (
        f"tc filter add dev {name} egress protocol all prio {PRIORITY} bpf bytecode 'mark != {mark:#x}' "
        f"action mirred egress redirect dev {to_name}"
    )
    return Request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body, operation)


def redirect_delete(index: int, name: str) -> Request:
    """Remove the filter of ``redirect_add``."""
    body = _message(index, _HANDLE, _EGRESS, PRIORITY << 16 | _swapped(_ETH_P_ALL)) + _kind("bpf")
    return Request(RTM_DELTFILTER, 0, body, f"tc filter delete dev {name} egress protocol all prio {PRIORITY} bpf")


def filter_dump(index: int, name: str, side: str = "egress") -> Request:
    """``tc filter show dev NAME egress``, or ``ingress``."""
    parent = _EGRESS if side == "egress" else _INGRESS
    return Request(RTM_GETTFILTER, 0, _message(index, 0, parent), f"tc filter show dev {name} {side}")


def filter_priority(body: bytes) -> int:
    """The priority of a filter, from the body of an RTM_NEWTFILTER message."""
    return int(_TCMSG.unpack_from(body)[4]) >> 16


def is_redirect(body: bytes, to: int) -> bool:
    """Whether a filter is that of ``redirect_add``, by the index of the target device; 0 if that is gone."""
    _, _, handle, _, _ = _TCMSG.unpack_from(body)
    ours = (filter_priority(body), handle, attributes(body, _TCMSG.size).get(TCA_KIND)) == (PRIORITY, _HANDLE, b"bpf\0")
    return ours and any(struct.pack("=iI", _TCA_EGRESS_REDIR, index) in body for index in (to, 0))


def _swapped(ethertype: int) -> int:
    """An EtherType in network byte order, as BPF sees it in a register."""
    return int(struct.unpack("=H", struct.pack("!H", ethertype))[0])
