"""Rules: which routing table a host's kernel uses for a packet, or that it refuses the packet (ip-rule(8))."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_netns.addresses import Network
from pytest_netns.checks import check_choice, is_whole
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.netlink.ip_rule import (
    PROTOCOLS,
    IpRule,
    decode_rule,
    delete_words,
    rule_add,
    rule_dump,
    would_delete,
)
from pytest_netns.stack.views import own_interface
from pytest_netns.topology import routing
from pytest_netns.topology.naming import check_interface_name
from pytest_netns.topology.routing import RouteTarget
from pytest_netns.topology.saved_rules import rule_again, rule_deleted, rule_restored

if TYPE_CHECKING:
    from pytest_netns.stack.interface import Interface
    from pytest_netns.topology.node import BaseNode

Pair = int | tuple[int, int]

_MAIN = 254
_LAST = 32766  # the priority of the rule for the main table
_KINDS = ("lookup", "blackhole", "unreachable", "prohibit")


class Rules:
    """The policy routing rules of a host, IPv4 first, by priority. Read from the kernel at each access.

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
        """``ip rule add`` and ``ip -6 rule add``. Returns the new rules, read back from the kernel.

        Without a source and a destination, a rule is added for IPv4 and one for IPv6; otherwise for their families.
        A packet must match all selectors that are given.

        Args:
            source: source prefix (``from``): a network, an address, a bridge (its subnets) or another node.
            destination: destination prefix (``to``), likewise.
            iif: the incoming interface; ``"lo"`` matches packets that the host itself sends.
            oif: the interface that the sending socket is bound to (SO_BINDTODEVICE).
            fwmark: the firewall mark (nftables or SO_MARK), or a pair of mark and mask.
            protocol: the IP protocol: ``"tcp"``, ``"udp"``, ``"icmp"``, ``"ipv6-icmp"``, or a number.
            sport: the source port, or a pair: the first and last port of a range.
            dport: the destination port, likewise.
            uid: the user ID of the sending socket, or a pair; without root the kernel knows only your own.
            table: number of the routing table to look up; 254 is main.
            kind: ``"lookup"``, or a refusal: ``"blackhole"`` (silent), ``"unreachable"``, ``"prohibit"``.
            priority: rules of lower priority numbers are tried first; None: before all others except the one for the
                local table (0).
            inverted: match the packets that the selectors do not match (``not``).
            suppress_prefixlength: ignore routes whose prefix length is this or shorter.

        Raises:
            TopologyError: a value is out of range, or source and destination have no address family in common.
            KernelError: the kernel refused, e.g. because the rule exists (EEXIST). No rule is added then.

        Example:
            >>> red.rules.add("10.66.0.0/16", dport=80, protocol="tcp", table=100)
        """
        check_choice(f"{self._where}: kind", kind, _KINDS)
        self._check("table", table, 1, 0xFFFFFFFF)
        if priority is not None:
            self._check("priority", priority, 0, 0xFFFFFFFF)
        if suppress_prefixlength is not None:
            self._check("suppress_prefixlength", suppress_prefixlength, 0, 128)
        mark = self._pair("fwmark", fwmark, 0xFFFFFFFF, second=0xFFFFFFFF)
        described = [
            IpRule(
                priority=priority or 0,
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
        with self._node.saved_config.lock:  # another thread would choose the same priority
            present = list(self)
            number = priority if priority is not None else self._before(present)
            added: list[IpRule] = []
            try:
                for rule in described:
                    wanted = replace(rule, priority=number)
                    self._node.rtnl.batch([rule_add(wanted)])
                    added.append(wanted)
            except KernelError:
                for rule in [each for each in self if each not in present]:
                    self._delete(rule)
                raise
            return [rule for rule in self if rule not in present]

    def remove(self, which: IpRule | Iterable[IpRule] | int) -> None:
        """``ip rule delete``.

        Args:
            which: a rule, several (as ``add`` returns them), or a priority: all rules of both families that have it.

        Raises:
            KernelError: there is no such rule (ENOENT); those before it in the list have been removed.
            TopologyError: no rule has that priority, or it is none of these.

        Example:
            >>> red.rules.add(fwmark=1, kind="blackhole", priority=77)
            >>> red.rules.remove(77)
        """
        wanted: list[IpRule]
        if is_whole(which, 0, 0xFFFFFFFF):
            present = list(self)
            wanted = [rule for rule in present if rule.priority == which]
            if not wanted:
                shown = ", ".join(str(each) for each in sorted({rule.priority for rule in present})) or "none"
                raise TopologyError(f"{self._where}: none has the priority {which!r}; there are: {shown}")
        else:
            several = list(which) if isinstance(which, Iterable) and not isinstance(which, str) else [which]
            wanted = [each for each in several if isinstance(each, IpRule)]
            if len(wanted) < len(several):
                raise TopologyError(
                    f"{self._where}: {which!r} cannot be removed; expected a rule, several as add() returns them, "
                    "or a priority"
                )
        with self._node.saved_config.lock:
            for rule in wanted:
                self._delete(rule)

    def _delete(self, wanted: IpRule) -> None:
        """Delete this rule and no other: the kernel takes the first of the priority that has what is asked for."""
        words = delete_words(wanted)
        found = [(rule_again(body), decode_rule(body)) for body in self._node.rtnl.dump(rule_dump(wanted.version))]
        same = [(body, rule) for body, rule in found if rule.priority == wanted.priority]
        position = next((number for number, (_, rule) in enumerate(same) if rule == wanted), None)
        if position is None:
            raise KernelError(errno.ENOENT, words, self._node.name)
        if any(would_delete(wanted, rule) for _, rule in same[:position]):
            # The first one is always the one that is meant. All are made anew, so that they keep their order.
            requests = [rule_deleted(body, delete_words(rule)) for body, rule in same]
            requests += [rule_restored(body) for number, (body, _) in enumerate(same) if number != position]
        else:
            requests = [rule_deleted(same[position][0], words)]
        self._node.rtnl.batch(requests)

    # -------------------------------------------------------------- selectors

    @property
    def _where(self) -> str:
        return f"ip rule of {self._node.name!r}"

    def _selected(
        self, source: RouteTarget | None, destination: RouteTarget | None
    ) -> list[tuple[int, Network | None, Network | None]]:
        """The rules to add, one per family: IP version, source, destination."""
        node = self._node
        sources = routing.networks_of(node, source, "ip rule", "source") if source is not None else None
        targets = routing.networks_of(node, destination, "ip rule") if destination is not None else None
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
        if isinstance(value, str):  # a rule may name an interface that does not exist yet
            return value if value == "lo" else check_interface_name(value, f"{self._where}: {name}")
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
        """A range or a mark with its mask; a single number is paired with itself, or with ``second``."""
        if value is None:
            return None
        pair = value if isinstance(value, tuple) else (value, value if second is None else second)
        if len(pair) != 2 or not all(is_whole(each, 0, high) for each in pair):
            raise TopologyError(
                f"{self._where}: {name} is {value!r}; it can be a whole number to {high}, or a tuple of two"
            )
        if second is None and pair[0] > pair[1]:
            raise TopologyError(f"{self._where}: {name} is {value!r}; the first is higher than the last")
        return pair

    def _check(self, name: str, value: int, low: int, high: int) -> None:
        if not is_whole(value, low, high):
            raise TopologyError(f"{self._where}: {name} is {value!r}; it can be a whole number from {low} to {high}")

    def _before(self, present: list[IpRule]) -> int:
        """The priority that the kernel would choose: one below the lowest of the rules, not counting priority 0."""
        lowest = min((rule.priority for rule in present if rule.priority), default=_LAST)
        if lowest == 1:
            raise TopologyError(f"{self._where}: a rule has the priority 1, so none is free before it; give priority=")
        return lowest - 1
