"""SavedNexthops: nexthop objects that the kernel drops with the interface that they lead through."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.nexthop import (
    Nexthop,
    decode_nexthop,
    nexthop_add,
    nexthop_dump,
    nexthop_index,
)
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.kernel.netlink.tables import LinkState
from pytest_netns.stack.handle import Handle


@dataclass(frozen=True, slots=True)
class Configured:
    """A nexthop object, and the index of the interface that it leads through; 0 of a group."""

    nexthop: Nexthop
    index: int


class SavedNexthops:
    """Nexthop objects of one node that the kernel dropped, and groups that have lost members."""

    def __init__(self) -> None:
        self._saved: dict[int, Configured] = {}

    def __bool__(self) -> bool:
        return bool(self._saved)

    def remember(self, before: Mapping[int, Configured], after: Mapping[int, Configured]) -> None:
        """Save what has gone or changed. Of a group that loses one member after the other, how it was at first."""
        for number, each in before.items():
            if after.get(number) != each:
                self._saved.setdefault(number, each)

    def forget(self, number: int) -> None:
        """One was made anew."""
        self._saved.pop(number, None)

    def remove(self, number: int) -> set[int]:
        """One was removed on purpose: it leaves its groups, too. Returns it, and the groups that are empty now."""
        gone = {number}
        self._saved.pop(number, None)
        for group, each in list(self._saved.items()):
            if number in dict(each.nexthop.group):
                members = tuple(member for member in each.nexthop.group if member[0] != number)
                if members:
                    self._saved[group] = replace(each, nexthop=replace(each.nexthop, group=members))
                else:
                    del self._saved[group]
                    gone.add(group)
        return gone

    def forget_interface(self, index: int) -> None:
        """An interface was removed."""
        self._saved = {number: each for number, each in self._saved.items() if each.index != index}

    @property
    def numbers(self) -> set[int]:
        """Those that will be there again, or be whole again."""
        return set(self._saved)

    def waits(self, number: int) -> bool:
        """Whether one is not there, as its interface is down."""
        return number in self._saved

    def restorable(self, states: Mapping[int, LinkState], present: Mapping[int, Configured]) -> list[Request]:
        """Requests for those that can be there again; they are forgotten, but for groups that still lack members."""
        found: list[Request] = []
        there = set(present)
        for number, each in sorted(self._saved.items(), key=lambda item: bool(item[1].nexthop.group)):
            if each.nexthop.group:
                members = tuple(member for member in each.nexthop.group if member[0] in there)
                if members and (number not in present or present[number].nexthop.group != members):
                    found.append(nexthop_add(replace(each.nexthop, group=members), 0, replace=True))
                if len(members) < len(each.nexthop.group):
                    continue
            elif each.index and each.index not in states:
                pass  # its interface was removed
            elif each.index and not (states[each.index].is_set_up and states[each.index].carrier):
                continue
            elif number not in there:
                found.append(nexthop_add(each.nexthop, each.index))
                there.add(number)
            del self._saved[number]
        return found


def configured_nexthops(node: Handle) -> dict[int, Configured]:
    """Those that there are, by number."""
    try:
        bodies = node.rtnl.dump(nexthop_dump())
    except KernelError as error:
        if error.errno == errno.EOPNOTSUPP:  # before Linux 5.3
            return {}
        raise
    if not bodies:
        return {}
    names = {index: str(index) for index in map(nexthop_index, bodies)}  # they are told by numbers here
    found = [Configured(decode_nexthop(body, names), nexthop_index(body)) for body in bodies]
    return {each.nexthop.id: each for each in found}
