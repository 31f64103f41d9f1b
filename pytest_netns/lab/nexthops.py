"""Nexthops: the nexthop objects of a node, which many routes can share (ip-nexthop(8))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
    """The nexthop objects of a node (``ip nexthop show``). Read from the kernel at each access.

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
        """``ip nexthop add``. Returns the object, read back from the kernel.

        Args:
            via: a node, an interface or an address; a link-local address names its interface (``"fe80::1%eth0"``).
                For a node, its IPv4 address on a common subnet is used if it has one, otherwise its IPv6 address.
                IPv4 and IPv6 routes can both use an IPv6 next hop.
            interface: the outgoing interface: for destinations on the link, or with ``onlink``.
            id: the number of the object, from 1; None: one above the highest in use. Nexthop objects that the kernel
                dropped with their link keep their numbers, as they come back with it.
            blackhole: drop all packets silently; takes no ``via``.
            onlink: pretend that ``via`` is on the link of ``interface``, whatever its subnet.

        Raises:
            TopologyError: the next hop shares no subnet with the node, or none is given; or the number is that of an
                object that comes back when its link is up.
            KernelError: the kernel refused, e.g. because the number is taken (EEXIST).

        Example:
            >>> red.nexthops.add(blue, id=7)
            >>> red.nexthops.remove(7)
        """
        node = self._node
        towards = own_interface(node, interface) if interface is not None else None
        if blackhole:
            if via is not None or towards is not None:
                raise TopologyError(f"nexthop of {node.name!r}: a blackhole takes neither via nor interface")
            return self._added(id, Nexthop(0, blackhole=True), 0)
        if via is None:
            if towards is None:
                raise TopologyError(f"nexthop of {node.name!r}: it needs via=, interface= or blackhole=True")
            return self._added(id, Nexthop(0, interface=towards.name), towards.index)
        hops = routing.next_hops(node, via, towards, onlink)
        gateway, outgoing = hops[min(hops)]
        return self._added(id, Nexthop(0, gateway, outgoing.name, onlink=onlink), outgoing.index)

    def add_group(
        self, members: Sequence[Nexthop | int] | Mapping[Nexthop | int, int], *, id: int | None = None
    ) -> Nexthop:
        """``ip nexthop add group``: several next hops that share the flows (ECMP). Returns it, read back.

        Args:
            members: nexthop objects or their numbers, or a mapping of these to weights, 1 to 256.
            id: the number of the group, from 1; None: one above the highest in use.

        Raises:
            TopologyError: no members, or a weight that is out of range.
            KernelError: the kernel refused, e.g. because a member does not exist.

        Example:
            >>> first, second = red.nexthops.add(blue), red.nexthops.add(router)
            >>> red.nexthops.add_group({first: 3, second: 1})
        """
        if not isinstance(members, Mapping | Sequence) or isinstance(members, str | bytes):
            raise TopologyError(
                f"nexthop group of {self._node.name!r}: members is {members!r}; expected a list of nexthop objects or "
                "their numbers, or a mapping of these to weights"
            )
        weighted = list(members.items()) if isinstance(members, Mapping) else [(each, 1) for each in members]
        if not weighted:
            raise TopologyError(f"nexthop group of {self._node.name!r}: it has no members")
        for member, weight in weighted:
            if not is_whole(weight, 1, 256):
                raise TopologyError(
                    f"nexthop group of {self._node.name!r}: the weight of {member} is {weight!r}; it can be 1 to 256"
                )
        group = tuple(dict.fromkeys((_id(self._node, member), weight) for member, weight in weighted))
        return self._added(id, Nexthop(0, group=group), 0)

    def remove(self, which: Nexthop | int) -> None:
        """``ip nexthop delete``. The kernel also removes the routes that use it, and takes it out of its groups.

        While its link is down, the kernel has dropped it already: then it does not come back.

        Args:
            which: a nexthop object, or its number.

        Raises:
            KernelError: there is no such nexthop (ENOENT).

        Example:
            >>> first = red.nexthops.add(blue)
            >>> red.nexthops.remove(first)
        """
        number = _id(self._node, which)
        saved = self._node.saved_config
        with saved.lock:
            if number not in saved.nexthop_numbers or number in {each.id for each in self}:
                self._node.rtnl.batch([nexthop_delete(number)])
            saved.remove_nexthop(number)

    def _added(self, id: int | None, described: Nexthop, index: int) -> Nexthop:
        saved = self._node.saved_config
        with saved.lock:  # another thread would choose the same number, or take down the link
            wanted = replace(described, id=self._number(id))
            self._node.rtnl.batch([nexthop_add(wanted, index)])
            saved.forget_nexthop(wanted.id)
            return self[wanted.id]

    def _number(self, id: int | None) -> int:
        present, saved = {each.id for each in self}, self._node.saved_config.nexthop_numbers
        if id is None:
            return max(present | saved, default=0) + 1
        number = _id(self._node, id)
        if number in saved - present:
            raise TopologyError(
                f"nexthop of {self._node.name!r}: id {number} is that of a nexthop object that comes back when its "
                "link is up again; choose another id, or remove that one first"
            )
        return number


def _id(node: BaseNode, which: Nexthop | int) -> int:
    number = which.id if isinstance(which, Nexthop) else which
    if not is_whole(number, 1, 0xFFFFFFFF):
        raise TopologyError(f"nexthop of {node.name!r}: id is {which!r}; it can be a whole number from 1")
    return number
