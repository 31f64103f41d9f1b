"""Nexthops: the nexthop objects of a node, which many routes can share (ip-nexthop(8))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_netns.checks import is_whole
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.nexthop import Nexthop, decode_nexthop, nexthop_add, nexthop_delete, nexthop_dump
from pytest_netns.stack.views import link_names, own_interface
from pytest_netns.topology import routing

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.topology.node import BaseNode


class Nexthops:
    """The nexthop objects of a node, asked from the kernel at each access (``ip nexthop show``).

    Example:
        >>> first, second = red.nexthops.add(blue), red.nexthops.add(router)
        >>> both = red.nexthops.add_group([first, second])
        >>> red.add_route("10.77.0.0/16", via=both)
        >>> red.nexthops.remove(first)
    """

    def __init__(self, node: BaseNode) -> None:
        self._node = node

    def __iter__(self) -> Iterator[Nexthop]:
        names = link_names(self._node)
        found = [decode_nexthop(body, names) for body in self._node.rtnl.dump(nexthop_dump())]
        return iter(sorted(found, key=lambda each: each.id))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, number: int) -> Nexthop:
        for each in self:
            if each.id == number:
                return each
        shown = ", ".join(str(each.id) for each in self) or "none"
        raise KeyError(f"{self._node.name!r} has no nexthop with id {number!r}; there are: {shown}")

    def __repr__(self) -> str:
        return f"<nexthops of {self._node.name!r}: {'; '.join(map(str, self)) or 'none'}>"

    def add(
        self,
        via: routing.NextHop | None = None,
        *,
        interface: str | Interface | None = None,
        id: int | None = None,
        blackhole: bool = False,
        onlink: bool = False,
    ) -> Nexthop:
        """``ip nexthop add``; returns it as the kernel has it then.

        Args:
            via: a node, an interface or an address; a link-local one names its interface (``"fe80::1%eth0"``). Of a
                node its IPv4 address if there is one on a common subnet. Routes of both families can use an IPv6 one.
            interface: the outgoing one: for what is on the link, or with ``onlink``.
            id: its number, from 1; None: the next free one.
            blackhole: it drops everything, instead of leading anywhere.
            onlink: whether ``via`` is taken to be on the link of ``interface``.

        Raises:
            TopologyError: the next hop is on no common subnet, or there is none.
            KernelError: the kernel refused, e.g. as there is one of that number.

        Example:
            >>> red.nexthops.add(blue, id=7)
            >>> red.nexthops.remove(7)
        """
        node = self._node
        towards = own_interface(node, interface) if interface is not None else None
        number = self._number(id)
        if blackhole:
            if via is not None or towards is not None:
                raise TopologyError(f"nexthop of {node.name!r}: a blackhole takes neither via nor interface")
            return self._added(Nexthop(number, blackhole=True), 0)
        if via is None:
            if towards is None:
                raise TopologyError(f"nexthop of {node.name!r}: it needs via=, interface= or blackhole=True")
            return self._added(Nexthop(number, interface=towards.name), towards.index)
        hops = routing.next_hops(node, via, towards, onlink)
        gateway, outgoing = hops[min(hops)]
        return self._added(Nexthop(number, gateway, outgoing.name, onlink=onlink), outgoing.index)

    def add_group(
        self, members: Sequence[Nexthop | int] | Mapping[Nexthop | int, int], *, id: int | None = None
    ) -> Nexthop:
        """``ip nexthop add group``: several, among which flows are shared out; returns it as the kernel has it then.

        Args:
            members: nexthops or their numbers, or a mapping of them to their weights, 1 to 256.
            id: its number, from 1; None: the next free one.

        Raises:
            TopologyError: no members, or a weight that cannot be.
            KernelError: the kernel refused, e.g. as there is no such member.

        Example:
            >>> first, second = red.nexthops.add(blue), red.nexthops.add(router)
            >>> red.nexthops.add_group({first: 3, second: 1})
        """
        weighted = dict(members) if isinstance(members, Mapping) else dict.fromkeys(members, 1)
        if not weighted:
            raise TopologyError(f"nexthop group of {self._node.name!r}: it has no members")
        for member, weight in weighted.items():
            if not is_whole(weight, 1, 256):
                raise TopologyError(
                    f"nexthop group of {self._node.name!r}: the weight of {member} is {weight!r}; it can be 1 to 256"
                )
        group = tuple((_id(self._node, member), weight) for member, weight in weighted.items())
        return self._added(Nexthop(self._number(id), group=group), 0)

    def remove(self, which: Nexthop | int) -> None:
        """``ip nexthop delete``: routes that use it go, too, and groups lose it.

        Args:
            which: a nexthop, or its number.

        Raises:
            KernelError: there is none (ENOENT).

        Example:
            >>> first = red.nexthops.add(blue)
            >>> red.nexthops.remove(first)
        """
        number = _id(self._node, which)
        self._node.rtnl.batch([nexthop_delete(number)])
        self._node.saved_config.forget_nexthop(number)

    def _added(self, wanted: Nexthop, index: int) -> Nexthop:
        self._node.rtnl.batch([nexthop_add(wanted, index)])
        self._node.saved_config.forget_nexthop(wanted.id)
        return self[wanted.id]

    def _number(self, id: int | None) -> int:
        if id is None:
            return max((each.id for each in self), default=0) + 1
        return _id(self._node, id)


def _id(node: BaseNode, which: Nexthop | int) -> int:
    number = which.id if isinstance(which, Nexthop) else which
    if not is_whole(number, 1, 0xFFFFFFFF):
        raise TopologyError(f"nexthop of {node.name!r}: id is {which!r}; it can be a whole number from 1")
    return number
