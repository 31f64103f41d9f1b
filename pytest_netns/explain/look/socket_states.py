"""Sockets of a node on a port, with the properties that decide whether they accept a packet (sock_diag(7))."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pytest_netns.addresses import Address
from pytest_netns.explain.observation.observed_packets import Kind
from pytest_netns.kernel import procfs
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request, attributes
from pytest_netns.kernel.syscalls import entered
from pytest_netns.lab.nodes import Node

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NUMBERS = {"tcp": 6, "udp": 17}
_ESTABLISHED, _CLOSE, _LISTEN = 1, 7, 10
# INET_DIAG_SKMEMINFO of <linux/inet_diag.h>, and where the drops stand in it
_SKMEMINFO, _SK_MEMINFO_DROPS = 7, 8
_REQUEST = struct.Struct("=BBBxI")
# struct inet_diag_msg of <linux/inet_diag.h>: family, state, timer, retransmissions; ports, addresses, interface,
# cookie; expires, queues, uid, inode
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8sIIIII")


@dataclass(frozen=True, slots=True)
class SocketState:
    """A line of ``ss -nlptu`` or ``ss -ntu``.

    Attributes:
        address: the address that it is bound to.
        port: the port that it is bound to.
        peer: address and port that it is connected to; None if not connected.
        device: index of the interface that it is bound to; 0 for all.
        queued: bytes in its receive queue; for a listener, connections that wait.
        backlog: for a listener, how many may wait.
        inode: by which /proc/PID/fd names it.
        waits: whether it waits for any peer.
        dropped: packets that it has not taken, since it was made.
    """

    address: Address
    port: int
    peer: tuple[Address, int] | None
    device: int
    queued: int
    backlog: int
    inode: int
    waits: bool
    dropped: int = 0

    def owners(self, node: Node) -> Iterator[tuple[int, str]]:
        """The processes in a node's namespace that have it open, children of others too: their PIDs and names."""
        place = f"net:[{node.inode}]"
        for pid in procfs.numbers():
            if procfs.namespace_of(pid, "net") == place and self.inode in (procfs.sockets_of(pid) or ()):
                yield pid, os.path.basename(procfs.command_of(pid).partition(" ")[0])

    def __str__(self) -> str:
        peer = f" peer {self.peer[0]}:{self.peer[1]}" if self.peer is not None else ""
        device = f" device {self.device}" if self.device else ""
        return f"{self.address}:{self.port}{peer}{device} receive queue {self.queued}"


def sockets(node: Node, kind: Kind, version: int) -> list[SocketState]:
    """All sockets that take packets of a protocol: bound, listening and, for UDP, connected."""
    states = 1 << _LISTEN if kind == "tcp" else 1 << _CLOSE | 1 << _ESTABLISHED
    families = (AF_INET, AF_INET6) if version == 4 else (AF_INET6,)  # one of IPv6 may take IPv4
    with entered(node):
        link = NetlinkSocket(node.name, _NETLINK_SOCK_DIAG)
    try:
        return [
            _decode(body)
            for family in families
            for body in link.dump(
                Request(
                    _SOCK_DIAG_BY_FAMILY,
                    0,
                    _REQUEST.pack(family, _NUMBERS[kind], 1 << _SKMEMINFO - 1, states) + bytes(48),
                    f"ss --{kind}",
                )
            )
        ]
    finally:
        link.close()


def _decode(body: bytes) -> SocketState:
    family, state, _, _, sport, dport, source, destination, device, _, _, queued, backlog, _, inode = (
        _ANSWER.unpack_from(body)
    )
    size = 4 if family == AF_INET else 16
    port = int.from_bytes(dport, "big")
    return SocketState(
        _address(source[:size]),
        int.from_bytes(sport, "big"),
        (_address(destination[:size]), port) if port else None,
        device,
        queued,
        backlog,
        inode,
        waits=state != _ESTABLISHED,
        dropped=_dropped(attributes(body, _ANSWER.size).get(_SKMEMINFO, b"")),
    )


def _dropped(memory: bytes) -> int:
    """The last number of SK_MEMINFO_... (<linux/sock_diag.h>)."""
    return int(struct.unpack_from("=I", memory, 4 * _SK_MEMINFO_DROPS)[0]) if len(memory) > 4 * _SK_MEMINFO_DROPS else 0


def _address(raw: bytes) -> Address:
    if len(raw) == 4:
        return IPv4Address(raw)
    six = IPv6Address(raw)
    return six.ipv4_mapped or six


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by a signal or a debugger."""
    found = procfs.stat(pid)
    return found is not None and found.state in "Tt"
