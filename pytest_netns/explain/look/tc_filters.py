"""Filters of traffic control at an interface (tc-filter(8)), those of our own relay left out."""

from __future__ import annotations

from typing import Literal, cast

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink import tc
from pytest_netns.kernel.netlink.socket import attributes
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace

Side = Literal["ingress", "egress"]


def filters(interface: Interface, side: Side) -> list[str]:
    """The filters of one side, a line each, in tc's words where that program is installed."""
    node = cast("Namespace", interface.node)
    try:
        bodies = node.rtnl.dump(tc.filter_dump(interface.index, interface.name, side))
    except NetnsError:  # without a place for filters
        return []
    foreign = [body for body in bodies if tc.filter_priority(body) != tc.PRIORITY]
    kinds = [attributes(body, 20).get(tc.TCA_KIND, b"").rstrip(b"\0").decode() for body in foreign]
    if not kinds:
        return []
    try:
        listed = node.run(["tc", "filter", "show", "dev", interface.name, side], check=False, timeout=5).stdout
    except NetnsError:
        return sorted(set(kinds))
    return _entries(listed) or sorted(set(kinds))


def _entries(listed: str) -> list[str]:
    """One line for each filter; what belongs to it is indented."""
    found: list[str] = []
    for line in listed.splitlines():
        words = " ".join(line.split())
        if not words:
            continue
        if line.startswith("filter ") or not found:
            found.append(words)
        else:
            found[-1] += f" {words}"
    telling = [line for line in found if " handle " in line or " fh " in line or "action" in line] or found
    return sorted(telling, key=lambda line: "action" not in line)  # u32 lists its hash tables first
