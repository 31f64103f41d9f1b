"""The kernel's neighbour table is one for the whole machine: labs must leave room in it for others."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slowness import patient

from pytest_netns import Host, Lab, Namespace, why
from pytest_netns.kernel.netlink import neighbour_table
from pytest_netns.kernel.netlink.neighbour_table import NeighbourTable, RefusalLog, counted_entries, neighbour_tables
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6
from pytest_netns.probe.all_pairs import groups


def lan_of(lab: Lab, number: int) -> list[Host]:
    bridge = lab.bridge("lan", "10.20.0.0/16")
    return [bridge.host(f"h{each}") for each in range(number)]


def held_by(lab: Lab) -> int:
    """How many entries of the table its nodes have, of those that count."""
    return sum(len(counted_entries(node.rtnl, (AF_INET, AF_INET6))) for node in lab)


@contextmanager
def most_held_by(lab: Lab) -> Iterator[list[int]]:
    """Gives a list that is filled while the block runs with what ``held_by`` says."""
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        seen.append(held_by(lab))
        while not done.is_set():
            seen.append(held_by(lab))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def shown(node: Namespace) -> list[str]:
    """What ``ip neighbour`` shows, without states that change with time."""
    return sorted(f"{each.address} {each.interface} {each.mac}" for each in node.neighbours())


def test_the_tables_are_the_same_from_every_namespace(netns: Namespace, lab: Lab) -> None:
    there = neighbour_tables(lab.host("red").rtnl)
    assert set(there) == {4, 6}
    for version, table in neighbour_tables(netns.rtnl).items():
        assert (table.version, table.limit) == (version, there[version].limit)
        assert table.limit >= 1024
        assert table.refusals >= 0


def test_an_entry_counts_in_the_table(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    assert held_by(lab) == 0
    assert red.ping(blue.ip4)
    assert red.ping(blue.ip6)
    assert held_by(lab) >= 4
    assert neighbour_tables(red.rtnl)[4].entries >= 2


@pytest.mark.parametrize("number", [25, 45])
def test_all_pings_get_through_within_a_quarter_of_the_table(lab: Lab, number: int) -> None:
    lan_of(lab, number)
    for _ in range(20):
        with most_held_by(lab) as seen:
            matrix = lab.ping_all(timeout=patient(20))
        assert matrix
        assert len(matrix) == number * (number - 1)
        assert list(matrix) == list(itertools.permutations([f"h{each}" for each in range(number)], 2))
        assert max(seen) <= neighbour_tables(lab["h0"].rtnl)[4].limit // 4
        if max(seen) > number:
            break
    else:
        pytest.fail("nobody has looked while they were asked")


@pytest.mark.parametrize("number", [3, 20])
@pytest.mark.netns_requires("program:ip")
def test_afterwards_the_neighbours_are_those_that_were_there_before(lab: Lab, number: int) -> None:
    first, second, *_ = hosts = lan_of(lab, number)
    assert first.ping(second)
    first.run(["ip", "neighbour", "add", "10.20.9.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0"])
    second.run(["ip", "neighbour", "add", "10.20.9.8", "lladdr", "02:00:00:00:00:08", "dev", "eth0", "extern_learn"])
    before = [shown(host) for host in hosts]
    assert any(before)
    assert lab.ping_all(timeout=patient(20))
    assert [shown(host) for host in hosts] == before


def test_only_the_pairs_of_a_dead_host_fail_and_leave_nothing(lab: Lab) -> None:
    hosts = lan_of(lab, 18)
    hosts[5].interfaces["eth0"].down()
    with most_held_by(lab) as seen:
        matrix = lab.ping_all(timeout=patient(0.3))
    assert {"h5" in (result.source, result.destination.split()[0]) for result in matrix.failed} == {True}
    assert len(matrix.failed) == 34
    assert max(seen) <= 256
    assert held_by(lab) == 0


@pytest.mark.netns_requires("tap")
def test_slow_replies_are_waited_for_and_do_not_hold_up_the_others(lab: Lab) -> None:
    hosts = lan_of(lab, 18)
    hosts[3].interfaces["eth0"].impair(delay="800ms")  # later than a busy machine makes the others
    with most_held_by(lab) as seen:
        matrix = lab.ping_all(timeout=patient(20))
    assert matrix
    slow = [pair for pair, result in matrix.items() if result.rtts[0] > 0.8]
    assert len(slow) == 34
    assert max(seen) <= 256
    assert held_by(lab) == 0


def test_hosts_behind_routers_are_asked_in_groups_too(lab: Lab) -> None:
    left, right = lab.bridge("left"), lab.bridge("right")
    lab.router("router", left, right)
    for number in range(12):
        lab.host(f"l{number}", left)
        lab.host(f"r{number}", right)
    lab.autoroute()
    with most_held_by(lab) as seen:
        matrix = lab.ping_all(timeout=patient(20))
    assert matrix
    assert len(matrix) == 25 * 24
    assert matrix["l3", "r7"].ttl == 63
    assert max(seen) <= 256
    # Of IPv6 the router knows hosts that have asked for routers (RFC 4861 6.2.6).
    assert not any(counted_entries(node.rtnl, [AF_INET]) for node in lab)


def test_ipv6_is_asked_in_groups_too(lab_factory: type[Lab]) -> None:
    with lab_factory("six", ipv4=None) as lab:
        bridge = lab.bridge("lan")
        for number in range(20):
            bridge.host(f"h{number}")
        with most_held_by(lab) as seen:
            matrix = lab.ping_all(timeout=patient(20))
        assert matrix
        assert {result.address.version for result in matrix.values()} == {6}
        assert max(seen) <= 256
        assert held_by(lab) == 0


@given(count=st.integers(2, 50), room=st.integers(2, 400))
def test_every_pair_is_in_a_group_and_no_group_needs_too_much(count: int, room: int) -> None:
    asked: set[frozenset[int]] = set()
    for first, others in groups(count, room):
        hub = {pair[1] for pair in first}
        assert len(hub) == 1
        assert {pair[0] for pair in first} | hub == {place for pair in (*first, *others) for place in pair}
        group = [frozenset(pair) for pair in (*first, *others)]
        assert len(set(group)) == len(group)
        assert 2 * len(group) <= max(room, 2)
        assert asked.isdisjoint(map(frozenset, others))
        asked.update(group)
    assert asked == set(map(frozenset, itertools.combinations(range(count), 2)))


def test_refusals_are_told_once_and_only_while_the_table_is_in_use(
    netns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {4: NeighbourTable(4, 900, 1024, 7), 6: NeighbourTable(6, 900, 1024, 0)}
    monkeypatch.setattr(neighbour_table, "neighbour_tables", lambda _: now)
    log = RefusalLog()
    log.begin(netns.rtnl)
    assert log.crowded(netns.rtnl) == {}
    now[4] = NeighbourTable(4, 1024, 1024, 9)
    log.begin(netns.rtnl)  # it has begun already
    told = log.crowded(netns.rtnl)
    assert list(told) == [4]
    assert told[4].startswith("the kernel's ARP table holds 1024 of at most 1024 entries")
    assert told[4].endswith("and 2 new neighbours had no room")
    assert log.crowded(netns.rtnl) == {}
    now[6] = NeighbourTable(6, 20, 1024, 5)  # others have filled it, and are gone
    assert log.crowded(netns.rtnl) == {}


def test_more_entries_than_the_limit_are_told_not_to_count() -> None:
    assert "do not count" in str(NeighbourTable(6, 1890, 1024, 0))
    assert "do not count" not in str(NeighbourTable(6, 1024, 1024, 0))


@pytest.mark.netns_requires("nft")
def test_an_explanation_tells_of_refusals_where_it_works_now(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    blue.nft("table inet t { chain c { type filter hook input priority 0; meta l4proto icmp drop; }; }")
    result = red.ping(blue, timeout=0.05)
    assert not result
    blue.nft("flush ruleset")
    (failure,) = lab.failed
    lab.failed[0] = replace(failure, crowded={4: "the kernel's ARP table was full"})
    found = why(result)
    assert found.cause == (
        "it works now: asked again, it was answered at once; when it was asked before, the kernel's ARP table was full"
    )
    assert found.node is None
    assert any("gc_thresh3" in cure for cure in found.cures)


@pytest.mark.skipif(
    not os.environ.get("NETNS_TEST_FILLS_THE_NEIGHBOUR_TABLE"),
    reason="it disturbs everything else on this machine; to run it, set NETNS_TEST_FILLS_THE_NEIGHBOUR_TABLE=1",
)
@pytest.mark.netns_requires("program:ip")
def test_a_full_table_is_named_and_known_neighbours_do_not_need_it() -> None:
    with Lab("full") as full, Lab("poor") as poor, Lab("rich", neighbours="known") as rich:
        pairs = []
        for each in (poor, rich):
            pairs.append((each.host("red"), each.host("blue")))
            each.connect(*pairs[-1])
        eater = full.host("eater")
        full.connect(eater, full.host("other"), "10.88.0.0/16")
        limit = neighbour_tables(eater.rtnl)[4].limit
        lines = (
            f"neighbour add 10.88.{9 + each // 250}.{each % 250} lladdr 02:00:00:00:00:09 dev eth0 nud stale\n"
            for each in range(limit + 200)
        )
        eater.run(["ip", "-force", "-batch", "-"], input="".join(lines), check=False)
        poor_ping = pairs[0][0].ping(pairs[0][1], timeout=0.1)
        found = why(poor_ping)
        rich_ping = pairs[1][0].ping(pairs[1][1], timeout=0.5)
        eater.close()
    assert not poor_ping
    assert found.cause is not None
    assert "no room" in found.cause  # it may have room again, as others end
    assert f"of at most {limit} entries" in found.cause
    assert rich_ping
