"""Members: the nodes of a lab, how one is created, and how an existing namespace is adopted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.neighbour_table import refusal_log
from pytest_netns.kernel.sysctl import BASELINE, existing_ones
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.host import Host
from pytest_netns.lab.nodes import Node
from pytest_netns.process.isolation import KINDS, Kind
from pytest_netns.stack.namespace import Namespace
from pytest_netns.stack.views import link_names
from pytest_netns.topology.addressing import HostAddress
from pytest_netns.topology.interface_allocator import InterfaceAllocator
from pytest_netns.topology.naming import check_node_name
from pytest_netns.topology.network_events import NodeAdded

if TYPE_CHECKING:
    from pytest_netns.topology.network import Network

HostAddresses = HostAddress | Sequence[HostAddress]

_N = TypeVar("_N", bound=Node)


class Members(Mapping[str, Node]):
    """The nodes of a lab by name, oldest first.

    Args:
        lab: whose.
        isolate: the default namespaces of every host and router besides its network.
    """

    def __init__(self, lab: Network, isolate: Iterable[Kind]) -> None:
        self._lab = lab
        self._nodes: dict[str, Node] = {}
        self._isolate = self._kinds("every host", isolate)
        #: Those whose namespaces live on when the lab is closed.
        self.adopted: list[Node] = []

    def __getitem__(self, name: str) -> Node:
        try:
            return self._nodes[name]
        except KeyError:
            known = ", ".join(self._nodes) or "none yet"
            raise KeyError(f"lab {self._lab.name!r} has no node {name!r}; it has: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._nodes))

    def __len__(self) -> int:
        return len(self._nodes)

    def check_name(self, name: str) -> None:
        """Raise TopologyError unless a new node can have this name."""
        check_node_name(name, self._lab.name)
        if name in self._nodes:
            raise TopologyError(f"lab {self._lab.name!r} already has a node {name!r}; names are unique")

    def check(
        self,
        name: str,
        networks: Sequence[object],
        address: HostAddresses,
        isolate: Iterable[Kind] | None,
        mac: str | None = None,
        index: int | None = None,
    ) -> frozenset[Kind]:
        """Raise TopologyError unless there can be such a host; returns what it has of its own."""
        self.check_name(name)
        for network in networks:
            if not isinstance(network, Bridge):
                raise TopologyError(f"{name!r} can be attached to bridges, and {network!r} is none; see connect()")
            self._lab._check_node(network, "attach to")
        if len(given := _each(address, len(networks))) > len(networks):
            shown = ", ".join(map(repr, given))
            raise TopologyError(f"{name!r}: each address ({shown}) needs a bridge whose subnet it is in")
        if (mac is not None or index is not None) and not networks:
            raise TopologyError(
                f"{name!r}: mac and index are those of its interface on a bridge, and no bridge was given"
            )
        return self._isolate if isolate is None else self._kinds(repr(name), isolate)

    def _kinds(self, who: str, kinds: Iterable[Kind]) -> frozenset[Kind]:
        if isinstance(kinds, bytes) or not isinstance(kinds, Iterable):
            raise TopologyError(
                f"lab {self._lab.name!r}: {who} cannot isolate {kinds!r}; expected a set of {', '.join(KINDS)}"
            )
        found = frozenset({kinds} if isinstance(kinds, str) else kinds)
        unknown = ", ".join(sorted(map(repr, found.difference(KINDS))))
        if unknown:
            raise TopologyError(f"lab {self._lab.name!r}: {who} cannot isolate {unknown}; known are {', '.join(KINDS)}")
        return found  # type: ignore[return-value]

    def add(self, node: _N) -> _N:
        """Take a node in."""
        refusal_log.begin(node.rtnl)
        self._nodes[node.name] = node
        self._lab.events.publish(NodeAdded, node)
        return node

    def attached(
        self,
        node: _N,
        networks: Sequence[Bridge],
        address: HostAddresses,
        isolate: frozenset[Kind],
        offload: bool | None,
        mac: str | None = None,
        index: int | None = None,
    ) -> _N:
        """Take a host in, isolate it and attach it. On failure there is no such node."""
        self.add(node)
        try:
            if isolate:
                node._isolate(isolate)
            for network, wanted in zip_longest(networks, _each(address, len(networks))):
                self._lab.attach(network, node, wanted, offload=offload, mac=mac, index=index)
                mac = index = None  # they were those of the first one
        except BaseException:
            for link in node.links:
                link.remove()
            del self._nodes[node.name]
            node.close()
            raise
        return node

    def adopt(self, namespace: Namespace, name: str) -> Host:
        """See ``Lab.adopt``."""
        self.check_name(name)
        if not isinstance(namespace, Namespace) or isinstance(namespace, Node):
            raise TopologyError(
                f"lab {self._lab.name!r}: cannot adopt {namespace!r}: expected a Namespace that is no node; "
                "for a host in the namespace of another one see host(shares=...)"
            )
        if namespace.closed:
            raise TopologyError(f"lab {self._lab.name!r}: cannot adopt {namespace.name!r}: it is closed")
        for node in self.values():
            if node.inode == namespace.inode:
                raise TopologyError(f"lab {self._lab.name!r}: {namespace.name!r} is the namespace of {node.name!r}")
        present = namespace.interfaces
        allocator = InterfaceAllocator(present, (interface.index for interface in present.values()))
        host = self.add(Host(self._lab, name, {}, existing=namespace.fd, allocator=allocator))
        allocator.present = lambda: link_names(host)  # another lab may have adopted it too
        self.adopted.append(host)
        return host

    def take_over(self, namespace: Namespace, name: str, sysctls: Mapping[str, str | int]) -> Host:
        """See ``Lab.here``."""
        self.check_name(name)
        wanted: dict[str, str | int] = {**BASELINE, **Host._initial_sysctls}
        for key, value in {**existing_ones(wanted), **sysctls}.items():
            namespace.sysctl[key] = value
        return self.adopt(namespace, name)


def _each(address: HostAddresses, networks: int) -> list[HostAddress]:
    if isinstance(address, Sequence) and not isinstance(address, str | bytes):
        return list(address)
    if address is False:
        return [False] * networks
    return [] if address is None else [address]
