"""The request arrives, and the reply does not come back."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.link_layer.unresolved_neighbour import unresolved_neighbour
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.way.impairments import as_delay


def check(observation: Observation) -> Diagnosis | None:
    """The node where the path of the reply ends by the tables, or whose next hop does not answer."""
    back = observation.back
    if back is None or observation.target is None:
        return None
    fault = back.fault or unresolved_neighbour(observation.lab, back)
    if fault is None:
        return None
    late = as_delay(observation.impaired, rates=False) if fault is not back.fault else ""
    return Diagnosis(
        f"the request reaches {observation.target.name!r}, and its reply does not come back: {fault.cause}{late}",
        fault.node,
        [*back.evidence, *fault.evidence],
        cures=fault.cures,
    )
