"""The kernel's neighbour table is full: a node on the path cannot store the MAC address of its next hop."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation

#: What helps against a full table.
CURES = (
    'Lab(neighbours="known"), whose entries do not count towards the limit',
    "fewer hosts that talk to each other at the same time on this machine; or, as root of it: "
    "sysctl -w net.ipv4.neigh.default.gc_thresh3=8192 net.ipv6.neigh.default.gc_thresh3=8192",
)


def check(observation: Observation) -> Diagnosis | None:
    """The first next hop, there or back, without an entry, if the table refused entries meanwhile."""
    table, back = observation.table, observation.back
    if table is None or not observation.refusals or observation.answered:
        return None
    for node, out, hop in [*observation.there.hops, *(back.hops if back is not None else [])]:
        if any((known.address, known.interface) == (hop, out.name) for known in node.neighbours()):
            continue
        return Diagnosis(
            f"{node.name!r} has no entry for its neighbour {hop} because there was no room for one: {table}",
            node.name,
            [
                f"{node.name}: ip neighbour show {hop}: nothing",
                f"ip -s ntable show: table_fulls has grown by {observation.refusals} while it was asked again",
            ],
            list(CURES),
        )
    return None
