"""NAT: the address translation rules of a router, in an nftables table of this package.

Each rule counts in a named counter object, so the table can be rebuilt around it in one transaction: chains are emptied
and filled anew, counters and established connections stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Literal

from pytest_netns.addresses import Address, AddressWithPrefix, is_of_link
from pytest_netns.checks import check_port
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.kernel.netlink.conntrack import Connection
from pytest_netns.lab.connections import Match
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.interface_lookup import named_interface

if TYPE_CHECKING:
    from pytest_netns.lab.host import Host

TABLE = "pytest_netns_nat"
Transport = Literal["tcp", "udp"]

# Priorities are those of nft(8): dstnat -100, srcnat 100.
_CHAINS = {
    "prerouting": "type nat hook prerouting priority -100",
    "output": "type nat hook output priority -100",
    "postrouting": "type nat hook postrouting priority 100",
}


# Does nothing, but refers to conntrack. When the last rule that does is gone, the kernel unhooks conntrack from the
# namespace some milliseconds later, and connections that are translated break.
_KEEP_TRACKING = "ct state new"


@dataclass(frozen=True, slots=True)
class Counter:
    """Packets and bytes that a rule has matched. NAT rules see the first packet of each connection only.

    Attributes:
        packets: how many.
        bytes: in all of them, from the IP header on.

    Example:
        >>> rule = router.masquerade(lan)
        >>> rule.counter.packets
    """

    packets: int
    bytes: int


class Rule:
    """A rule of a router's NAT table.

    Attributes:
        key: name of its counter there.

    Example:
        >>> rule = router.masquerade(lan)
        >>> rule.counter.packets
    """

    def __init__(self, nat: Nat, key: str) -> None:
        self._nat = nat
        self.key = key

    @property
    def counter(self) -> Counter:
        """How much matched so far. Raises TopologyError once it is removed."""
        return self._nat.count(self)

    def remove(self, *, flush: bool = False) -> None:
        """Remove the rule. Established connections keep their translation unless they are flushed.

        Args:
            flush: forget the connections that it has translated (conntrack(8)); see ``Host.connections``.

        Raises:
            TopologyError: it was removed before.

        Example:
            >>> rule = router.masquerade(lan)
            >>> rule.remove(flush=True)
        """
        is_mine = self.meant()
        self._nat.remove(self)
        if flush:
            self._nat.flush(is_mine)

    def lines(self) -> dict[str, list[str]]:
        """Its nft rules by chain."""
        raise AssertionError("a rule says what it is")

    def meant(self) -> Match:
        """Tells which connections it has translated, or would if they began now."""
        raise AssertionError("a rule says what it is")


class MasqueradeRule(Rule):
    """Source NAT to the address of an interface. Created by ``Router.masquerade``.

    Attributes:
        key: name of its counter in the router's NAT table.
        out: the interface.

    Example:
        >>> rule = router.masquerade(lan)
        >>> rule.counter.packets
        >>> rule.remove()
    """

    def __init__(self, nat: Nat, key: str, out: Interface) -> None:
        super().__init__(nat, key)
        self.out = out

    def __repr__(self) -> str:
        return f"<masquerade on {self.out}>"

    def lines(self) -> dict[str, list[str]]:
        """Its nft rules by chain."""
        return {"postrouting": [f'oifname "{self.out.name}" counter name {self.key} masquerade']}

    def meant(self) -> Match:
        """Tells which connections it has translated, or would if they began now: those that leave by its interface."""
        own = {address.ip for address in self.out.addresses}
        is_outside = self._nat.leads_out(self.out)
        return lambda each: each.original.source not in own and is_outside(each.reply.source)


class ForwardRule(Rule):
    """Destination NAT of a port. Created by ``Router.forward_port``.

    Attributes:
        key: name of its counter in the router's NAT table.
        port: on the router, 1 to 65535.
        to: where connections are sent: one address of each family.
        to_port: the port there.
        protocol: ``"tcp"`` or ``"udp"``.
        on: the interface whose addresses count; None for any address of the router.

    Example:
        >>> rule = router.forward_port(80, green, 8080)
        >>> rule.change(to_port=8081, flush=True)
    """

    def __init__(
        self, nat: Nat, key: str, port: int, to: list[Address], to_port: int, protocol: Transport, on: Interface | None
    ) -> None:
        super().__init__(nat, key)
        self.port = port
        self.to = to
        self.to_port = to_port
        self.protocol = protocol
        self.on = on

    def __repr__(self) -> str:
        where = f" on {self.on}" if self.on else ""
        return (
            f"<forward {self.protocol} port {self.port}{where} to {', '.join(map(str, self.to))} port {self.to_port}>"
        )

    def change(
        self, *, to: Node | Address | str | None = None, to_port: int | None = None, flush: bool = False
    ) -> None:
        """Change the target of new connections. Established ones keep theirs unless they are flushed.

        For the kernel a connection of UDP is there as long as packets come more often than its timeout (30 s, or 120 s
        once both sides have sent several), from the same port to the same.

        Args:
            to: a node behind the router, or an address there; None leaves it as it is.
            to_port: the port there, 1 to 65535; None leaves it as it is.
            flush: forget the connections that are there (conntrack(8)), so that their next packet goes to the new
                target; see ``Host.connections``.

        Raises:
            TopologyError: the new target is not behind the router, or the rule was removed.
            ValueError: the port is out of range.

        Example:
            >>> rule = router.forward_port(80, green, 8080)
            >>> rule.change(to_port=8081, flush=True)
        """
        targets = self.to if to is None else self._nat.behind(to)
        self._nat.change(self, targets, self.to_port if to_port is None else check_port(to_port))
        if flush:
            self._nat.flush(self.meant())

    def meant(self) -> Match:
        """Tells which connections it has translated, or would if they began now: those to its port of the router."""
        own = {address.ip for address in self._nat.addresses(self.on)}

        def match(each: Connection) -> bool:
            to = each.original
            return (each.protocol, to.destination_port) == (self.protocol, self.port) and to.destination in own

        return match

    def lines(self) -> dict[str, list[str]]:
        """Its nft rules by chain."""
        found: dict[str, list[str]] = {"prerouting": [], "output": [], "postrouting": []}
        for target in self.to:
            family = "ip" if target.version == 4 else "ip6"
            written = str(target) if target.version == 4 else f"[{target}]"
            own = self._own(target.version, family)
            if own is None:
                continue
            matched = f"{own} {self.protocol} dport {self.port}"
            action = f"counter name {self.key} dnat {family} to {written}:{self.to_port}"
            found["prerouting"].append(f"{matched} {action}")
            loopback = "127.0.0.0/8" if target.version == 4 else "::1"
            found["output"].append(f"{family} daddr != {loopback} {matched} {action}")
            # From the target's own LAN the reply would go straight to the client, which asked somebody else.
            for network in self._nat.networks_around(target):
                found["postrouting"].append(
                    f"ct status dnat {family} saddr {network} {family} daddr {target} "
                    f"{self.protocol} dport {self.to_port} masquerade"
                )
        return found

    def _own(self, version: int, family: str) -> str | None:
        if self.on is None:
            return f"meta nfproto {'ipv4' if version == 4 else 'ipv6'} fib daddr type local"
        addresses = [str(a.ip) for a in self.on.addresses if a.version == version and not is_of_link(a)]
        return f"{family} daddr {{ {', '.join(addresses)} }}" if addresses else None


class Nat:
    """All NAT rules of a router."""

    def __init__(self, router: Host) -> None:
        self._router = router
        self._rules: list[Rule] = []
        self._keys = itertools.count(1)
        self._made = False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """In the order of their making; the first that matches decides."""
        return tuple(self._rules)

    def interface_of(self, what: str | Interface | Node, option: str) -> Interface:
        """One of the router's interfaces: itself, by name, or the one towards a node. Raises TopologyError."""
        router = self._router
        try:
            return named_interface(router, what, option)
        except TopologyError:
            known = ", ".join(name for name in router.interfaces if name != "lo") or "none"
            label = getattr(what, "name", what)
            raise TopologyError(
                f"router {router.name!r}: {option}={label!r} is no interface of it; it has: {known}"
            ) from None

    def behind(self, to: Node | Address | str) -> list[Address]:
        """The addresses of a target, if it is behind the router. Raises TopologyError."""
        router = self._router
        label = to.name if isinstance(to, Node) else str(to)
        if isinstance(to, Node):
            if to is router:
                raise TopologyError(f"router {router.name!r}: cannot forward a port to itself")
            candidates: list[Address] = [a.ip for a in to.addresses() if not is_of_link(a)]
        else:
            try:
                candidates = [ip_address(to)]
            except ValueError:
                raise TopologyError(f"router {router.name!r}: to={to!r} is neither a node nor an address") from None
        known = [r.destination for r in router.routes() if r.kind == "unicast" and r.destination.prefixlen > 0]
        found: list[Address] = []
        for version in (4, 6):
            reachable = (
                c for c in candidates if c.version == version and any(c in n for n in known if n.version == version)
            )
            found += list(reachable)[:1]
        if not found:
            networks = ", ".join(str(n) for n in known if not is_of_link(n)) or "none"
            raise TopologyError(
                f"router {router.name!r}: {label!r} ({', '.join(map(str, candidates)) or 'no address'}) is not behind "
                f"it; networks it has routes to: {networks}"
            )
        return found

    def networks_around(self, target: IPv4Address | IPv6Address) -> list[str]:
        """The router's own subnets that a target is in."""
        return [str(a.network) for a in self._router.addresses() if target in a.network]

    def addresses(self, on: Interface | None) -> list[AddressWithPrefix]:
        """Those of an interface, or all of the router."""
        return self._router.addresses() if on is None else on.addresses

    def leads_out(self, out: Interface) -> Callable[[Address], bool]:
        """Tells whether the router sends by an interface what is for an address."""

        @cache
        def is_outside(address: Address) -> bool:
            try:
                return self._router.route_to(address).interface == out.name
            except KernelError:  # there is no way to it now
                return False

        return is_outside

    def flush(self, *matches: Match) -> None:
        """Have the kernel forget connections that match all of these."""
        self._router.connections.flush_where(matches)

    def masquerade(self, out: str | Interface | Node, flush: bool) -> MasqueradeRule:
        """See ``Router.masquerade``."""
        rule = MasqueradeRule(self, f"masquerade{next(self._keys)}", self.interface_of(out, "out"))
        self._apply([*self._rules, rule])
        if flush:
            self.flush(rule.meant(), lambda each: not each.source_nat)
        return rule

    def forward_port(
        self,
        port: int,
        to: Node | Address | str,
        to_port: int | None,
        protocol: Transport,
        on: str | Interface | Node | None,
        flush: bool,
    ) -> ForwardRule:
        """See ``Router.forward_port``."""
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"protocol is {protocol!r}; it can be 'tcp' or 'udp'")
        check_port(port)
        target_port = port if to_port is None else check_port(to_port)
        interface = None if on is None else self.interface_of(on, "on")
        for rule in self._rules:
            if (
                isinstance(rule, ForwardRule)
                and (rule.port, rule.protocol) == (port, protocol)
                and rule.on == interface
            ):
                raise TopologyError(f"router {self._router.name!r}: {rule!r} exists already; change() or remove() it")
        targets = self.behind(to)
        if interface is not None:
            outside = [a.network for a in interface.addresses]
            targets = [target for target in targets if not any(target in network for network in outside)]
            if not targets:
                raise TopologyError(
                    f"router {self._router.name!r}: {getattr(to, 'name', to)!r} is not behind it but on the side of "
                    f"{interface.name!r}, from where the connections come"
                )
        rule = ForwardRule(self, f"forward{next(self._keys)}", port, targets, target_port, protocol, interface)
        if not any(rule.lines().values()):
            raise TopologyError(
                f"router {self._router.name!r}: {on!r} has no address of the family of {', '.join(map(str, rule.to))}"
            )
        self._apply([*self._rules, rule])
        if flush:
            self.flush(rule.meant())
        return rule

    def change(self, rule: ForwardRule, to: list[Address], to_port: int) -> None:
        """Give a rule another target."""
        self._check(rule)
        before = rule.to, rule.to_port
        rule.to, rule.to_port = to, to_port
        try:
            self._apply(self._rules)
        except BaseException:
            rule.to, rule.to_port = before
            raise

    def remove(self, rule: Rule) -> None:
        """Take a rule away."""
        self._check(rule)
        self._apply([other for other in self._rules if other is not rule], gone=rule)

    def count(self, rule: Rule) -> Counter:
        """What a rule has seen."""
        self._check(rule)
        for item in self._router.nft_ruleset():
            counter = item.get("counter")
            if isinstance(counter, dict) and (counter["table"], counter["name"]) == (TABLE, rule.key):
                return Counter(int(counter["packets"]), int(counter["bytes"]))
        raise TopologyError(f"router {self._router.name!r}: the counter of {rule!r} is gone; was the ruleset flushed?")

    def restore(self) -> None:
        """Load all rules into a namespace that has none of them; counters begin at zero."""
        self._made = False
        if self._rules:
            self._apply(self._rules)

    def _check(self, rule: Rule) -> None:
        if rule not in self._rules:
            raise TopologyError(f"router {self._router.name!r}: {rule!r} was removed")

    def _apply(self, rules: list[Rule], gone: Rule | None = None) -> None:
        """Make the table hold just these rules, in one transaction."""
        text = [f"add table inet {TABLE}"]
        for chain, hook in _CHAINS.items():
            text.append(f"add chain inet {TABLE} {chain} {{ {hook}; policy accept; }}")
            if self._made:
                text.append(f"flush chain inet {TABLE} {chain}")
        text.append(f"add rule inet {TABLE} prerouting {_KEEP_TRACKING}")
        for rule in rules:
            text.append(f"add counter inet {TABLE} {rule.key}")
            for chain, lines in rule.lines().items():
                text += [f"add rule inet {TABLE} {chain} {line}" for line in lines]
        if gone is not None:
            text.append(f"add counter inet {TABLE} {gone.key}")  # somebody may have flushed the ruleset
            text.append(f"delete counter inet {TABLE} {gone.key}")
        self._router.nft("\n".join(text))
        self._made = True
        self._rules = rules
