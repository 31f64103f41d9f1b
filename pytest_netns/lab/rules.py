"""Rules: which routing table a host's kernel looks a packet up in, or that it refuses it (ip-rule(8))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pytest_netns.addresses import Network
from pytest_netns.checks import check_choice, is_whole
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.netlink.ip_rule import (
    PROTOCOLS,
    IpRule,
    decode_rule,
    rule_add,
    rule_delete,
    rule_dump,
)
from pytest_netns.stack.views import own_interface
from pytest_netns.topology import routing
from pytest_netns.topology.routing import RouteTarget

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.topology.node import BaseNode

Pair = int | tuple[int, int]

_MAIN = 254
_LAST = 32766  # the priority of the rule for the main table
_KINDS = ("lookup", "blackhole", "unreachable", "prohibit")


class Rules:
    """The ip rules of a host, IPv4 first, in the order of their priorities; asked from the kernel at each access.

    Example:
        >>> red.add_route("default", via=blue, table=100)
        >>> red.rules.add(fwmark=1, table=100)
        >>> added = red.rules.add(destination="10.66.0.0/16", kind="prohibit", priority=50)
        >>> red.rules.remove(added)
    """

    def __init__(self, node: BaseNode) -> None:
        self._node = node

    def __iter__(self) -> Iterator[IpRule]:
        return iter([rule for version in (4, 6) for rule in self._of(version)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        shown = "\n".join(f"IPv{rule.version} {rule}" for rule in self)
        return f"<ip rules of {self._node.name!r}:\n{shown}>"

    def _of(self, version: int) -> list[IpRule]:
        bodies = self._node.rtnl.dump(rule_dump(version))
        return sorted(map(decode_rule, bodies), key=lambda rule: rule.priority)

    def add(
        self,
        source: RouteTarget | None = None,
        destination: RouteTarget | None = None,
        *,
        iif: str | Interface | None = None,
        oif: str | Interface | None = None,
        fwmark: Pair | None = None,
        protocol: str | int | None = None,
        sport: Pair | None = None,
        dport: Pair | None = None,
        uid: Pair | None = None,
        table: int = _MAIN,
        kind: str = "lookup",
        priority: int | None = None,
        inverted: bool = False,
        suppress_prefixlength: int | None = None,
    ) -> list[IpRule]:
        """``ip rule add``, and ``ip -6 rule add``; returns what was added, as the kernel has it then.

        Without a source and a destination it is a rule for both families; else for those that these have.

        Args:
            source: packets from there (``from``): a network, an address, a bridge (its subnets) or another node.
            destination: packets to there (``to``): likewise.
            iif: that come in at this interface; ``"lo"``: that the host sends itself.
            oif: that a socket bound to this interface sends (SO_BINDTODEVICE).
            fwmark: that have this mark of the firewall or of SO_MARK; or a pair of mark and mask.
            protocol: of this protocol: ``"tcp"``, ``"udp"``, ``"icmp"``, ``"ipv6-icmp"``, or a number.
            sport: from this port, or a pair of the first and the last one.
            dport: to this port, or a pair.
            uid: of sockets of this user, or of a pair of the first and the last one; without root the kernel knows
                oneself only.
            table: number of the routing table that it looks up; 254 is main.
            kind: ``"lookup"``, or a refusal: ``"blackhole"`` (silent), ``"unreachable"``, ``"prohibit"``.
            priority: the lower, the sooner; None: before all others but the one for the host's own addresses (0).
            inverted: those that all of this is not true of (``not``).
            suppress_prefixlength: routes found that have a prefix of this length, or less, do not count.

        Raises:
            TopologyError: a value that cannot be, or source and destination have no family in common.
            KernelError: the kernel refused, e.g. because there is such a rule. None is added then.

        Example:
            >>> red.rules.add("10.66.0.0/16", dport=80, protocol="tcp", table=100)
        """
        check_choice(f"{self._where}: kind", kind, _KINDS)
        self._check("table", table, 1, 0xFFFFFFFF)
        self._check("priority", priority, 0, 0xFFFFFFFF)
        self._check("suppress_prefixlength", suppress_prefixlength, 0, 128)
        mark = self._pair("fwmark", fwmark, 0xFFFFFFFF, second=0xFFFFFFFF)
        present = list(self)
        number = priority if priority is not None else self._before(present)
        wanted = [
            IpRule(
                priority=number,
                version=version,
                action=kind,
                table=table if kind == "lookup" else 0,
                source=origin,
                destination=target,
                iif=self._interface("iif", iif),
                oif=self._interface("oif", oif),
                mark=mark,
                protocol=self._protocol(protocol),
                sport=self._pair("sport", sport, 65535),
                dport=self._pair("dport", dport, 65535),
                uid=self._pair("uid", uid, 0xFFFFFFFE),
                inverted=inverted,
                suppress_prefixlength=suppress_prefixlength,
            )
            for version, origin, target in self._selected(source, destination)
        ]
        added: list[IpRule] = []
        try:
            for rule in wanted:
                self._node.rtnl.batch([rule_add(rule)])
                added.append(rule)
        except KernelError:
            for rule in added:
                self._node.rtnl.batch([rule_delete(rule)])
            raise
        return [rule for rule in self if rule not in present]

    def remove(self, which: IpRule | Iterable[IpRule] | int) -> None:
        """``ip rule delete``.

        Args:
            which: a rule, several (as ``add`` returns them), or a priority: all of both families that have it.

        Raises:
            KernelError: there is no such rule (ENOENT); those before it in the list are removed.
            TopologyError: there is none of that priority.

        Example:
            >>> red.rules.add(fwmark=1, kind="blackhole", priority=77)
            >>> red.rules.remove(77)
        """
        if isinstance(which, IpRule):
            wanted = [which]
        elif isinstance(which, int):
            present = list(self)
            wanted = [rule for rule in present if rule.priority == which]
            if not wanted:
                shown = ", ".join(str(each) for each in sorted({rule.priority for rule in present})) or "none"
                raise TopologyError(f"{self._where}: none has the priority {which!r}; there are: {shown}")
        else:
            wanted = list(which)
        for rule in wanted:
            self._node.rtnl.batch([rule_delete(rule)])

    # -------------------------------------------------------------- what is asked

    @property
    def _where(self) -> str:
        return f"ip rule of {self._node.name!r}"

    def _selected(
        self, source: RouteTarget | None, destination: RouteTarget | None
    ) -> list[tuple[int, Network | None, Network | None]]:
        """The rules that are meant: family, source, destination."""
        sources = routing.networks_of(self._node, source) if source is not None else None
        targets = routing.networks_of(self._node, destination) if destination is not None else None
        found = [
            (version, origin, target)
            for version in (4, 6)
            for origin in (sources if sources is not None else [None])
            for target in (targets if targets is not None else [None])
            if (origin is None or origin.version == version) and (target is None or target.version == version)
        ]
        if not found:
            raise TopologyError(
                f"{self._where}: source {source} and destination {destination} are of different families"
            )
        return found

    def _interface(self, name: str, value: str | Interface | None) -> str:
        if value is None:
            return ""
        if isinstance(value, str):  # rules may be about interfaces that are yet to come
            if not 1 <= len(value) <= 15:
                raise TopologyError(f"{self._where}: {name} is {value!r}; it can be the name of an interface")
            return value
        return own_interface(self._node, value).name

    def _protocol(self, value: str | int | None) -> int:
        if value is None:
            return 0
        if isinstance(value, str) and value in PROTOCOLS:
            return PROTOCOLS[value]
        if is_whole(value, 1, 255):
            return value
        raise TopologyError(f"{self._where}: protocol is {value!r}; it can be {', '.join(PROTOCOLS)}, or 1 to 255")

    def _pair(self, name: str, value: Pair | None, high: int, second: int | None = None) -> tuple[int, int] | None:
        """Two numbers; of one the other is itself, or ``second``."""
        if value is None:
            return None
        pair = value if isinstance(value, tuple) else (value, value if second is None else second)
        if len(pair) != 2 or not all(is_whole(each, 0, high) for each in pair):
            raise TopologyError(f"{self._where}: {name} is {value!r}; it can be a whole number to {high}, or two")
        if second is None and pair[0] > pair[1]:
            raise TopologyError(f"{self._where}: {name} is {value!r}; the first is higher than the last")
        return pair

    def _check(self, name: str, value: int | None, low: int, high: int) -> None:
        if value is not None and not is_whole(value, low, high):
            raise TopologyError(f"{self._where}: {name} is {value!r}; it can be a whole number from {low} to {high}")

    @staticmethod
    def _before(present: list[IpRule]) -> int:
        """As the kernel does: before all but the first."""
        lowest = min((rule.priority for rule in present if rule.priority), default=_LAST)
        return max(lowest - 1, 0)
