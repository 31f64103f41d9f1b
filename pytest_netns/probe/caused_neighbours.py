"""Caused neighbours: the neighbour entries that probes leave behind in the nodes of a lab, and their removal.

The kernel has room for some 1,000 of them on the whole machine (see ``pytest_netns.kernel.netlink.neighbour_table``).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.neighbour_table import (
    INCOMPLETE,
    Entry,
    counted_entries,
    neighbour_delete,
    neighbour_listen,
    neighbour_uncount,
)
from pytest_netns.kernel.netlink.socket import MOST_AT_ONCE, Request
from pytest_netns.stack.namespace import Namespace

#: The entry, or its interface, went meanwhile; it is there already; there is no room, which pings will find out too.
_EXPECTED = (errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.EEXIST, errno.ENOBUFS)


class CausedNeighbours:
    """The entries that nodes have got since this was made. What was there before is left alone.

    Args:
        nodes: of one lab. Those that share a namespace count once.
        families: AF_INET, AF_INET6: which tables are looked at.

    Raises:
        KernelError: the kernel refused to list them.
    """

    def __init__(self, nodes: Iterable[Namespace], families: Sequence[int]) -> None:
        self._families = families
        self._nodes = {node.inode: node for node in nodes}
        self._before = {inode: self._entries(node) for inode, node in self._nodes.items()}
        self._uncounted: dict[int, set[Entry]] = {}

    def listen_for(self, node: Namespace, entries: Iterable[Entry]) -> None:
        """Make entries without a MAC address, so that a node learns it from whatever it hears of the neighbour.

        Args:
            node: one of those given.
            entries: those that are there stay as they are.

        Raises:
            KernelError: the kernel refused, other than because the table is full.
        """
        _ask(node, entries, neighbour_listen)

    def remove_from(self, nodes: Iterable[Namespace], keep: Mapping[Namespace, Collection[Entry]]) -> None:
        """Remove the entries that some nodes have got, for now.

        Args:
            nodes: where.
            keep: entries that are still needed. They and those that wait for an answer stay until ``remove_all``, and
                do not count any more.

        Raises:
            KernelError: the kernel refused, other than because an entry has gone.
        """
        needed = {node.inode: entries for node, entries in keep.items()}
        for inode in {node.inode for node in nodes}:
            node, before = self._nodes[inode], self._before[inode]
            new = {entry: state for entry, state in self._entries(node).items() if entry not in before}
            kept = {entry for entry, state in new.items() if state == INCOMPLETE or entry in needed.get(inode, ())}
            _ask(node, kept, neighbour_uncount)
            self._uncounted.setdefault(inode, set()).update(kept)
            _ask(node, new.keys() - kept, neighbour_delete)

    def remove_all(self) -> None:
        """Remove all entries that the nodes have got since this was made.

        Raises:
            KernelError: the kernel refused, other than because an entry has gone.
        """
        for inode, node in self._nodes.items():
            if not node.closed:
                new = self._entries(node).keys() - self._before[inode].keys()
                _ask(node, new | self._uncounted.pop(inode, set()), neighbour_delete)

    def _entries(self, node: Namespace) -> dict[Entry, int]:
        return counted_entries(node.rtnl, self._families)


def _ask(node: Namespace, entries: Iterable[Entry], request: Callable[[Entry], Request]) -> None:
    requests = [request(entry) for entry in entries]
    for start in range(0, len(requests), MOST_AT_ONCE):
        try:
            node.rtnl.batch(requests[start : start + MOST_AT_ONCE])
        except KernelError as error:
            if error.errno not in _EXPECTED:
                raise
