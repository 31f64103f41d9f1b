from __future__ import annotations

import re

import pytest
from explaining import why_no_ping

from pytest_netns import Bridge, Lab, TopologyError

SHORT = 0.05


@pytest.mark.netns_requires("nft")
def test_the_sides_do_not_hear_each_other_and_each_goes_on(bridge: Bridge) -> None:
    a, b, c, d = (bridge.host(name) for name in "abcd")
    with bridge.lab.partition([a, b], [c, d]) as partition:
        for one, other in ((a, c), (d, b), (c, a)):
            assert not one.ping(other.ip4, timeout=SHORT)
            assert not one.ping(other.ip6, timeout=SHORT)
            assert not one.arp(other.ip4, timeout=SHORT)
        assert a.ping(b)
        assert c.ping(d)
        assert partition.packets > 0
    assert a.ping(c.ip4)
    assert c.ping(a.ip6)
    assert not list(bridge.lab.faults)


@pytest.mark.netns_requires("nft")
def test_nodes_in_no_group_hear_everybody(bridge: Bridge) -> None:
    a, b, c = (bridge.host(name) for name in "abc")
    with bridge.lab.partition(a, b):
        assert c.ping(a)
        assert c.ping(b)
        assert not a.ping(b, timeout=SHORT)


@pytest.mark.netns_requires("nft")
def test_three_groups(bridge: Bridge) -> None:
    a, b, c = (bridge.host(name) for name in "abc")
    with bridge.lab.partition(a, b, c):
        assert not a.ping(b, timeout=SHORT)
        assert not b.ping(c, timeout=SHORT)
        assert not c.ping(a, timeout=SHORT)


@pytest.mark.netns_requires("libpcap", "nft")
def test_one_way_drops_only_what_the_first_sends(bridge: Bridge) -> None:
    a, b = bridge.host("a"), bridge.host("b")
    assert a.ping(b)  # the neighbours are known: a would not even be answered when it asks for b
    with b.capture(filter="icmp") as at_b, a.capture(filter="icmp") as at_a, bridge.lab.partition(a, b, one_way=True):
        assert not b.ping(a, timeout=SHORT)
    # b's request came to a, which answered; the answer came to b, whose partition dropped it after the capture
    assert [p["ICMP"].type for p in at_a.packets] == [8, 0]
    assert [p["ICMP"].type for p in at_b.packets] == [8, 0]


@pytest.mark.netns_requires("nft")
def test_it_holds_between_nodes_that_a_router_joins(lab: Lab) -> None:
    left, right = lab.bridge("left"), lab.bridge("right")
    a, c = left.host("a"), right.host("c")
    router = lab.router("r", left, right)
    lab.autoroute()
    with lab.partition(a, c):
        assert not a.ping(c, timeout=SHORT)
        assert a.ping(router)
        why = why_no_ping(a, c)
        assert why.node == "c"
        assert "partition a | c" in str(why.cause)
    assert a.ping(c)


@pytest.mark.netns_requires("nft")
def test_a_link_to_a_router_of_the_other_group_carries_nothing(lab: Lab) -> None:
    a, r, c = lab.host("a"), lab.router("r"), lab.host("c")
    lab.connect(a, r)
    lab.connect(r, c)
    lab.autoroute()
    with lab.partition([a], [r]):
        assert not a.ping(c, timeout=SHORT)  # of neither group, but the way is through r
        assert not c.ping(a, timeout=SHORT)
        assert c.ping(r)
    assert a.ping(c)


@pytest.mark.netns_requires("nft")
def test_bridges_are_cut_too(lab: Lab) -> None:
    one = lab.bridge("one", "10.9.0.0/24")
    two = lab.bridge("two", one)
    lab.connect(one, two)
    a, b = one.host("a"), two.host("b")
    assert a.ping(b)
    with lab.partition(one, two):
        assert not a.ping(b, timeout=SHORT)
    assert a.ping(b)


@pytest.mark.netns_requires("nft")
def test_bridges_between_which_nothing_could_be_dropped_are_refused(lab: Lab) -> None:
    lan, wan = lab.bridge("lan"), lab.bridge("wan")
    a, c = lan.host("a"), wan.host("c")
    lab.router("r", lan, wan)
    lab.autoroute()
    for groups in ((lan, wan), ([lan], [a, c], [wan])):
        with pytest.raises(TopologyError, match=r"partition of 'lan' from 'wan' would drop nothing.*name the hosts"):
            lab.partition(*groups)
    assert not list(lab.faults)
    with lab.partition(lan, c):  # what comes from c is known by its address
        assert not a.ping(c, timeout=SHORT)
    lan.add_address("10.0.0.77")
    with lab.partition(lan, wan):
        assert a.ping(c)


@pytest.mark.netns_requires("nft")
def test_what_was_dropped_can_be_read_afterwards(bridge: Bridge) -> None:
    a, b = bridge.host("a"), bridge.host("b")
    assert a.ping(b)  # the neighbours are known
    with bridge.lab.partition(a, b) as partition:
        assert not a.ping(b, timeout=SHORT)
    with b.block() as block:
        assert not a.ping(b, timeout=SHORT)
    assert partition.packets > 0
    assert block.packets > 0


@pytest.mark.netns_requires("tun")
@pytest.mark.netns_requires("nft")
def test_a_device_that_went_with_a_crash_is_none_of_its_chains(bridge: Bridge) -> None:
    """Before Linux 6.16 the kernel refuses a chain for it, and the restart fails."""
    a, b, c = (bridge.host(name) for name in "abc")
    b.add_tap("tap0", address="10.77.0.1/24")
    with bridge.lab.partition(a, b):
        b.restart()
        assert set(re.findall(r'device "(.*?)"', b.nft_with_handles())) == {"eth0"}
        assert not a.ping(b, timeout=SHORT)
        assert c.ping(b)
    assert b.ping(a)


@pytest.mark.netns_requires("nft")
def test_partitions_add_up_and_heal_ends_all(bridge: Bridge) -> None:
    a, b, c = (bridge.host(name) for name in "abc")
    bridge.lab.partition(a, b)
    second = bridge.lab.partition(a, c)
    second.undo()
    assert a.ping(c)
    assert not a.ping(b, timeout=SHORT)
    second.undo()  # once more is nothing
    bridge.lab.partition(a, c)
    bridge.lab.heal()
    assert a.ping(b)
    assert a.ping(c)


@pytest.mark.netns_requires("nft")
def test_a_flushed_ruleset_is_no_error_at_the_end(bridge: Bridge) -> None:
    a, b = bridge.host("a"), bridge.host("b")
    with bridge.lab.partition(a, b):
        b.nft("flush ruleset")
    assert a.ping(b)


def test_bad_groups_are_named(lab: Lab) -> None:
    a, b = lab.host("a"), lab.host("b")
    shares = lab.host("shares", shares=a)
    for groups, words in (
        ((), "two groups of nodes or more, and got 0"),
        (([a],), "got 1"),
        (([a], []), "is empty"),
        (([a], [b, a]), "'a' is in two groups"),
        (([a], [shares]), "'shares' shares its namespace with 'a'"),
        (([a], ["b"]), "it is no host"),
        ((a, None), "a group of a partition is None; expected a node, or several"),
    ):
        with pytest.raises(TopologyError, match=words):
            lab.partition(*groups)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="one-way partition has two"):
        lab.partition(a, b, lab.host("c"), one_way=True)
    assert not list(lab.faults)
