"""A rule or a policy of iptables-legacy drops a packet, which no trace of nftables tells: its counter has grown."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation


def check(observation: Observation) -> Diagnosis | None:
    """At the node where the packet ends."""
    if observation.answered:
        return None
    ends = [observation.question.node.name] if not observation.seen else [each.frame.node for each in observation.seen]
    for name in dict.fromkeys(reversed(ends)):
        for growth in observation.grown.get(name, ()):
            if growth.name.startswith(("iptables", "ip6tables")):
                tables = growth.name.partition(" ")[0]
                return Diagnosis(
                    f"iptables (legacy) on {name!r} drops it: {growth.name}",
                    name,
                    [f"{name}: {tables}-legacy-save -c: counter of that grew by {growth.by}"],
                )
    return None
