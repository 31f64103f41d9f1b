"""Checks: each looks for one kind of cause in an observation. To add a cause, add a file and its place in the list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_netns.explain.checks import (
    duplicate_address,
    fault_in_force,
    impairment,
    next_hop,
    nft_drop,
    target,
    way_back,
    way_there,
    works_now,
)
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation import Observation

Check = Callable[[Observation], Diagnosis | None]

#: In the order in which they are asked, each with why it stands there. The first that finds something names the cause.
CHECKS: Sequence[tuple[Check, str]] = (
    (duplicate_address.check, "all other tables are about one of the two, and which one is chance"),
    (fault_in_force.check, "what the test broke on purpose is not blamed on the rules that break it"),
    (nft_drop.of_the_probe, "the kernel says which rule dropped this very packet: nothing is surer"),
    (way_there.check, "by the tables it cannot get there; a search that was dropped may be for somebody else"),
    (nft_drop.of_the_search, "without the next hop's address nothing is sent; the tables are in order here"),
    (impairment.loses_most, "silence must be expected; a next hop that is silent is a consequence"),
    (next_hop.check, "the request cannot leave its link, so nothing beyond is asked"),
    (target.refuses, "the request arrives: who takes it comes before how the reply returns"),
    (way_back.check, "somebody takes it, so there is a reply"),
    (works_now.check, "nothing is wrong now; whatever follows is a guess about silence"),
    (impairment.loses_some, "chance explains silence only if nothing else does"),
    (target.is_silent, "it arrives and the way back is in order"),
    (impairment.is_slow, "an answer that is merely late was never ruled out above"),
)
