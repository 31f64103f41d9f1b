"""IP rules: which routing table a node's kernel looks a packet up in (ip-rule(8))."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import cast

from pytest_netns.addresses import Address, Network
from pytest_netns.kernel.netlink.pyroute2_codec import Message, attribute_of, decode, encode, prepare_pyroute2
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6, Selector
from pytest_netns.kernel.netlink.socket import Request
from pytest_netns.lab.nodes import Node

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}

# From <linux/fib_rules.h> and <linux/rtnetlink.h>.
_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_INVERT = 2
_RTM_GETRULE = 34


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of ``ip rule show``.

    Attributes:
        priority: the lower, the sooner.
        action: ``lookup``, ``blackhole``, ``unreachable``, ``prohibit``, ...
        table: where it looks the route up.
        source: of packets from there; None: of all.
        destination: of packets to there.
        iif: that come in there.
        oif: that a socket bound to that interface sends.
        mark: that have this firewall mark, under a mask; None: any.
        protocol: of this IP protocol; 0: of all.
        sport: the range of source ports.
        dport: the range of destination ports.
        inverted: of those that all of this is not true of.
    """

    priority: int
    action: str
    table: int
    source: Network | None
    destination: Network | None
    iif: str
    oif: str
    mark: tuple[int, int] | None
    protocol: int
    sport: tuple[int, int] | None
    dport: tuple[int, int] | None
    inverted: bool

    def matches(self, destination: Address, packet: Selector, iif: str) -> bool:
        """Whether it is about a packet; what is not known of that does not match."""
        fits = (
            (self.source is None or (packet.source is not None and packet.source in self.source))
            and (self.destination is None or destination in self.destination)
            and (not self.iif or self.iif == (iif or "lo"))
            and not self.oif
            and (self.mark is None or packet.mark & self.mark[1] == self.mark[0])
            and self.protocol in (0, packet.protocol)
            and (self.sport is None or self.sport[0] <= packet.ports[0] <= self.sport[1])
            and (self.dport is None or self.dport[0] <= packet.ports[1] <= self.dport[1])
        )
        return fits != self.inverted

    def __str__(self) -> str:
        words = ["not"] if self.inverted else []
        words += ["from", str(self.source) if self.source is not None else "all"]
        words += ["to", str(self.destination)] if self.destination is not None else []
        words += ["fwmark", _mark(self.mark)] if self.mark is not None else []
        words += ["iif", self.iif] if self.iif else []
        words += ["oif", self.oif] if self.oif else []
        words += ["ipproto", _PROTOCOLS.get(self.protocol, str(self.protocol))] if self.protocol else []
        words += ["sport", _range(self.sport)] if self.sport else []
        words += ["dport", _range(self.dport)] if self.dport else []
        words += [self.action, str(self.table)] if self.action == "lookup" else [self.action]
        return f"{self.priority}: {' '.join(words)}"


def _mark(mark: tuple[int, int]) -> str:
    return f"{mark[0]:#x}" if mark[1] == 0xFFFFFFFF else f"{mark[0]:#x}/{mark[1]:#x}"


def _range(ports: tuple[int, int]) -> str:
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def rules(node: Node, version: int) -> list[Rule]:
    """The ip rules of a node, in their order."""
    prepare_pyroute2()
    from pyroute2.netlink.rtnl.fibmsg import fibmsg

    body = encode(fibmsg, {"family": AF_INET if version == 4 else AF_INET6})
    found = [_decode(decode(fibmsg, each)) for each in node.rtnl.dump(Request(_RTM_GETRULE, 0, body, "ip rule show"))]
    return sorted(found, key=lambda rule: rule.priority)


def _decode(message: Message) -> Rule:
    def network(name: str, length: str) -> Network | None:
        address = attribute_of(message, name, "")
        return ip_network(f"{address}/{message[length]}") if address else None

    def ports(name: str) -> tuple[int, int] | None:
        low, _, high = attribute_of(message, name, "").partition(":")
        return (int(low), int(high)) if low else None

    mark = attribute_of(message, "FRA_FWMARK", None)
    action, table, flags = (cast("int", message[name]) for name in ("action", "table", "flags"))
    return Rule(
        priority=attribute_of(message, "FRA_PRIORITY", 0),
        action=_ACTIONS.get(action, str(action)),
        table=attribute_of(message, "FRA_TABLE", table),
        source=network("FRA_SRC", "src_len"),
        destination=network("FRA_DST", "dst_len"),
        iif=attribute_of(message, "FRA_IIFNAME", ""),
        oif=attribute_of(message, "FRA_OIFNAME", ""),
        mark=(mark, attribute_of(message, "FRA_FWMASK", 0xFFFFFFFF)) if mark is not None else None,
        protocol=attribute_of(message, "FRA_IP_PROTO", 0),
        sport=ports("FRA_SPORT_RANGE"),
        dport=ports("FRA_DPORT_RANGE"),
        inverted=bool(flags & _INVERT),
    )


def marks(node: Node, version: int) -> list[int]:
    """The firewall marks that its ip rules ask for."""
    return [rule.mark[0] for rule in rules(node, version) if rule.mark is not None and not rule.inverted]
