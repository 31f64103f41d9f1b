"""Names: what the isolated hosts of a lab find in /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from pytest_netns.addresses import Address, is_of_link, parse_plain
from pytest_netns.errors import NetnsError, TopologyError
from pytest_netns.events import Event
from pytest_netns.lab.nodes import Node
from pytest_netns.topology.network_events import DeviceAdded, DeviceRemoved, LinkAdded, LinkRemoved
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from pytest_netns.topology.network import Network

Entry = Node | str | IPv4Address | IPv6Address | Sequence[str | IPv4Address | IPv6Address]

_LOCAL = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


class Names(MutableMapping[str, list[Address]]):
    """The names of a lab: ``lab.dns["www.example.com"] = blue``, beside every node's own, which are always there.

    Changes reach running processes at once. Hosts see them that are isolated with ``"mount"``.

    Attributes:
        nameservers: addresses that go into /etc/resolv.conf, for what is not found here.

    Example:
        >>> lab.dns["www.example.com"] = blue
    """

    def __init__(self, lab: Network) -> None:
        self._lab = lab
        self._following = False
        self._entries: dict[str, list[Address] | Node] = {}
        self.nameservers: list[str | IPv4Address | IPv6Address] = []

    def _addresses(self, entry: list[Address] | BaseNode) -> list[Address]:
        if isinstance(entry, BaseNode):
            return [] if entry.closed else [a.ip for a in entry.addresses() if not is_of_link(a)]
        return entry

    def __getitem__(self, name: str) -> list[Address]:
        try:
            entry = self._entries[name] if name in self._entries else self._nodes()[name]
        except KeyError:
            known = ", ".join(self)
            raise KeyError(f"lab {self._lab.name!r} has no name {name!r}; it has: {known}") from None
        return self._addresses(entry)

    def known(self) -> Mapping[str, Sequence[Address]]:
        """All of them, for whoever knows a lab as a network."""
        return self

    def _nodes(self) -> dict[str, BaseNode]:
        return {node.name: node for node in self._lab}

    def __setitem__(self, name: str, value: Entry) -> None:
        if not isinstance(name, str) or not name or any(c.isspace() or c == "#" for c in name):
            raise TopologyError(f"{name!r} cannot be a host name")
        if isinstance(value, Node):
            self._lab._check_node(value, "name")
            self._entries[name] = value
        else:
            several = [value] if isinstance(value, str | IPv4Address | IPv6Address) else value
            if isinstance(several, bytes) or not isinstance(several, Iterable):
                raise TopologyError(f"name {name!r}: {value!r} is no node, no address and not several of them")
            try:
                self._entries[name] = [parse_plain(each, f"name {name!r}") for each in several]
            except TopologyError as error:
                raise TopologyError(f"{error}; expected a node, an address or several") from None
        self.refresh()

    def __delitem__(self, name: str) -> None:
        if name not in self._entries:
            raise KeyError(f"lab {self._lab.name!r}: {name!r} was not set here")
        del self._entries[name]
        self.refresh()

    def __iter__(self) -> Iterator[str]:
        yield from self._entries
        yield from (node.name for node in self._lab if node.name not in self._entries)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def hosts_file(self) -> str:
        """What /etc/hosts holds (hosts(5))."""
        lines = [f"{address} {name}\n" for name in self for address in self[name]]
        return _LOCAL + "".join(lines)

    def resolver_file(self) -> str:
        """What /etc/resolv.conf holds (resolv.conf(5))."""
        servers = "".join(f"nameserver {server}\n" for server in self.nameservers)
        return servers + "options timeout:1 attempts:1\n"

    def follow(self) -> None:
        """Keep the files of isolated hosts as the lab is, from now on."""
        if not self._following:
            self._following = True
            self._lab.events.subscribe(self._told)

    def _told(self, event: Event) -> None:
        if isinstance(event, LinkAdded | LinkRemoved | DeviceAdded | DeviceRemoved):
            self.refresh()

    def refresh(self) -> None:
        """Write the files of all isolated hosts anew, if something has changed."""
        isolated = [node.isolation for node in self._lab if node.isolation is not None and not node.closed]
        if not isolated:
            return
        try:
            hosts, resolver = self.hosts_file(), self.resolver_file()
        except NetnsError:  # a node is being taken down; the next change writes it all again
            return
        for isolation in isolated:
            isolation.write("/etc/hosts", hosts)
            isolation.write("/etc/resolv.conf", resolver)
