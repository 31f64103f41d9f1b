"""A rule or policy of iptables-legacy drops a packet. nftables traces do not show it; its counter has grown."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look import iptables
from pytest_netns.explain.observation.observation import Observation

#: Timeout in seconds when the probe is sent once more.
_PATIENCE = 0.1


def check(observation: Observation) -> Diagnosis | None:
    """At the node where the packet ends."""
    if observation.answered:
        return None
    ends = [observation.question.node.name] if not observation.seen else [each.frame.node for each in observation.seen]
    for name in dict.fromkeys(reversed(ends)):
        for growth in observation.grown.get(name, ()):
            if growth.name.startswith(("iptables", "ip6tables")):
                return _diagnosis(name, growth.name, growth.by)
    return None


def not_readable(observation: Observation) -> Diagnosis | None:
    """The same for a user who may not list the tables, if nothing else says why the packet ends here.

    A table can still be read by name; if it does not exist, the kernel creates it, empty, with the policy ACCEPT. So
    this check runs late, and on one node only.
    """
    if observation.answered or iptables.can_read():
        return None
    question = observation.question
    if observation.stuck is not None:
        node = observation.stuck[1]
    elif not observation.seen:
        node = question.node
    else:
        return None
    program = iptables.program_for(question.address.version)
    before = iptables.dropped_by(node, program)
    if not any(before.values()):
        return None
    observation.ask_again(_PATIENCE)
    after = iptables.dropped_by(node, program)
    return _first(node.name, ((name, by - before.get(name, 0)) for name, by in after.items()))


def _first(node: str, growths: Iterable[tuple[str, int]]) -> Diagnosis | None:
    return next((_diagnosis(node, name, by) for name, by in growths if by > 0), None)


def _diagnosis(node: str, name: str, by: int) -> Diagnosis:
    table = name.partition(": ")[0].replace("tables", "tables-legacy", 1)
    return Diagnosis(
        f"iptables (legacy) on {node!r} drops it: {name}",
        node,
        [f"{node}: {table} -S -v: counter of that grew by {by}"],
    )
