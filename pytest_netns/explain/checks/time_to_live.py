"""The TTL has expired although it was high enough for the path: a node has rewritten it."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.nat_rules import changes_of
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observed_packets import ObservedPacket, Role, first_of

_TTL, _HOP_LIMIT = 8, 7
_ROLES: tuple[Role, ...] = ("request", "reply")
_FIELDS = {4: ("ip", "ttl"), 6: ("ip6", "hoplimit")}
_WORDS = {4: "time to live (ttl)", 6: "hop limit (hoplimit)"}


def set_by_the_sender(observation: Observation) -> Diagnosis | None:
    """Rules of the sender of the request, or of the reply, set a TTL that is too low."""
    if observation.answered:
        return None
    version = observation.question.address.version
    for role in _ROLES:
        of_role = observation.of_role(role)
        first = first_of(of_role) if of_role else None
        node = observation.node_of(first) if first is not None else None
        if first is None or node is None or not first.frame.outgoing or not _ends(observation, role, 1):
            continue
        for rule in changes_of(node, *_FIELDS[version]):
            if rule.hook in ("output", "postrouting"):
                return Diagnosis(
                    f"{node.name!r} sends the {role} with a {_WORDS[version]} of {ttl_of(first)}, which is used up "
                    "before "
                    f"it arrives: {rule.text}",
                    node.name,
                    [f"the {role} left {first.frame.place} with {ttl_of(first)}", rule.text],
                )
    return None


def set_where_it_ends(observation: Observation) -> Diagnosis | None:
    """Rules of the node where it ends lower it on input, and that node counts it as expired."""
    if observation.answered or observation.stuck is None:
        return None
    role, node, place = observation.stuck
    version = observation.question.address.version
    expired = "Ip.InHdrErrors" if version == 4 else "Ip6.InHdrErrors"
    if all(growth.name != expired for growth in observation.grown.get(observation.name_of(node), ())):
        return None
    for rule in changes_of(node, *_FIELDS[version]):
        if rule.hook in ("prerouting", "ingress"):
            return Diagnosis(
                f"{node.name!r} sets the {_WORDS[version]} of the {role} that comes in at {place.name!r}, which is "
                "used up "
                f"there then: {rule.text}",
                node.name,
                [f"{node.name}: {expired} has grown", rule.text],
            )
    return None


def check(observation: Observation) -> Diagnosis | None:
    """A node that forwards a packet with a TTL lower by more than one."""
    if observation.answered:
        return None
    for role in _ROLES:
        came: dict[str, int] = {}
        for each in observation.of_role(role):
            ttl = ttl_of(each)
            name = each.frame.node
            if ttl is None:
                continue
            if not each.frame.outgoing:
                came[name] = ttl
            elif name in came and ttl < came[name] - 1 and _ends(observation, role, ttl):
                word = _WORDS[observation.question.address.version]
                return Diagnosis(
                    f"{name!r} sets the {word} of the {role} from {came[name]} to {ttl}: it is used up before it "
                    "arrives",
                    name,
                    [f"the {role} came in at {name} with {came[name]} and left {each.frame.place} with {ttl}"],
                )
    return None


def _ends(observation: Observation, role: Role, ttl: int) -> bool:
    """Whether the TTL was too low to be forwarded: the packet was last seen with a TTL of at most 1."""
    last = observation.of_role(role)[-1]
    left = ttl_of(last)
    return left is not None and left <= min(ttl, 1)


def ttl_of(seen: ObservedPacket) -> int | None:
    """The TTL, or hop limit, of a captured packet."""
    data = seen.frame.data[14:] if seen.frame.ethernet else seen.frame.data
    if len(data) < 20:
        return None
    return data[_TTL] if data[0] >> 4 == 4 else data[_HOP_LIMIT]
