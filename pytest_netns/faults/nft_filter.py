"""Filter: nftables rules that stand for a fault, in a table of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from pytest_netns.addresses import Network
from pytest_netns.topology.node import BaseNode

_numbers = itertools.count(1)


class Chain(NamedTuple):
    """A chain of a table, in the words of nft(8).

    Attributes:
        name: as given.
        head: ``type ... priority ...;``.
        rules: one a line.
        device: the interface that it belongs to, of the family ``netdev``; "" for all others.
    """

    name: str
    head: str
    rules: Iterable[str]
    device: str = ""


class Filter:
    """One table in one namespace.

    Args:
        node: whose.
        family: of the table: ``inet`` or ``netdev``, see nft(8).
        chains: its chains.

    Raises:
        CommandError: nft refused it; there is no such table then.
        UnsupportedError: neither libnftables nor the nft program is installed.
    """

    def __init__(self, node: BaseNode, family: str, chains: Iterable[Chain]) -> None:
        self.node = node
        self._inode = node.inode
        self.table: str = f"{family} pytest_netns_fault_{next(_numbers)}"
        self._chains = tuple(chains)
        self._counted: int | None = None
        self._set()

    def _set(self) -> None:
        # Devices go with a crash, and before Linux 6.16 a chain cannot be had for one that is not there.
        present = {"", *self.node.interfaces}
        text = [f"table {self.table} {{"]
        for name, head, rules, device in self._chains:
            if device in present:
                text += [f"  chain {name} {{", f"    {head} policy accept;", *(f"    {rule}" for rule in rules), "  }"]
        self.node.nft("\n".join([*text, "}"]))

    def renew(self) -> None:
        """Set it again if the node has another namespace than before; it counts anew. Raises CommandError."""
        if self.node.inode != self._inode:
            self._set()
            self._inode = self.node.inode

    @property
    def packets(self) -> int:
        """How many packets its rules have stopped; once it was taken away, how many those were then."""
        if self._counted is not None:
            return self._counted
        total = 0
        for item in self.node.nft_ruleset():
            rule = item.get("rule")
            if isinstance(rule, dict) and f"{rule['family']} {rule['table']}" == self.table:
                total += sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
        return total

    def remove(self) -> None:
        """Take it away; nothing happens if it went with its namespace or with a flushed ruleset."""
        if not self.node.closed and self.node.inode == self._inode:
            self._counted = self.packets
            self.node.nft(f"add table {self.table}; delete table {self.table}")


def renew_those_of(filters: Iterable[Filter], node: BaseNode) -> None:
    """Set those of a node again, which has another namespace than before. Raises CommandError."""
    for each in filters:
        if each.node is node:
            each.renew()


def one_of(items: Iterable[object]) -> str:
    """A set in nft's words."""
    return f"{{ {', '.join(map(str, items))} }}"


def addresses(side: str, networks: Iterable[Network]) -> dict[int, str]:
    """What matches a source (``side`` is ``saddr``) or destination (``daddr``), by IP version."""
    found = {}
    for version, family in ((4, "ip"), (6, "ip6")):
        mine = [network for network in networks if network.version == version]
        if mine:
            found[version] = f"{family} {side} {one_of(mine)}"
    return found
