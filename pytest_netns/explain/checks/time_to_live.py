"""The time to live is used up though it was long enough for the way: somebody has rewritten it."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.packets import ObservedPacket, Role

_TTL, _HOP_LIMIT = 8, 7


def check(observation: Observation) -> Diagnosis | None:
    """A node that sends a packet on with a time to live lower by more than one."""
    if observation.answered:
        return None
    roles: tuple[Role, ...] = ("request", "reply")
    for role in roles:
        came: dict[str, int] = {}
        for each in observation.of_role(role):
            ttl = _ttl_of(each)
            name = each.frame.node
            if ttl is None:
                continue
            if not each.frame.outgoing:
                came[name] = ttl
            elif name in came and ttl < came[name] - 1 and _ends(observation, role, ttl):
                word = "time to live (ttl)" if observation.question.address.version == 4 else "hop limit (hoplimit)"
                return Diagnosis(
                    f"{name!r} sets the {word} of the {role} from {came[name]} to {ttl}: it is used up before it "
                    "arrives",
                    name,
                    [f"the {role} came in at {name} with {came[name]} and left {each.frame.place} with {ttl}"],
                )
    return None


def _ends(observation: Observation, role: Role, ttl: int) -> bool:
    """Whether what was left was not enough: the packet was last seen with no more than one."""
    last = observation.of_role(role)[-1]
    left = _ttl_of(last)
    return left is not None and left <= min(ttl, 1)


def _ttl_of(seen: ObservedPacket) -> int | None:
    data = seen.frame.data[14:] if seen.frame.ethernet else seen.frame.data
    if len(data) < 20:
        return None
    return data[_TTL] if data[0] >> 4 == 4 else data[_HOP_LIMIT]
