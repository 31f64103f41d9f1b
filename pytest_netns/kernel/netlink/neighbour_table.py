"""The kernel's neighbour tables, one for ARP and one for IPv6 neighbour discovery: their fill level and entries.

Each is one table for the whole machine: its limit applies to the entries of all network namespaces together, and only
the initial namespace can raise it. Entries that are permanent or marked ``extern_learn`` do not count towards the limit
(``neigh_alloc()`` in net/core/neighbour.c, since Linux 5.0).

Encoded by hand, without pyroute2: every lab reads the tables, and ``ping_all`` changes hundreds of entries at once.
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

#: State (NUD) of an entry that is being resolved.
INCOMPLETE = 0x01
# From <linux/neighbour.h>.
_NUD_REACHABLE, _NUD_NOARP, _NUD_PERMANENT = 0x02, 0x40, 0x80
_NTF_USE, _NTF_EXT_LEARNED = 0x01, 0x10
_NDA_DST, _NDA_LLADDR = 1, 2
_NDTA_NAME, _NDTA_THRESH3, _NDTA_CONFIG, _NDTA_STATS = 1, 4, 5, 7
_NDMSG = struct.Struct("=BxxxiHBB")  # family, interface, state, flags, type
_TABLE_FULLS = 10  # index of the counter in struct ndt_stats

_FAMILIES = {AF_INET: 4, AF_INET6: 6}


class NeighbourTable(NamedTuple):
    """The fill level of one of the two tables.

    Attributes:
        version: 4 for ARP, 6 for neighbour discovery.
        entries: entries of all namespaces, including those that do not count towards the limit.
        limit: maximum number of entries that count (``gc_thresh3``).
        refusals: how many entries were refused since boot because the table was full (``table_fulls``).
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
        """What happens when the table is full, and what to do."""
        return (
            "when it is full, new neighbours cannot be reached from anywhere on this machine: end labs and containers "
            "that are not needed, or raise the limit as root of the machine: "
            f"sysctl -w net.ipv{self.version}.neigh.default.gc_thresh3={8 * self.limit}"
        )

    def __str__(self) -> str:
        kind = "ARP" if self.version == 4 else "IPv6 neighbour discovery"
        uncounted = ", of which those that are permanent or learned externally do not count"
        return (
            f"the kernel's {kind} table holds {self.entries} of at most {self.limit} entries, "
            "those of all network namespaces of this machine together"
            f"{uncounted if self.entries > self.limit else ''}"
        )


def neighbour_tables(rtnl: NetlinkSocket) -> dict[int, NeighbourTable]:
    """Both tables by IP version. The answer covers all namespaces, whichever one the socket is in.

    Args:
        rtnl: a netlink socket of any namespace.

    Raises:
        KernelError: the kernel refused.
    """
    request = Request(_RTM_GETNEIGHTBL, 0, bytes(4), "ip ntable show")
    found: dict[int, NeighbourTable] = {}
    for body in rtnl.dump(request):
        parts = attributes(body, 4)
        if body[0] in _FAMILIES and _NDTA_STATS in parts:  # the other messages are about single interfaces
            version = _FAMILIES[body[0]]
            entries = struct.unpack_from("=HHI", parts[_NDTA_CONFIG])[2]
            limit = struct.unpack("=I", parts[_NDTA_THRESH3])[0]
            refusals = struct.unpack_from(f"={_TABLE_FULLS + 1}Q", parts[_NDTA_STATS])[-1]
            found[version] = NeighbourTable(version, entries, limit, refusals)
    return found


class RefusalLog:
    """Tracks the neighbour entries that the kernel has refused, machine-wide, since the last query."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def begin(self, rtnl: NetlinkSocket) -> None:
        """Start counting, unless counting has started already.

        Args:
            rtnl: a netlink socket of any namespace.

        Raises:
            KernelError: the kernel refused to tell.
        """
        if not self._seen:
            self._seen = {version: table.refusals for version, table in neighbour_tables(rtnl).items()}

    def crowded(self, rtnl: NetlinkSocket) -> dict[int, str]:
        """The tables that have refused entries since and are still crowded, described in words, by IP version.

        Args:
            rtnl: a netlink socket of any namespace.

        Raises:
            KernelError: the kernel refused to tell.
        """
        found: dict[int, str] = {}
        for version, table in neighbour_tables(rtnl).items():
            before, self._seen[version] = self._seen.get(version, table.refusals), table.refusals
            # The kernel shrinks a full table to half of the limit once entries are older than 5 s (neigh_forced_gc()).
            if 4 * table.entries > table.limit and table.refusals > before:
                found[version] = f"{table}, and {table.refusals - before} new neighbours had no room"
        return found


#: The log of this process.
refusal_log: RefusalLog = RefusalLog()


class Entry(NamedTuple):
    """The key of a neighbour entry within a namespace.

    Attributes:
        interface: interface index.
        packed: the neighbour's address in network byte order.
    """

    interface: int
    packed: bytes


def counted_entries(rtnl: NetlinkSocket, families: Iterable[int]) -> dict[Entry, int]:
    """The neighbour entries of a namespace that traffic has created, and their states (NUD).

    Permanent entries, those marked ``extern_learn`` and multicast ones are left out.

    Args:
        rtnl: a netlink socket in the namespace.
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
            if kind == _NDA_DST:  # it comes first; the rest is not needed
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
    """``ip neighbour add ADDRESS nud none``: the MAC address is learnt from received packets, or resolved on use."""
    return _request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, entry, "add {} nud none")


def neighbour_known(entry: Entry, mac: bytes) -> Request:
    """``ip neighbour replace ADDRESS lladdr MAC extern_learn``: outside the limit, but probed like any other entry."""
    words = f"replace {{}} lladdr {mac.hex(':')} extern_learn"
    request = _request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entry, words, _NTF_EXT_LEARNED, _NUD_REACHABLE)
    return request._replace(body=request.body + attribute(_NDA_LLADDR, mac))


def neighbour_uncount(entry: Entry) -> Request:
    """``ip neighbour replace ADDRESS extern_learn use``: no longer counts towards the limit; its state is unchanged."""
    return _request(RTM_NEWNEIGH, NLM_F_REPLACE, entry, "replace {} extern_learn use", _NTF_EXT_LEARNED | _NTF_USE)
