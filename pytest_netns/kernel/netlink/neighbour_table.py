"""The kernel's neighbour tables, one for ARP and one for IPv6 neighbour discovery: how full they are, and entries.

Each is one table for the whole machine: its limit is for the entries of all network namespaces together, and only the
initial namespace can raise it. Entries that are permanent or marked ``extern_learn`` do not count towards the limit
(``neigh_alloc()`` in net/core/neighbour.c, since Linux 5.0).

By hand and not by pyroute2: every lab looks at the tables, and ``ping_all`` changes hundreds of entries at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from socket import inet_ntop
from typing import NamedTuple

from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6, neighbour_dump
from pytest_netns.kernel.netlink.socket import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    Request,
    attribute,
    attributes,
)

RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
_RTM_GETNEIGHTBL = 66

#: The state (NUD) of an entry that waits for an answer.
INCOMPLETE = 0x01
# From <linux/neighbour.h>.
_NUD_REACHABLE, _NUD_NOARP, _NUD_PERMANENT = 0x02, 0x40, 0x80
_NTF_USE, _NTF_EXT_LEARNED = 0x01, 0x10
_NDA_DST, _NDA_LLADDR = 1, 2
_NDTA_NAME, _NDTA_THRESH3, _NDTA_CONFIG, _NDTA_STATS = 1, 4, 5, 7
_NDMSG = struct.Struct("=BxxxiHBB")  # family, interface, state, flags, type
_TABLE_FULLS = 10  # which of the counters in struct ndt_stats

_FAMILIES = {AF_INET: 4, AF_INET6: 6}


class NeighbourTable(NamedTuple):
    """How full one of the two tables is.

    Attributes:
        version: 4 for ARP, 6 for neighbour discovery.
        entries: of all namespaces together; those that do not count towards the limit are among them.
        limit: how many entries that count there can be (``gc_thresh3``).
        refusals: how often there was no room for another one since the machine was started (``table_fulls``).
    """

    version: int
    entries: int
    limit: int
    refusals: int

    @property
    def is_above_half(self) -> bool:
        """Whether more than half of the limit is used."""
        return 2 * self.entries > self.limit

    @property
    def consequence(self) -> str:
        """What follows when it is full, and what to do."""
        return (
            "when it is full, new neighbours cannot be reached from anywhere on this machine: end labs and containers "
            "that are not needed, or raise the limit as root of the machine: "
            f"sysctl -w net.ipv{self.version}.neigh.default.gc_thresh3={8 * self.limit}"
        )

    def __str__(self) -> str:
        kind = "ARP" if self.version == 4 else "IPv6 neighbour discovery"
        return (
            f"the kernel's {kind} table holds {self.entries} of at most {self.limit} entries, "
            "those of all network namespaces of this machine together"
        )


def neighbour_tables(rtnl: NetlinkSocket) -> dict[int, NeighbourTable]:
    """The two tables by version of IP; from whichever namespace it is asked, the answer is about all.

    Args:
        rtnl: a netlink socket of any namespace.

    Raises:
        KernelError: the kernel refused.
    """
    request = Request(_RTM_GETNEIGHTBL, 0, bytes(4), "ip ntable show")
    found: dict[int, NeighbourTable] = {}
    for body in rtnl.dump(request):
        parts = attributes(body, 4)
        if body[0] in _FAMILIES and _NDTA_STATS in parts:  # further messages are about single interfaces
            version = _FAMILIES[body[0]]
            entries = struct.unpack_from("=HHI", parts[_NDTA_CONFIG])[2]
            limit = struct.unpack("=I", parts[_NDTA_THRESH3])[0]
            refusals = struct.unpack_from(f"={_TABLE_FULLS + 1}Q", parts[_NDTA_STATS])[-1]
            found[version] = NeighbourTable(version, entries, limit, refusals)
    return found


class RefusalLog:
    """Tells how many entries the kernel has refused, on the whole machine, since it was asked last."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def begin(self, rtnl: NetlinkSocket) -> None:
        """Count from now on, unless that was begun before.

        Args:
            rtnl: a netlink socket of any namespace.

        Raises:
            KernelError: the kernel refused to tell.
        """
        if not self._seen:
            self._seen = {version: table.refusals for version, table in neighbour_tables(rtnl).items()}

    def crowded(self, rtnl: NetlinkSocket) -> dict[int, str]:
        """The tables, by version of IP and in words, that have refused entries since, and are not empty again.

        Args:
            rtnl: a netlink socket of any namespace.

        Raises:
            KernelError: the kernel refused to tell.
        """
        found: dict[int, str] = {}
        for version, table in neighbour_tables(rtnl).items():
            before, self._seen[version] = self._seen.get(version, table.refusals), table.refusals
            # A full table is shrunk to half of the limit as soon as entries are older than 5 s (neigh_forced_gc()).
            if 4 * table.entries > table.limit and table.refusals > before:
                found[version] = f"{table}, and {table.refusals - before} new neighbours had no room"
        return found


#: That of this process.
refusal_log: RefusalLog = RefusalLog()


class Entry(NamedTuple):
    """Which entry of a namespace.

    Attributes:
        interface: its index.
        packed: the neighbour's address in the order of the wire.
    """

    interface: int
    packed: bytes


def counted_entries(rtnl: NetlinkSocket, families: Iterable[int]) -> dict[Entry, int]:
    """The entries of a namespace that traffic has made, and their states (NUD).

    Permanent ones, those marked ``extern_learn`` and those of multicast are left out.

    Args:
        rtnl: a netlink socket inside.
        families: AF_INET, AF_INET6.

    Raises:
        KernelError: the kernel refused.
    """
    found: dict[Entry, int] = {}
    for family in families:
        for body in rtnl.dump(neighbour_dump(family)):
            _, index, state, flags, _ = _NDMSG.unpack_from(body)
            if state & (_NUD_NOARP | _NUD_PERMANENT) or flags & _NTF_EXT_LEARNED:
                continue
            size, kind = struct.unpack_from("=HH", body, 12)
            if kind == _NDA_DST:  # it comes first, and the rest is not wanted here
                found[Entry(index, body[16 : 12 + size])] = state
    return found


def _request(kind: int, verb: int, entry: Entry, words: str, flags: int = 0, state: int = 0) -> Request:
    family = AF_INET if len(entry.packed) == 4 else AF_INET6
    body = _NDMSG.pack(family, entry.interface, state, flags, 0) + attribute(_NDA_DST, entry.packed)
    return Request(kind, verb, body, f"ip neighbour {words.format(inet_ntop(family, entry.packed))}")


def neighbour_delete(entry: Entry) -> Request:
    """``ip neighbour delete ADDRESS``."""
    return _request(RTM_DELNEIGH, 0, entry, "delete {}")


def neighbour_listen(entry: Entry) -> Request:
    """``ip neighbour add ADDRESS nud none``: its MAC address is taken from whatever it sends, or asked for on use."""
    return _request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, entry, "add {} nud none")


def neighbour_known(entry: Entry, mac: bytes) -> Request:
    """``ip neighbour replace ADDRESS lladdr MAC extern_learn``: it does not count, and is asked as any other."""
    words = f"replace {{}} lladdr {mac.hex(':')} extern_learn"
    request = _request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entry, words, _NTF_EXT_LEARNED, _NUD_REACHABLE)
    return request._replace(body=request.body + attribute(_NDA_LLADDR, mac))


def neighbour_uncount(entry: Entry) -> Request:
    """``ip neighbour replace ADDRESS extern_learn use``: it does not count any more; its state stays as it is."""
    return _request(RTM_NEWNEIGH, NLM_F_REPLACE, entry, "replace {} extern_learn use", _NTF_EXT_LEARNED | _NTF_USE)
