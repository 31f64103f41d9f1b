"""Connections: what a node's connection tracking has in its table, which NAT and stateful rules use."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypedDict, Unpack, cast

from pytest_netns.addresses import Address
from pytest_netns.checks import check_port
from pytest_netns.errors import KernelError, TopologyError, UnsupportedError
from pytest_netns.kernel import reaper
from pytest_netns.kernel.netlink.conntrack import (
    Connection,
    ConnectionSide,
    Entry,
    connection_delete,
    connection_dump,
    decode_connection,
)
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from pytest_netns.kernel.syscalls import entered
from pytest_netns.topology.routing import RouteTarget, networks_of

if TYPE_CHECKING:
    from pytest_netns.topology.node import BaseNode

#: Whether a connection is meant.
Match = Callable[[Connection], bool]


class ConnectionMatch(TypedDict, total=False):
    """Which connections: those that match all that is given.

    Attributes:
        protocol: ``"tcp"``, ``"udp"``, ``"icmp"``, ``"icmpv6"``, ...
        source: where the packets of the original direction come from: a node, an interface, an address, a network, or
            a bridge (its subnets).
        destination: where they were sent to, before any translation.
        port: their destination port, 1 to 65535.
        reply_source: where replies come from: behind a forwarded port, its target.
        reply_destination: where they are sent to: behind a masquerade, the router's own address.
        state: of TCP: ``"ESTABLISHED"``, ...
        replied: whether an answer was seen.
        mark: ct mark.
    """

    protocol: str
    source: RouteTarget
    destination: RouteTarget
    port: int
    reply_source: RouteTarget
    reply_destination: RouteTarget
    state: str
    replied: bool
    mark: int


_KINDS = {str: "text", bool: "True or False", int: "a whole number"}


class Connections:
    """The connection tracking table of a node, or a part of it: ``conntrack -L`` (conntrack(8)), without that program.

    Each access asks the kernel anew: ``len``, iteration, an index, ``print``. The kernel tracks a connection if a rule
    of the node needs that: NAT, or ``ct`` in a firewall. Created by ``Host.connections``.

    Example:
        >>> print(router.connections.filter(protocol="udp"))
        >>> router.connections.flush(port=5000)
    """

    def __init__(self, node: BaseNode, matches: tuple[Match, ...] = ()) -> None:
        self._node = node
        self._matches = matches

    def __iter__(self) -> Iterator[Connection]:
        return iter([each.connection for each in self._entries()])

    def __len__(self) -> int:
        return len(self._entries())

    def __getitem__(self, index: int) -> Connection:
        return self._entries()[index].connection

    def __contains__(self, connection: object) -> bool:
        return connection in list(self)

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or f"no connection is tracked by {self._node.name!r}"

    def __repr__(self) -> str:
        if self._node.closed:
            return f"<connections of {self._node.name!r}, which is closed>"
        found = list(self)
        count = f"{len(found)} connection{'' if len(found) == 1 else 's'}"
        return f"<{count} of {self._node.name!r}{': ' if found else ''}{'; '.join(map(str, found))}>"

    def filter(self, **match: Unpack[ConnectionMatch]) -> Connections:
        """A part of them.

        Args:
            **match: ``protocol``, ``source``, ``destination``, ``port``, ``reply_source``, ``reply_destination``,
                ``state``, ``replied``, ``mark``, see ``ConnectionMatch``.

        Returns:
            Those that match all that is given, now and whenever it is looked at again.

        Raises:
            TopologyError: a node or address that cannot be understood, or an unknown keyword.
            ValueError: the port is out of range.
        """
        return Connections(self._node, (*self._matches, *self._conditions(match)))

    def flush(self, **match: Unpack[ConnectionMatch]) -> int:
        """Delete them (``conntrack -D``): the next packet of each is handled as the first of a new connection.

        NAT rules apply to the first packet of a connection only, so changing them does not affect
        established connections; this does.

        Args:
            **match: as for ``filter``; all if nothing is given.

        Returns:
            How many.

        Raises:
            TopologyError: a node or address that cannot be understood, or an unknown keyword.
            ValueError: the port is out of range.
            KernelError: the kernel refused.
            UnsupportedError: it has no connection tracking.
        """
        return self.flush_where(self._conditions(match))

    def flush_where(self, matches: Iterable[Match]) -> int:
        """As ``flush``, for those that match all of some functions."""
        gone = 0
        entries = Connections(self._node, (*self._matches, *matches))._entries()
        with self._socket() as netlink:
            for each in entries:
                try:
                    netlink.batch([connection_delete(each)])
                    gone += 1
                except KernelError as error:
                    if error.errno != errno.ENOENT:  # it has ended meanwhile
                        raise
        return gone

    def _entries(self) -> list[Entry]:
        with self._socket() as netlink:
            try:
                bodies = netlink.dump(connection_dump())
            except KernelError as error:
                if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                    _unsupported(self._node.name, error)
                raise
        entries = [decode_connection(body) for body in bodies]
        return [each for each in entries if all(match(each.connection) for match in self._matches)]

    @contextmanager
    def _socket(self) -> Iterator[NetlinkSocket]:
        try:
            with entered(self._node):
                netlink = NetlinkSocket(self._node.name, NETLINK_NETFILTER)
        except OSError as error:
            _unsupported(self._node.name, error)
        try:
            yield netlink
        finally:
            reaper.later(netlink.close)  # it waits for the transactions of nftables

    def _conditions(self, match: ConnectionMatch) -> list[Match]:
        unknown = match.keys() - ConnectionMatch.__annotations__.keys()
        if unknown:
            known = ", ".join(ConnectionMatch.__annotations__)
            raise TopologyError(
                f"{self._node.name!r}: connections: unknown: {', '.join(sorted(unknown))}; known are {known}"
            )
        found: list[Match] = []
        given: Mapping[str, object] = match
        for name, kind in (("protocol", str), ("state", str), ("replied", bool), ("mark", int)):
            if name in given:
                value = given[name]
                if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                    raise TypeError(f"{self._node.name!r}: connections: {name} is {value!r}; expected {_KINDS[kind]}")
                found.append(_attribute_is(name, given[name]))
        if "port" in match:
            port = check_port(match["port"])
            found.append(lambda connection: connection.original.destination_port == port)
        for name, side, end in (
            ("source", "original", "source"),
            ("destination", "original", "destination"),
            ("reply_source", "reply", "source"),
            ("reply_destination", "reply", "destination"),
        ):
            if name in given:
                found.append(self._address_is(name, cast("RouteTarget", given[name]), side, end))
        return found

    def _address_is(self, name: str, target: RouteTarget, side: str, end: str) -> Match:
        label = getattr(target, "name", target)
        try:
            networks = networks_of(self._node, target)
        except TopologyError as error:
            raise TopologyError(f"{self._node.name!r}: connections: {name}={label!r}: {error}") from None

        def match(connection: Connection) -> bool:
            place: ConnectionSide = getattr(connection, side)
            address: Address = getattr(place, end)
            return any(address.version == network.version and address in network for network in networks)

        return match


def _attribute_is(name: str, value: object) -> Match:
    return lambda connection: getattr(connection, name) == value


def _unsupported(node: str, error: Exception) -> NoReturn:
    raise UnsupportedError(
        f"{node!r}: cannot ask for tracked connections: {error}; the kernel lacks ctnetlink "
        "(CONFIG_NF_CT_NETLINK, module nf_conntrack_netlink)"
    ) from error
