from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns import TopologyError
from pytest_netns.topology.addressing import AddressPlan, Segment, Subnet

networks4 = st.builds(
    lambda value, prefix: IPv4Network((value >> (32 - prefix) << (32 - prefix), prefix)),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
)


def plan(ipv4: str | None = "10.0.0.0/8", ipv6: str | None = "fd00::/48") -> AddressPlan:
    return AddressPlan("lab", ipv4, ipv6)


# -------------------------------------------------------------------- subnet


def test_addresses_come_in_order_from_one_on() -> None:
    subnet = Subnet(ip_network("192.168.15.0/24"))
    assert [str(subnet.take_next("x")) for _ in range(3)] == ["192.168.15.1/24", "192.168.15.2/24", "192.168.15.3/24"]


@pytest.mark.parametrize(
    ("network", "addresses"),
    [
        ("10.0.0.0/32", ["10.0.0.0"]),
        ("10.0.0.0/31", ["10.0.0.0", "10.0.0.1"]),
        ("10.0.0.0/30", ["10.0.0.1", "10.0.0.2"]),
        ("10.0.0.8/29", [f"10.0.0.{i}" for i in range(9, 15)]),
        ("fd00::/127", ["fd00::", "fd00::1"]),
        ("fd00::/126", ["fd00::1", "fd00::2", "fd00::3"]),
    ],
)
def test_a_subnet_gives_every_address_that_a_host_can_have_and_then_says_so(network: str, addresses: list[str]) -> None:
    subnet = Subnet(ip_network(network))
    assert subnet.capacity == len(addresses)
    assert [str(subnet.take_next("x").ip) for _ in addresses] == addresses
    with pytest.raises(TopologyError, match=rf"{network} has no free address for 'late': all {len(addresses)} are"):
        subnet.take_next("late")


@given(networks4, st.lists(st.one_of(st.none(), st.integers(0, 300)), max_size=60))
def test_no_address_is_handed_out_twice(network: IPv4Network, wishes: list[int | None]) -> None:
    subnet = Subnet(network)
    got = []
    for wish in wishes:
        try:
            if wish is None:
                got.append(subnet.take_next("x"))
            else:
                got.append(subnet.take(network.network_address + wish, "x"))
        except TopologyError:
            continue
        except ValueError:  # beyond 255.255.255.255
            continue
    assert len(set(got)) == len(got)
    assert all(address.network == network for address in got)
    if network.num_addresses > 2:
        assert not {network.network_address, network.broadcast_address} & {address.ip for address in got}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_the_next_address_is_always_the_lowest_free_one(steps: list[tuple[bool, int]]) -> None:
    subnet = Subnet(ip_network("10.0.0.0/29"))
    taken: set[int] = set()
    for take, number in steps:
        if take and len(taken) < 6:
            free = min(set(range(1, 7)) - taken)
            assert int(subnet.take_next("x").ip) & 7 == free
            taken.add(free)
        elif not take:
            subnet.release(ip_address(f"10.0.0.{number + 1}"))
            taken.discard(number + 1)


def test_a_taken_address_says_who_has_it() -> None:
    subnet = Subnet(ip_network("10.0.0.0/24"))
    subnet.take(ip_address("10.0.0.9"), "red")
    with pytest.raises(TopologyError, match=r"10.0.0.9 for 'blue' is taken by 'red'"):
        subnet.take(ip_address("10.0.0.9"), "blue")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.0.1.1", "not in subnet 10.0.0.0/24"),
        ("10.0.0.0", "the network address"),
        ("10.0.0.255", "the broadcast address"),
        ("fd00::1", "not in subnet 10.0.0.0/24"),
    ],
)
def test_addresses_that_no_host_can_have_are_refused(address: str, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        Subnet(ip_network("10.0.0.0/24")).take(ip_address(address), "red")


# ------------------------------------------------------------------- segment


def test_a_segment_gives_one_address_of_each_subnet_and_takes_a_wish_for_one() -> None:
    segment = Segment([Subnet(ip_network("10.0.0.0/24")), Subnet(ip_network("fd00::/64"))])
    assert list(map(str, segment.take("red"))) == ["10.0.0.1/24", "fd00::1/64"]
    assert list(map(str, segment.take("blue", "10.0.0.77"))) == ["10.0.0.77/24", "fd00::2/64"]
    assert list(map(str, segment.take("green", ip_interface("fd00::77/64")))) == ["10.0.0.2/24", "fd00::77/64"]


def test_a_segment_takes_all_or_nothing() -> None:
    segment = Segment([Subnet(ip_network("10.0.0.0/24")), Subnet(ip_network("fd00::/64"))])
    segment.take("red", "fd00::5")
    with pytest.raises(TopologyError, match="taken by 'red'"):
        segment.take("blue", "fd00::5")
    assert str(segment.take("green")[0]) == "10.0.0.2/24"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("10.0.0.5/16", "another prefix length than its subnet 10.0.0.0/24"),
        ("10.9.0.5", r"not in its subnet \(10.0.0.0/24\)"),
        ("fd00::5", r"not in its subnet \(10.0.0.0/24\)"),
        ("nonsense", "'nonsense' for 'red' is not an IP address"),
        ("10.0.0.5/99", "is not an IP address"),
        ("", "is not an IP address"),
        (b"10.0.0.5", "is not an IP address"),
        (object(), "is not an IP address"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(wish: str, words: str) -> None:
    segment = Segment([Subnet(ip_network("10.0.0.0/24"))])
    with pytest.raises(TopologyError, match=words):
        segment.take("red", wish)
    assert str(segment.take("red")[0]) == "10.0.0.1/24"


# ---------------------------------------------------------------------- plan


def test_pools_give_a_24_and_a_64_in_order() -> None:
    pools = plan()
    assert [str(n) for n in pools.segment(None, "a", hosts=2).networks] == ["10.0.0.0/24", "fd00::/64"]
    assert [str(n) for n in pools.segment(None, "b", hosts=2).networks] == ["10.0.1.0/24", "fd00:0:0:1::/64"]


def test_a_pool_passes_over_what_was_given_by_hand() -> None:
    pools = plan()
    pools.segment("10.0.0.128/25", "by hand", hosts=2)
    pools.segment("10.0.2.0/23", "by hand", hosts=2)
    got = [str(pools.segment(None, "x", hosts=2).networks[0]) for _ in range(3)]
    assert got == ["10.0.1.0/24", "10.0.4.0/24", "10.0.5.0/24"]


@pytest.mark.parametrize(
    ("spec", "networks"),
    [
        (None, ["10.0.0.0/24", "fd00::/64"]),
        (False, []),
        ("192.168.15.0/24", ["192.168.15.0/24", "fd00::/64"]),
        (ip_network("192.168.15.0/24"), ["192.168.15.0/24", "fd00::/64"]),
        ("2001:db8::/64", ["2001:db8::/64"]),
        (("192.168.15.0/24", "2001:db8::/64"), ["192.168.15.0/24", "2001:db8::/64"]),
        (["2001:db8::/64", "192.168.15.0/24"], ["192.168.15.0/24", "2001:db8::/64"]),
    ],
)
def test_every_way_to_say_which_subnets(spec: str, networks: list[str]) -> None:
    assert [str(network) for network in plan().segment(spec, "x", hosts=2).networks] == networks


def test_a_lab_can_do_without_a_family() -> None:
    assert [str(n) for n in plan(ipv6=None).segment(None, "x", hosts=2).networks] == ["10.0.0.0/24"]
    assert [str(n) for n in plan(ipv4=None).segment(None, "x", hosts=2).networks] == ["fd00::/64"]
    assert plan(ipv4=None, ipv6=None).segment(None, "x", hosts=2).networks == []


@given(st.lists(st.one_of(st.none(), networks4, st.integers(0, 30)), max_size=40))
def test_subnets_of_a_plan_never_overlap(steps: list[IPv4Network | int | None]) -> None:
    pools = plan(ipv4="10.0.0.0/20")
    live: list[list[IPv4Network | IPv6Network]] = []
    for step in steps:
        if isinstance(step, int):
            if live:
                pools.free(live.pop(step % len(live)))
            continue
        try:
            live.append(pools.segment(step, "x", hosts=1).networks)
        except TopologyError:
            continue
    flat = [network for networks in live for network in networks]
    for i, a in enumerate(flat):
        for b in flat[i + 1 :]:
            assert a.version != b.version or not a.overlaps(b)


@given(st.lists(networks4, max_size=30))
def test_a_subnet_is_refused_exactly_if_it_overlaps_another(wanted: list[IPv4Network]) -> None:
    pools = plan(ipv4=None, ipv6=None)
    live: list[IPv4Network] = []
    for network in wanted:
        overlaps = any(network.overlaps(other) for other in live)
        try:
            pools.reserve(network, "x")
        except TopologyError:
            assert overlaps
        else:
            assert not overlaps
            live.append(network)


@pytest.mark.parametrize("given_", ["10.7.0.0/24", "10.7.0.0/16", "10.7.0.128/25", "10.0.0.0/8"])
def test_an_overlap_names_both_subnets_and_both_purposes(given_: str) -> None:
    pools = plan()
    pools.segment("10.7.0.0/24", "bridge 'first'", hosts=2)
    with pytest.raises(TopologyError, match=rf"subnet {given_} for link a--b overlaps 10.7.0.0/24 of bridge 'first'"):
        pools.segment(given_, "link a--b", hosts=2)


def test_an_exhausted_pool_says_so_and_gives_again_what_was_freed() -> None:
    pools = plan(ipv4="10.0.0.0/23", ipv6=None)
    first, second = (pools.segment(None, name, hosts=2) for name in "ab")
    with pytest.raises(TopologyError, match=r"IPv4 pool 10.0.0.0/23 is exhausted at c \(2 subnets in use\)"):
        pools.segment(None, "c", hosts=2)
    pools.free(second.networks)
    assert pools.segment(None, "c", hosts=2).networks == second.networks
    pools.free(first.networks)
    assert pools.segment(None, "d", hosts=2).networks == first.networks


def test_what_was_refused_took_nothing() -> None:
    pools = plan(ipv6="fd00::/64")
    pools.segment(None, "a", hosts=2)
    with pytest.raises(TopologyError, match="IPv6 pool fd00::/64 is exhausted"):
        pools.segment(None, "b", hosts=2)
    with pytest.raises(TopologyError, match="overlaps"):
        pools.segment(("172.16.0.0/24", "fd00::/64"), "c", hosts=2)
    assert str(pools.segment(("172.16.0.0/24", "fd01::/64"), "d", hosts=2).networks[0]) == "172.16.0.0/24"


def test_a_small_pool_is_one_subnet() -> None:
    assert [str(n) for n in plan("10.0.0.0/30", None).segment(None, "x", hosts=2).networks] == ["10.0.0.0/30"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("10.0.0.0/32", "too small: it has room for 1 and 2 are needed"),
        ("10.0.0.1/24", "has host bits set"),
        ("nonsense", "is not a subnet such as"),
        ("", "is not a subnet such as"),
        ("10.0.0.0/33", "is not a subnet such as"),
        (5, "it is a int"),
        (True, "it is a bool"),
        (b"10.0.0.0/24", "is not a subnet"),
        (("10.0.0.0/24", "10.1.0.0/24"), "at most one subnet of each family"),
        (("10.0.0.0/24", None), "it is a NoneType"),
    ],
)
def test_what_is_no_usable_subnet_is_refused_by_name(spec: str, words: str) -> None:
    with pytest.raises(TopologyError, match=f"link a--b.*{words}"):
        plan().segment(spec, "link a--b", hosts=2)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "words"),
    [
        ("fd00::/48", None, "pool ipv4: fd00::/48 is of the other family"),
        (None, "10.0.0.0/8", "pool ipv6: 10.0.0.0/8 is of the other family"),
        ("10.0.0.1/8", None, "pool ipv4: '10.0.0.1/8' is not a subnet"),
        ("everything", None, "pool ipv4: 'everything' is not a subnet"),
    ],
)
def test_what_is_no_pool_is_refused(ipv4: str | None, ipv6: str | None, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        plan(ipv4, ipv6)
