"""nftables NAT rules, and which of their conditions a packet does not match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.nft import nft_with_handles

_KINDS = ("dnat", "snat", "redirect", "masquerade")


@dataclass(frozen=True, slots=True)
class NatRule:
    """A rule that translates.

    Attributes:
        kind: ``dnat``, ``snat``, ``redirect``, ``masquerade``; ``set`` of one that changes a field.
        hook: of its chain; empty if it is no base chain.
        matches: its conditions, in the form of libnftables-json(5).
        text: as nft lists it, with its place.
    """

    kind: str
    hook: str
    matches: tuple[Mapping[str, object], ...]
    text: str

    @property
    def ports(self) -> set[int]:
        """The destination ports that it asks for."""
        return {port for match in self.matches if _left(match)[1] == "dport" for port in _numbers(match.get("right"))}

    def first_difference(
        self, protocol: str, port: int, interface: str, source: Address | None, destination: Address
    ) -> str | None:
        """The first condition that a packet does not fulfil, in words; None if it fulfils all that is understood."""
        facts: dict[tuple[str, str], object] = {
            ("meta", "iifname"): interface,
            ("meta", "iif"): interface,
            ("meta", "l4proto"): protocol,
            (protocol, "dport"): port,
            ("th", "dport"): port,
            ("ip", "protocol"): protocol,
            ("ip", "saddr"): source,
            ("ip6", "saddr"): source,
            ("ip", "daddr"): destination,
            ("ip6", "daddr"): destination,
        }
        for match in self.matches:
            key = _left(match)
            if key not in facts or facts[key] is None:
                continue
            fits = _fits(facts[key], match.get("right"))
            if fits is None:
                continue
            if fits == (match.get("op") == "!="):
                words = key[1] if key[0] == "meta" else " ".join(key)
                operator = "not " if match.get("op") == "!=" else ""
                return f"it asks for {words} {operator}{_shown(match.get('right'))}, and this is {facts[key]}"
        return None


def nat_rules(node: Node) -> list[NatRule]:
    """Those of a node, in the order of the listing. Raises NetnsError."""

    def kind_of(expressions: Sequence[Mapping[str, object]]) -> str | None:
        return next((kind for each in expressions for kind in _KINDS if kind in each), None)

    return _listed(node, kind_of)


def changes_of(node: Node, protocol: str, field: str) -> list[NatRule]:
    """The rules that set a field of a header, e.g. ``ip`` and ``ttl``; none where rules cannot be listed."""

    def kind_of(expressions: Sequence[Mapping[str, object]]) -> str | None:
        for each in expressions:
            mangle = each.get("mangle")
            if isinstance(mangle, dict) and _left({"left": mangle.get("key")}) == (protocol, field):
                return "set"
        return None

    try:
        return _listed(node, kind_of)
    except NetnsError:
        return []


def _listed(node: Node, kind_of: Callable[[Sequence[Mapping[str, object]]], str | None]) -> list[NatRule]:
    ruleset = node.nft_ruleset()
    hooks: dict[tuple[object, ...], str] = {}
    listing = nft_with_handles(node).splitlines()
    found = []
    for item in ruleset:
        if isinstance(chain := item.get("chain"), dict):
            hooks[chain.get("family"), chain.get("table"), chain.get("name")] = str(chain.get("hook") or "")
        if not isinstance(rule := item.get("rule"), dict):
            continue
        expressions = [each for each in rule.get("expr", []) if isinstance(each, dict)]
        kind = kind_of(expressions)
        if kind is None:
            continue
        matches = tuple(each["match"] for each in expressions if isinstance(each.get("match"), dict))
        place = rule.get("family"), rule.get("table"), rule.get("chain")
        handle = f"# handle {rule.get('handle')}"
        # Handles count within a table; the statement tells them apart well enough.
        text = next((line for line in listing if line.endswith(handle) and kind in line), kind)
        found.append(
            NatRule(
                kind, hooks.get(place, ""), matches, f"{' '.join(map(str, place))}: {text.rpartition('#')[0].strip()}"
            )
        )
    return found


def _left(match: Mapping[str, object]) -> tuple[str, str]:
    left = match.get("left")
    if isinstance(left, dict):
        if isinstance(meta := left.get("meta"), dict):
            return "meta", str(meta.get("key"))
        if isinstance(payload := left.get("payload"), dict):
            return str(payload.get("protocol")), str(payload.get("field"))
    return "", ""


def _fits(value: object, right: object) -> bool | None:
    """Whether a value is what stands on the right of a condition; None if that cannot be told."""
    if isinstance(right, list):
        each_fits = [_fits(value, each) for each in right]
        return True if True in each_fits else None if None in each_fits else False
    if isinstance(right, dict):
        if isinstance(several := right.get("set"), list):
            return _fits(value, several)
        if isinstance(prefix := right.get("prefix"), dict):
            network = ip_network(f"{prefix.get('addr')}/{prefix.get('len')}", strict=False)
            return ip_address(str(value)) in network
        if isinstance(between := right.get("range"), list) and isinstance(value, int):
            return bool(between[0] <= value <= between[1])
        return None
    if isinstance(right, str) and right.startswith("@"):
        return None
    if isinstance(right, str) and right.endswith("*"):
        return str(value).startswith(right[:-1])
    return str(value) == str(right)


def _numbers(right: object) -> Iterable[int]:
    if isinstance(right, int):
        yield right
    elif isinstance(right, list):
        for each in right:
            yield from _numbers(each)
    elif isinstance(right, dict):
        if isinstance(between := right.get("range"), list):
            yield from range(between[0], between[1] + 1)
        yield from _numbers(right.get("set"))


def _shown(right: object) -> str:
    if isinstance(right, dict):
        if isinstance(prefix := right.get("prefix"), dict):
            return f"{prefix.get('addr')}/{prefix.get('len')}"
        if isinstance(several := right.get("set"), list):
            return _shown(several)
        if isinstance(between := right.get("range"), list):
            return f"{between[0]}-{between[1]}"
    if isinstance(right, list):
        return f"{{ {', '.join(map(_shown, right))} }}"
    return str(right)
