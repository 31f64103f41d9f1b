"""Kernel counters of a namespace or an interface, and how they change during a block."""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket, Request, attributes
from pytest_netns.kernel.syscalls import entered

#: Of struct rtnl_link_stats64, in its order (<linux/if_link.h>).
_OF_INTERFACE = (
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
    "rx_otherhost_dropped",
)
#: What the kernel lists among the counters, and is none (RFC 4293, RFC 4022).
_SETTINGS = frozenset({"IpForwarding", "IpDefaultTTL", "TcpRtoAlgorithm", "TcpRtoMin", "TcpRtoMax", "TcpMaxConn"})
_IFLA_STATS64 = 23
_IFINFO = 16  # bytes of struct ifinfomsg
#: The kernel lists these only once a packet has counted.
_LISTED_LATER = re.compile(r"Icmp(Msg|6)(In|Out)Type\d+")


class KernelCounters(Mapping[str, int]):
    """Counters by name: a snapshot, which does not change. For current values, read the property again.

    A namespace has the counters of nstat(8) (/proc/net/snmp, netstat and snmp6): ``IpInReceives``,
    ``TcpExtListenDrops``, ``Ip6InNoRoutes``, ... An interface has those of ``ip -s -s link``: ``rx_packets``,
    ``tx_dropped``, ...; packets, or bytes where the name says so.

    Example:
        >>> red.counters["TcpActiveOpens"], red.interfaces["eth0"].counters["rx_packets"]
    """

    def __init__(self, whose: str, values: Mapping[str, int]) -> None:
        self._whose = whose
        self._values = values

    def __getitem__(self, name: str) -> int:
        if name in self._values:
            return self._values[name]
        if isinstance(name, str) and _LISTED_LATER.fullmatch(name) and "IpInReceives" in self._values:
            return 0
        raise KeyError(_unknown(self._whose, name, self._values))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<counters of {self._whose}: {_listed(self._values)}>"


class CounterChange(Mapping[str, int]):
    """How much the counters have changed since the block began; after the block, how much they changed in it.

    A counter that has not changed is 0, so any known name can be compared. Iterating and printing show only those
    that have changed. If the host has crashed and was restarted meanwhile, they count from its restart on.

    Example:
        >>> with red.counting() as change:
        ...     assert red.ping(blue)
        >>> assert change["IcmpInEchoReps"] == 1
        >>> assert change["IpOutNoRoutes"] == 0
    """

    def __init__(self, read: Callable[[], KernelCounters], inode: Callable[[], int]) -> None:
        self._read = read
        self._inode = inode
        self._namespace = inode()
        self._before: Mapping[str, int] = read()._values
        self._restarted = ""
        self._after: KernelCounters | None = None
        self._failure: NetnsError | None = None

    def _end(self) -> None:
        self._after = self._latest()

    def _end_after_failure(self) -> None:
        """Of what the block has failed with is to be told, not that there is nothing to be read any more."""
        try:
            self._end()
        except NetnsError as error:
            self._failure = error

    def _latest(self) -> KernelCounters:
        if self._failure is not None:
            raise self._failure
        if self._after is not None:
            return self._after
        after = self._read()
        if (now := self._inode()) != self._namespace:  # a new one, whose counters began at 0
            kept = {name: value for name, value in self._before.items() if name in _SETTINGS}
            self._namespace, self._before, self._restarted = now, kept, " since its restart"
        return after

    def _changed(self) -> dict[str, int]:
        after = self._latest()
        found = {name: value - self._before.get(name, 0) for name, value in after.items()}
        return {name: by for name, by in found.items() if by}

    def __getitem__(self, name: str) -> int:
        after = self._latest()
        return after[name] - self._before.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._changed())

    def __len__(self) -> int:
        return len(self._changed())

    def __repr__(self) -> str:
        try:
            whose, changed = self._latest()._whose, self._changed()
        except NetnsError as error:
            return f"<counted: cannot be read: {error}>"
        listed = ", ".join(f"{name} {by:+}" for name, by in changed.items()) or "nothing"
        return f"<counted by {whose}{self._restarted}: {listed}>"


def namespace_counters(fd: int, name: str) -> KernelCounters:
    """The counters of a namespace, given by its file descriptor and its name."""
    values: dict[str, int] = {}
    with entered(fd):
        texts = {file: _read(file) for file in ("snmp", "netstat", "snmp6")}
    for file in ("snmp", "netstat"):
        lines = texts[file].splitlines()
        for names, numbers in zip(lines[::2], lines[1::2], strict=False):
            group, *keys = names.split()
            values.update(zip((group.rstrip(":") + key for key in keys), map(int, numbers.split()[1:]), strict=False))
    for line in texts["snmp6"].splitlines():
        key, number = line.split()
        values[key] = int(number)
    return KernelCounters(repr(name), values)


def interface_counters(rtnl: NetlinkSocket, index: int, name: str) -> KernelCounters:
    """The counters of an interface, given by its index (IFLA_STATS64)."""
    body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
    found = rtnl.get(Request(rtnetlink.RTM_GETLINK, 0, body, f"ip -statistics link show {name}"))
    raw = attributes(found, _IFINFO).get(_IFLA_STATS64, b"")
    numbers = struct.unpack(f"={len(raw) // 8}Q", raw[: len(raw) // 8 * 8])
    return KernelCounters(repr(f"{rtnl.node}:{name}"), dict(zip(_OF_INTERFACE, numbers, strict=False)))


@contextmanager
def counted(read: Callable[[], KernelCounters], inode: Callable[[], int]) -> Iterator[CounterChange]:
    """Count what changes during the block.

    Args:
        read: reads the counters.
        inode: that of the namespace which they are of: after a restart it is another one.
    """
    change = CounterChange(read, inode)
    try:
        yield change
    except BaseException:
        change._end_after_failure()
        raise
    change._end()


def _read(name: str) -> str:
    try:
        with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:  # snmp6 without IPv6
        return ""


def _listed(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value) or "all 0"


def _unknown(whose: str, name: object, values: Mapping[str, int]) -> str:
    close = (
        difflib.get_close_matches(str(name), values, n=3)
        or [each for each in values if str(name).rpartition(".")[2].lower() in each.lower()][:3]
    )
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{whose} has no counter {name!r}{hint}"
