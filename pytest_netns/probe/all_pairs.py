"""All pairs: every node pings every other; where there are many, in groups.

The kernel has room for some 1,000 neighbour entries on the whole machine, and each pair on one link needs two. So a
group needs a quarter of that at most, and the entries that it has caused are removed before the next one asks.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice, product

from pytest_netns.clock import monotonic
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.neighbour_table import Entry, neighbour_tables
from pytest_netns.kernel.netlink.tables import AddressEntry, decode_address
from pytest_netns.probe.caused_neighbours import CausedNeighbours
from pytest_netns.probe.echo import Exchange, configure
from pytest_netns.probe.probe_sockets import Waiter, raw_socket
from pytest_netns.stack.destination import Target
from pytest_netns.stack.namespace import Namespace

#: Seconds without any reply after which the next group is asked. What is unanswered then is waited for meanwhile.
_QUIET = 0.05
#: Entries that need no look at the kernel's limit, which is 1024 unless somebody has changed it.
_ALWAYS_FITS = 128
#: How many requests may be unanswered before no further group is asked.
_MOST_UNANSWERED = 4096

Pair = tuple[int, int]


def groups(count: int, room: int) -> Iterator[tuple[list[Pair], list[Pair]]]:
    """All pairs of ``count`` nodes, each once, in groups that need ``room`` neighbour entries at most.

    Args:
        count: how many nodes.
        room: two entries are for one pair, so 2 at least.

    Returns:
        Of each group: pairs that join all its nodes to one of them, to be asked first; and the other pairs. Some of the
        first are in several groups.
    """
    # Two parts of this size: 2 * side * side entries, and 2 * (side - 1) for the pairs of the first node.
    side = max(1, (math.isqrt(4 + 8 * (room + 2)) - 2) // 4)
    parts = [list(range(start, min(start + side, count))) for start in range(0, count, side)]
    for number, part in enumerate(parts):
        hub = part[0]
        if len(part) > 1:
            yield [(node, hub) for node in part[1:]], list(combinations(part[1:], 2))
        for other in parts[number + 1 :]:
            yield [(node, hub) for node in (*part[1:], *other)], list(product(part[1:], other))


class AllPairs:
    """Pings between all nodes.

    Args:
        nodes: who asks and is asked.
        others: further nodes, which may be on the way.
        targets: what to ask, by the places of who asks and of who is asked in ``nodes``.
        timeout: seconds to wait for replies, after the last request.
    """

    def __init__(
        self, nodes: Sequence[Namespace], others: Sequence[Namespace], targets: Mapping[Pair, Target], timeout: float
    ) -> None:
        self._nodes = nodes
        self._everywhere = [*nodes, *others]
        self._targets = targets
        self._timeout = timeout
        self._results: dict[Pair, Exchange] = {}
        self._unanswered: dict[Exchange, Pair] = {}
        self._own: list[list[AddressEntry]] = []  # the addresses of each node, where there are groups
        self._sockets: dict[Pair, socket.socket] = {}  # by place of the node and version of IP
        self._listening: dict[socket.socket, dict[int, Exchange]] = {}  # the unanswered ones, by identifier

    def run(self, *, grouped: bool) -> dict[Pair, Exchange]:
        """Ask everybody; returns what has come of each target.

        Args:
            grouped: whether to leave room for the neighbour entries of others on this machine.
        """
        families = {rtnetlink.family_of(target.address) for target in self._targets.values()}
        with uninterrupted:  # but in its waits, where it can close its sockets
            caused = CausedNeighbours(self._everywhere, sorted(families))
            try:
                needed = len(self._everywhere) * (len(self._everywhere) - 1)
                room = self._room() if grouped and needed > _ALWAYS_FITS else needed
                if needed <= room:
                    self._ask(combinations(range(len(self._nodes)), 2))
                    self._await_rest()
                else:
                    self._ask_in_groups(room, caused)
                    self._await_rest()
                    self._ask_again(room)
            finally:
                for sock in self._sockets.values():
                    sock.close()
                caused.remove_all()
            return self._results

    def _room(self) -> int:
        """A quarter of the smaller table of the kernel, less what hosts send unasked meanwhile."""
        limit = min(table.limit for table in neighbour_tables(self._nodes[0].rtnl).values())
        return limit // 4 - limit // 32

    def _ask_in_groups(self, room: int, caused: CausedNeighbours) -> None:
        forwarding = [node for node in self._everywhere if _forwards(node)]
        # Routers get entries for each other, whoever asks.
        between = min(len(forwarding) * (len(forwarding) - 1), sum(len(node.interfaces) for node in forwarding))
        self._own = [
            [decode_address(body) for body in node.rtnl.dump(rtnetlink.address_dump())] for node in self._nodes
        ]
        for first, others in groups(len(self._nodes), max(room - between, room // 4)):
            # A broadcast is expensive where many are on one link. So each node sends one, for the address of the first
            # of the group, and the others learn from it who asks, because they have an entry for that (RFC 826).
            neighbours: dict[int, set[Entry]] = {place: set() for pair in first for place in pair}
            for pair in (*first, *others):
                for each in (pair, pair[::-1]):
                    neighbours[each[0]].update(self._neighbour(each))
            for place, entries in neighbours.items():
                caused.listen_for(self._nodes[place], entries)
            answered = True
            for pair in first:  # one after the other: the kernel drops packets of several broadcasts at once
                asked = self._ask([pair])
                answered = answered and self._await(asked)
            self._await(self._ask(others))
            if len(self._unanswered) > _MOST_UNANSWERED:
                self._await_rest()
                caused.remove_all()
            waiting: dict[Namespace, set[Entry]] = {}
            for pair in self._unanswered.values():
                for each in (pair, pair[::-1]):
                    waiting.setdefault(self._nodes[each[0]], set()).update(self._neighbour(each))
            caused.remove_from([*(self._nodes[place] for place in neighbours), *forwarding], keep=waiting)
            self._close_idle_sockets()

    def _neighbour(self, pair: Pair) -> Iterator[Entry]:
        """The entry that the first of a pair needs for the other, if the two are on one link by its own addresses."""
        if (target := self._targets.get(pair)) is not None:
            on_link = (each.index for each in self._own[pair[0]] if target.address in each.address.network)
            yield from (Entry(index, target.address.packed) for index in islice(on_link, 1))

    def _ask(self, group: Iterable[Pair]) -> list[Exchange]:
        """Send the requests of each pair of a group, one each way."""
        asked = []
        for pair in group:
            for each in (pair, pair[::-1]):
                if (target := self._targets.get(each)) is None:
                    continue
                place, version = each[0], target.address.version
                sock = self._sockets.get((place, version)) or self._open(place, version)
                exchange = Exchange(self._nodes[place].name, sock, target, 56)
                asked.append(exchange)
                self._results.setdefault(each, exchange)  # the first node of a part is asked in several groups
                self._listening[sock][exchange.identifier] = exchange
                exchange.send(1)
                self._unanswered[exchange] = each
                Exchange.receive_all(sock, self._listening[sock])  # a veth answers before send() returns
        return asked

    def _ask_again(self, room: int) -> None:
        """Ask those once more that were not asked because ARP failed: a busy kernel drops packets of broadcasts.

        Where these are more than one group, that is not the reason.
        """
        again = {
            (min(pair), max(pair))
            for pair, exchange in self._results.items()
            if (error := exchange.result(1).error) is not None
            and error.sender in [own.address.ip for own in self._own[pair[0]]]
        }
        if 2 * len(again) <= room:
            for pair in again:
                for each in (pair, pair[::-1]):
                    if each in self._results and not self._results[each].result(1):
                        del self._results[each]
            self._ask(again)
            self._await_rest()

    def _open(self, place: int, version: int) -> socket.socket:
        protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
        sock = self._sockets[place, version] = raw_socket(self._nodes[place], version, protocol)
        self._listening[sock] = {}
        configure(sock, version, 64, False)
        return sock

    def _await(self, exchanges: Iterable[Exchange], deadline: float | None = None) -> bool:
        """Wait until these are answered or refused; returns whether they were.

        Args:
            exchanges: some of those that were asked.
            deadline: until when; None: until nothing comes any more for a moment.
        """
        waiting = self._settled(exchanges)
        if not waiting:
            return True
        waiter = Waiter(*self._listening)
        while waiting:
            readable = waiter.wait(monotonic() + _QUIET if deadline is None else deadline)
            for sock in readable:
                Exchange.receive_all(sock, self._listening[sock])
            waiting = self._settled(waiting)
            if not readable:
                break
        return not waiting

    def _settled(self, exchanges: Iterable[Exchange]) -> list[Exchange]:
        """Forget about those that were answered or refused; returns the others."""
        waiting = []
        for each in exchanges:
            if not each.settled:
                waiting.append(each)
            elif self._unanswered.pop(each, None) is not None:
                del self._listening[each.socket][each.identifier]
        return waiting

    def _await_rest(self) -> None:
        """Wait for all that is unanswered as long as was asked for, and then no more."""
        self._await(list(self._unanswered), monotonic() + self._timeout)
        for each in self._settled(list(self._unanswered)):
            del self._unanswered[each], self._listening[each.socket][each.identifier]

    def _close_idle_sockets(self) -> None:
        self._settled(list(self._unanswered))
        for key, sock in list(self._sockets.items()):
            if not self._listening[sock]:
                del self._listening[sock], self._sockets[key]
                sock.close()


def _forwards(node: Namespace) -> bool:
    """Whether a node may pass packets on."""
    return any(node.sysctl[name] != "0" for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"))
