"""Requests for policy routing rules (ip-rule(8)), and decoding of the answers, by pyroute2."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import cast

from pytest_netns.addresses import Network
from pytest_netns.kernel.netlink.pyroute2_codec import Message, attribute_of, decode, encode, prepare_pyroute2
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, Request

#: IP protocols by their ip-rule(8) names.
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58}
#: Actions of a rule, with their numbers (FR_ACT_*).
ACTIONS = {"lookup": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}

# From <linux/fib_rules.h> and <linux/rtnetlink.h>.
_INVERT = 2
_RTM_NEWRULE, _RTM_GETRULE = 32, 34
_ANY_MARK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class IpRule:
    """A line of ``ip rule show``: the packets it matches, and the table to look up or the refusal.

    Attributes:
        priority: rules of lower priority numbers are tried first.
        version: 4 or 6.
        action: ``lookup``, ``blackhole``, ``unreachable``, ``prohibit``, ``goto``, ``nop``.
        table: number of the routing table to look up; 0 for other actions.
        source: source prefix; None: any.
        destination: destination prefix; None: any.
        iif: incoming interface; ``lo`` for packets that the host itself sends; empty: any.
        oif: interface that the sending socket is bound to; empty: any.
        mark: firewall mark and mask; None: any.
        protocol: IP protocol number; 0: any.
        sport: range of source ports; None: any.
        dport: range of destination ports; None: any.
        uid: range of user IDs of the sending socket; None: any.
        inverted: whether it matches the packets that the selectors do not match.
        suppress_prefixlength: routes whose prefix length is this or shorter are ignored; None: no route is.
        l3mdev: whether it looks up the table of the VRF.

    Example:
        >>> [rule.priority for rule in red.rules]
    """

    priority: int
    version: int
    action: str = "lookup"
    table: int = 0
    source: Network | None = None
    destination: Network | None = None
    iif: str = ""
    oif: str = ""
    mark: tuple[int, int] | None = None
    protocol: int = 0
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    uid: tuple[int, int] | None = None
    inverted: bool = False
    suppress_prefixlength: int | None = None
    l3mdev: bool = False

    def __str__(self) -> str:
        return f"{self.priority}: {' '.join(self._words())}"

    def _words(self) -> list[str]:
        """The rule in ip-rule(8) syntax, without its priority."""
        words = ["not"] if self.inverted else []
        words += ["from", str(self.source) if self.source is not None else "all"]
        words += ["to", str(self.destination)] if self.destination is not None else []
        words += ["fwmark", _mark(self.mark)] if self.mark is not None else []
        words += ["iif", self.iif] if self.iif else []
        words += ["oif", self.oif] if self.oif else []
        names = {number: name for name, number in PROTOCOLS.items()}
        words += ["ipproto", names.get(self.protocol, str(self.protocol))] if self.protocol else []
        words += ["sport", _range(self.sport)] if self.sport else []
        words += ["dport", _range(self.dport)] if self.dport else []
        words += ["uidrange", f"{self.uid[0]}-{self.uid[1]}"] if self.uid else []
        words += ["lookup [l3mdev-table]"] if self.l3mdev else []
        words += [self.action, str(self.table)] if self.action == "lookup" and not self.l3mdev else []
        words += [self.action] if self.action != "lookup" else []
        if self.suppress_prefixlength is not None:
            words += ["suppress_prefixlength", str(self.suppress_prefixlength)]
        return words


def _mark(mark: tuple[int, int]) -> str:
    return f"{mark[0]:#x}" if mark[1] == _ANY_MARK else f"{mark[0]:#x}/{mark[1]:#x}"


def _range(ports: tuple[int, int]) -> str:
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def rule_dump(version: int) -> Request:
    """``ip rule show``."""
    prepare_pyroute2()
    from pyroute2.netlink.rtnl.fibmsg import fibmsg

    words = "ip rule show" if version == 4 else "ip -6 rule show"
    return Request(_RTM_GETRULE, 0, encode(fibmsg, {"family": AF_INET if version == 4 else AF_INET6}), words)


def rule_add(rule: IpRule) -> Request:
    """``ip rule add``."""
    return _request(_RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, "add", rule)


def delete_words(rule: IpRule) -> str:
    """Deleting a rule, in ip-rule(8) syntax."""
    return _command("delete", rule)


def would_delete(wanted: IpRule, other: IpRule) -> bool:
    """Whether the kernel could take ``other`` when asked to delete ``wanted``: what that lacks is not compared."""
    mark, others = wanted.mark, other.mark
    return (
        (wanted.priority, wanted.version, wanted.action) == (other.priority, other.version, other.action)
        and (mark is None or (others is not None and mark[1] == others[1] and mark[0] in (0, others[0])))
        and all(
            getattr(wanted, name) in (None, 0, "", getattr(other, name))
            for name in ("table", "source", "destination", "iif", "oif", "protocol", "sport", "dport", "uid")
        )
        and wanted.suppress_prefixlength in (None, other.suppress_prefixlength)
    )


def _command(verb: str, rule: IpRule) -> str:
    family = "" if rule.version == 4 else "-6 "
    return f"ip {family}rule {verb} {' '.join(rule._words())} priority {rule.priority}"


def _request(kind: int, flags: int, verb: str, rule: IpRule) -> Request:
    prepare_pyroute2()
    from pyroute2.netlink.rtnl.fibmsg import fibmsg

    source, destination = rule.source, rule.destination
    fields = {
        "family": AF_INET if rule.version == 4 else AF_INET6,
        "src_len": source.prefixlen if source is not None else 0,
        "dst_len": destination.prefixlen if destination is not None else 0,
        "table": rule.table if rule.table < 256 else 0,
        "action": ACTIONS[rule.action],
        "flags": _INVERT if rule.inverted else 0,
    }
    found: list[tuple[str, object]] = [("FRA_PRIORITY", rule.priority)]
    found += [("FRA_SRC", str(source.network_address))] if source is not None else []
    found += [("FRA_DST", str(destination.network_address))] if destination is not None else []
    found += [("FRA_IIFNAME", rule.iif)] if rule.iif else []
    found += [("FRA_OIFNAME", rule.oif)] if rule.oif else []
    found += [("FRA_FWMARK", rule.mark[0]), ("FRA_FWMASK", rule.mark[1])] if rule.mark is not None else []
    found += [("FRA_TABLE", rule.table)] if rule.table >= 256 else []
    found += [("FRA_IP_PROTO", rule.protocol)] if rule.protocol else []
    for name, value in (("FRA_SPORT_RANGE", rule.sport), ("FRA_DPORT_RANGE", rule.dport), ("FRA_UID_RANGE", rule.uid)):
        found += [(name, f"{value[0]}:{value[1]}")] if value is not None else []
    if rule.suppress_prefixlength is not None:
        found.append(("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlength))
    found += [("FRA_L3MDEV", 1)] if rule.l3mdev else []
    return Request(kind, flags, encode(fibmsg, fields, found), _command(verb, rule))


def decode_rule(body: bytes) -> IpRule:
    """Decode an RTM_NEWRULE message."""
    prepare_pyroute2()
    from pyroute2.netlink.rtnl.fibmsg import fibmsg

    message = decode(fibmsg, body)
    # Of the mark 0, which has to be told from none, the kernel sends the mask only.
    mark = attribute_of(message, "FRA_FWMARK", 0)
    mask = attribute_of(message, "FRA_FWMASK", _ANY_MARK if mark else 0)
    family, action, table, flags = (cast("int", message[name]) for name in ("family", "action", "table", "flags"))
    actions = {number: name for name, number in ACTIONS.items()}
    suppressed = attribute_of(message, "FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF)
    return IpRule(
        priority=attribute_of(message, "FRA_PRIORITY", 0),
        version=4 if family == AF_INET else 6,
        action=actions.get(action, str(action)),
        table=attribute_of(message, "FRA_TABLE", table),
        source=_network(message, "FRA_SRC", "src_len"),
        destination=_network(message, "FRA_DST", "dst_len"),
        iif=attribute_of(message, "FRA_IIFNAME", ""),
        oif=attribute_of(message, "FRA_OIFNAME", ""),
        mark=(mark, mask) if mark or mask else None,
        protocol=attribute_of(message, "FRA_IP_PROTO", 0),
        sport=_pair(message, "FRA_SPORT_RANGE"),
        dport=_pair(message, "FRA_DPORT_RANGE"),
        uid=_pair(message, "FRA_UID_RANGE"),
        inverted=bool(flags & _INVERT),
        suppress_prefixlength=suppressed if suppressed != 0xFFFFFFFF else None,
        l3mdev=bool(attribute_of(message, "FRA_L3MDEV", 0)),
    )


def _network(message: Message, name: str, length: str) -> Network | None:
    address = attribute_of(message, name, "")
    return ip_network(f"{address}/{message[length]}") if address else None


def _pair(message: Message, name: str) -> tuple[int, int] | None:
    low, _, high = attribute_of(message, name, "").partition(":")
    return (int(low), int(high)) if low else None
