"""Checks: each looks for one kind of cause in an observation. To add a cause, add a file and list it here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_netns.explain.checks import (
    diverted,
    duplicate_address,
    duplicate_mac,
    fault_in_force,
    full_neighbour_table,
    fwmark,
    grown_counters,
    icmp_error,
    impaired_path,
    iptables_legacy,
    link_layer,
    multipath,
    next_hop,
    nft_drop,
    nft_taken,
    queue_drop,
    socket_state,
    target_fault,
    tc_filter,
    time_to_live,
    translation,
    unfinished_checksum,
    way_back,
    way_there,
    wireguard_underlay,
    works_now,
)
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation

Check = Callable[[Observation], Diagnosis | None]

#: The checks in order, each with the reason for its position. The first that finds something names the cause.
CHECKS: Sequence[tuple[Check, str]] = (
    (duplicate_address.check, "all other tables are about one of the two, and which one is chance"),
    (fault_in_force.check, "what the test broke on purpose is not blamed on the rules that break it"),
    (nft_drop.of_the_probe, "the kernel says which rule dropped this very packet: nothing is surer"),
    (iptables_legacy.check, "the counter of the rule says nearly the same"),
    (unfinished_checksum.check, "it was seen to get there, through a program of which no table knows"),
    (way_there.check, "by the tables it cannot get there; a search that was dropped may be for somebody else"),
    (nft_drop.of_the_search, "without the next hop's address nothing is sent; the tables are in order here"),
    (impaired_path.loses_most, "silence must be expected; a next hop that is silent is a consequence"),
    (full_neighbour_table.check, "without an entry nobody was asked, so no next hop is silent"),
    (queue_drop.check, "it was counted where nothing left; a next hop that is silent is a consequence"),
    (next_hop.check, "the request cannot leave its link, so nothing beyond is asked"),
    (diverted.check, "it was seen to go elsewhere: what happens to it there is a consequence"),
    (link_layer.check, "the frame was seen to leave and not to arrive: the place of the loss is known"),
    (time_to_live.check, "it was seen to be rewritten; the error that comes of it is a consequence"),
    (time_to_live.set_by_the_sender, "likewise, by who has sent it"),
    (time_to_live.set_where_it_ends, "likewise, by the node that has counted it as used up"),
    (translation.past_the_translator, "a reply came from elsewhere: the way back by the tables is not the one it took"),
    (translation.nearly_matched, "nothing is to listen where a rule should have led it away"),
    (socket_state.takes_others, "a socket that is there and takes nothing comes before one that is not there"),
    (target_fault.refuses, "the request arrives: who takes it comes before how the reply returns"),
    (translation.to_nobody, "the way back to an address that nobody has says less"),
    (way_back.check, "somebody takes it, so there is a reply"),
    (nft_taken.check, "the rule sent it elsewhere, which is a fault only if it got no further"),
    (fwmark.check, "the tables are in order for a packet without a mark"),
    (grown_counters.at_the_target, "the kernel has counted why a socket did not take it"),
    (socket_state.is_not_read, "a server that has no way back may have given up: that comes before"),
    (tc_filter.check, "filters say nothing of what they take: all that speaks for itself comes before"),
    (wireguard_underlay.check, "the tables and keys are in order, and nothing else is seen of what it carries"),
    (iptables_legacy.not_readable, "nothing else has been seen to take it; asking for a table makes it"),
    (socket_state.drops, "it arrives, is let in, and what listens counts it as dropped"),
    (multipath.check, "it works now, and would not by another next hop"),
    (duplicate_mac.check, "where the frame was seen to go astray is told above; it may come through now by chance"),
    (works_now.check, "nothing is wrong now; whatever follows is a guess about silence"),
    (impaired_path.loses_some, "chance explains silence only if nothing else does"),
    (target_fault.is_silent, "it arrives and the way back is in order"),
    (impaired_path.is_slow, "an answer that is merely late was never ruled out above"),
    (icmp_error.of_the_own_kernel, "the sender's kernel says no, and no table says why"),
    (icmp_error.from_elsewhere, "somebody says no, and no table of theirs says why"),
    (grown_counters.check, "nothing else is known"),
)
