"""The last resort: which error counters have grown at the node where the packet ended."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.counters import WORDS, Growth
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observed_packets import Role, last_of


def at_the_target(observation: Observation) -> Diagnosis | None:
    """A socket of the target does not accept the packet, and a kernel counter says why."""
    target = observation.target
    if observation.answered or target is None or observation.question.closed:
        return None
    if observation.of_role("reply") or not observation.of_role("request"):
        return None
    name = observation.name_of(target)
    of_sockets = [
        g for g in observation.grown.get(name, ()) if g.name in WORDS and not g.name.startswith(("Ip", "Ip6"))
    ]
    if not of_sockets:
        return None
    order = list(WORDS)
    first = min(of_sockets, key=lambda growth: order.index(growth.name))
    what = f"{observation.question.kind} port {observation.question.port}" if observation.question.port else "ICMP"
    return Diagnosis(
        f"{target.name!r} does not take it ({what}): {WORDS[first.name]} ({first.name} +{first.by})",
        target.name,
        [f"{name}: {growth}" for growth in observation.grown[name]],
    )


def check(observation: Observation) -> Diagnosis | None:
    """Nothing else was found, but an error counter has grown there."""
    if observation.answered or not observation.grown:
        return None
    grown = observation.grown
    roles: tuple[Role, ...] = ("reply", "request")
    places = [last_of(observation.of_role(role)).frame.node for role in roles if observation.of_role(role)]
    for name in [*places, *([] if observation.seen else [observation.question.node.name])]:
        if name in grown:
            return Diagnosis(
                f"no table says why, but counters of {name!r} that grew: "
                f"{', '.join(map(str, _known_first(grown[name])))}",
                name,
                [f"{name}: {growth}" for growth in grown[name]],
            )
    return None


def _known_first(grown: list[Growth]) -> list[Growth]:
    return sorted(grown, key=lambda growth: growth.name not in WORDS)
