"""Routes with more than a next hop on a common subnet: several, nexthop objects, link-local ones, tables, metrics."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from pytest_netns import Host, KernelError, Lab, Router, TopologyError
from pytest_netns.kernel.netlink.tables import Route

versions = pytest.mark.parametrize("version", [4, 6])


class Diamond:
    """``red`` reaches ``blue`` over ``left`` and over ``right``."""

    def __init__(self, lab: Lab) -> None:
        self.left: Router = lab.router("left")
        self.right: Router = lab.router("right")
        self.red: Host = lab.host("red")
        self.by_left = lab.connect(self.red, self.left)
        self.by_right = lab.connect(self.red, self.right)
        self.lan = lab.bridge("lan")
        for router in (self.left, self.right):
            self.lan.attach(router)
        self.blue: Host = self.lan.host("blue")
        self.blue.add_route(self.by_left.a.addresses[0].network, via=self.left)
        self.blue.add_route(self.by_left.a.addresses[1].network, via=self.left)

    def target(self, version: int) -> str:
        return str(self.blue.ip4 if version == 4 else self.blue.ip6)

    def network(self, version: int) -> str:
        return str(next(each for each in self.lan.subnets if each.version == version))

    def routes(self, version: int, table: int | None = 254) -> list[Route]:
        return [route for route in self.red.routes(table=table) if str(route.destination) == self.network(version)]


@pytest.fixture
def diamond(lab: Lab) -> Diamond:
    return Diamond(lab)


def hops(routes: list[Route]) -> list[tuple[str | None, int]]:
    return [(route.interface, route.weight) for route in routes]


# ------------------------------------------------------------ several


@versions
def test_a_list_of_next_hops_is_one_route_over_all_of_them(diamond: Diamond, version: int) -> None:
    diamond.red.add_route(diamond.lan, via=[diamond.left, diamond.right])
    assert hops(diamond.routes(version)) == [("eth0", 1), ("eth1", 1)]


@versions
def test_a_mapping_gives_next_hops_their_weights(diamond: Diamond, version: int) -> None:
    diamond.red.add_route(diamond.network(version), via={diamond.left: 3, diamond.right: 1})
    assert hops(diamond.routes(version)) == [("eth0", 3), ("eth1", 1)]
    assert "weight 3" in str(diamond.routes(version)[0])


@versions
def test_a_route_over_several_next_hops_is_replaced_and_removed_as_a_whole(diamond: Diamond, version: int) -> None:
    network = diamond.network(version)
    diamond.red.add_route(network, via=[diamond.left, diamond.right])
    diamond.red.replace_route(network, via={diamond.right: 2, diamond.left: 1})
    assert sorted(hops(diamond.routes(version))) == [("eth0", 1), ("eth1", 2)]
    diamond.red.remove_route(network)
    assert diamond.routes(version) == []


@versions
def test_when_one_cable_goes_the_other_next_hop_serves_and_both_come_back(diamond: Diamond, version: int) -> None:
    diamond.red.add_route(diamond.lan, via={diamond.left: 3, diamond.right: 1})
    before = diamond.routes(version)
    with diamond.by_right.down():
        assert diamond.red.ping(diamond.target(version))
    assert sorted(diamond.routes(version), key=str) == sorted(before, key=str)


def test_next_hops_of_the_default_route_can_be_several(diamond: Diamond) -> None:
    diamond.red.default_route(via=[diamond.left, diamond.right])
    found = [route for route in diamond.red.routes() if route.destination.prefixlen == 0]
    assert hops(found) == [("eth0", 1), ("eth1", 1)] * 2


# ------------------------------------------------------------ link-local, and IPv4 via IPv6


def link_local(diamond: Diamond) -> str:
    return str(next(a.ip for a in diamond.by_left.b.addresses if a.is_link_local and a.version == 6))


@pytest.mark.parametrize("by", ["zone", "interface"])
def test_a_link_local_next_hop_is_used_by_the_interface_that_is_named(diamond: Diamond, by: str) -> None:
    gateway = link_local(diamond)
    if by == "zone":
        diamond.red.add_route(diamond.network(6), via=f"{gateway}%eth0")
    else:
        diamond.red.add_route(diamond.network(6), via=gateway, interface="eth0")
    [route] = diamond.routes(6)
    assert (str(route.gateway), route.interface) == (gateway, "eth0")
    assert diamond.red.ping(diamond.target(6))


def test_ipv4_goes_by_an_ipv6_next_hop(diamond: Diamond) -> None:
    gateway = link_local(diamond)
    diamond.red.add_route(diamond.network(4), via=f"inet6 {gateway}%eth0")
    [route] = diamond.routes(4)
    assert (str(route.gateway), route.interface) == (gateway, "eth0")
    assert f"via inet6 {gateway}" in str(route)
    assert diamond.red.ping(diamond.target(4))


def test_ipv4_goes_by_several_ipv6_next_hops(diamond: Diamond) -> None:
    diamond.red.add_route(diamond.network(4), via=[f"inet6 {diamond.left.ip6}", f"inet6 {diamond.right.ip6}"])
    assert [route.gateway for route in diamond.routes(4)] == [diamond.left.ip6, diamond.right.ip6]
    with diamond.by_right.down():
        assert diamond.red.ping(diamond.target(4))
    assert {route.gateway for route in diamond.routes(4)} == {diamond.left.ip6, diamond.right.ip6}


def test_why_follows_ipv4_over_an_ipv6_next_hop(diamond: Diamond) -> None:
    from pytest_netns import why

    diamond.red.add_route(diamond.network(4), via=f"inet6 {link_local(diamond)}%eth0")
    diamond.left.add_route(diamond.target(4), kind="prohibit")
    result = diamond.red.ping(diamond.target(4), timeout=0.3)
    assert not result
    assert why(result).node == "left"


@versions
def test_an_onlink_next_hop_need_not_be_on_a_subnet(diamond: Diamond, version: int) -> None:
    gateway = "192.0.2.77" if version == 4 else "2001:db8::77"
    diamond.left.add_address(f"{gateway}/{32 if version == 4 else 128}", interface="eth0")
    diamond.red.add_route(diamond.network(version), via=gateway, interface="eth0", onlink=True)
    [route] = diamond.routes(version)
    assert route.onlink
    assert diamond.red.ping(diamond.target(version))


# ------------------------------------------------------------ tables, sources, metrics


@versions
@pytest.mark.parametrize("table", [100, 100_000])
def test_a_route_of_another_table_is_added_and_removed_there(diamond: Diamond, version: int, table: int) -> None:
    network = diamond.network(version)
    diamond.red.add_route(network, via=diamond.left, table=table)
    assert diamond.routes(version) == []
    assert [route.table for route in diamond.routes(version, table)] == [table]
    diamond.red.remove_route(network, table=table)
    assert diamond.routes(version, table) == []


@versions
def test_a_source_is_what_the_hosts_own_packets_come_from(diamond: Diamond, version: int) -> None:
    extra = "10.99.0.1" if version == 4 else "fd99::1"
    diamond.red.add_address(f"{extra}/{32 if version == 4 else 128}", interface="lo")
    diamond.blue.add_route(extra, via=diamond.left)
    diamond.left.add_route(extra, via=diamond.red)
    diamond.red.add_route(diamond.lan, via=diamond.left, source=extra)
    [route] = diamond.routes(version)
    assert route.source == ip_address(extra)
    assert diamond.routes(10 - version) == []
    with diamond.blue.capture() as capture:
        assert diamond.red.ping(diamond.target(version))
        capture.expect(IP(src=extra) if version == 4 else IPv6(src=extra))


@versions
def test_mtu_and_advmss_of_a_route_are_locked_where_they_should_be(diamond: Diamond, version: int) -> None:
    network = diamond.network(version)
    diamond.red.add_route(network, via=diamond.left, mtu=1300, advmss=1000, locked=["mtu"])
    [route] = diamond.routes(version)
    assert (route.mtu, route.advmss, route.locked) == (1300, 1000, ("mtu",))
    assert "mtu lock 1300 advmss 1000" in str(route)


def test_a_throwing_route_leaves_the_decision_to_the_next_table(diamond: Diamond) -> None:
    diamond.red.add_route(diamond.lan, kind="throw", table=100)
    assert [route.kind for route in diamond.routes(4, 100)] == ["throw"]


@versions
def test_a_route_that_is_on_the_link_can_be_removed(diamond: Diamond, version: int) -> None:
    diamond.red.add_route(diamond.network(version), interface="eth0")
    diamond.red.remove_route(diamond.network(version))
    assert diamond.routes(version) == []


# ------------------------------------------------------------ nexthop objects


@versions
def test_routes_share_a_nexthop_object(diamond: Diamond, version: int) -> None:
    gateway = diamond.left.ip4 if version == 4 else diamond.left.ip6
    nexthop = diamond.red.nexthops.add(gateway, id=7)
    assert (nexthop.id, nexthop.gateway, nexthop.interface) == (7, gateway, "eth0")
    diamond.red.add_route(diamond.network(version), via=nexthop)
    [route] = diamond.routes(version)
    assert (route.nexthop, route.gateway, route.interface) == (7, gateway, "eth0")
    assert diamond.red.ping(diamond.target(version))
    diamond.red.nexthops.remove(7)
    assert diamond.routes(version) == []
    assert list(diamond.red.nexthops) == []


def test_ipv4_uses_a_nexthop_object_of_ipv6(diamond: Diamond) -> None:
    diamond.red.add_route(diamond.lan, via=diamond.red.nexthops.add(f"{link_local(diamond)}%eth0"))
    assert diamond.red.ping(diamond.target(4))
    assert diamond.red.ping(diamond.target(6))


def test_a_blackhole_is_one_for_both_families(diamond: Diamond) -> None:
    diamond.red.add_route(diamond.lan, via=diamond.red.nexthops.add(blackhole=True))
    for version in (4, 6):
        assert diamond.routes(version)[0].kind == "blackhole"
        assert not diamond.red.ping(diamond.target(version), timeout=0.1)


def test_a_nexthop_without_gateway_is_for_what_is_on_the_link(diamond: Diamond) -> None:
    far = "192.0.2.9"
    diamond.left.add_address(f"{far}/32", interface="eth0")
    diamond.red.add_route(far, via=diamond.red.nexthops.add(interface="eth0"))
    assert diamond.red.ping(far)


@versions
def test_a_group_shares_out_by_weight_and_is_whole_again_when_a_cable_returns(diamond: Diamond, version: int) -> None:
    first, second = (
        diamond.red.nexthops.add(each.ip4 if version == 4 else each.ip6) for each in (diamond.left, diamond.right)
    )
    group = diamond.red.nexthops.add_group({first: 3, second: 1})
    assert group.group == ((first.id, 3), (second.id, 1))
    diamond.red.add_route(diamond.network(version), via=group)
    before = diamond.routes(version)
    assert hops(before) == [("eth0", 3), ("eth1", 1)]
    with diamond.by_right.down(), diamond.by_left.down():
        assert list(diamond.red.nexthops) == []
    assert list(diamond.red.nexthops) == [first, second, group]
    assert diamond.routes(version) == before


def test_a_nexthop_that_is_removed_while_its_cable_is_down_stays_away(diamond: Diamond) -> None:
    nexthop = diamond.red.nexthops.add(diamond.left)
    with diamond.by_left.down():
        diamond.red.nexthops.remove(nexthop)
        with pytest.raises(KernelError, match="delete id 1"):
            diamond.red.nexthops.remove(nexthop)
        again = diamond.red.nexthops.add(blackhole=True, id=nexthop.id)
    assert list(diamond.red.nexthops) == [again]


@versions
def test_a_nexthop_that_is_added_in_an_outage_leaves_the_dropped_ones_their_numbers(
    diamond: Diamond, version: int
) -> None:
    first = diamond.red.nexthops.add(diamond.left.ip4 if version == 4 else diamond.left.ip6)
    diamond.red.add_route(diamond.network(version), via=first)
    before = diamond.routes(version)
    with diamond.by_left.down():
        second = diamond.red.nexthops.add(diamond.right)
        with pytest.raises(TopologyError, match="id 1 is that of a nexthop object that comes back when"):
            diamond.red.nexthops.add(diamond.right, id=first.id)
    assert list(diamond.red.nexthops) == [first, second]
    assert diamond.routes(version) == before


def test_with_a_nexthop_that_is_removed_in_an_outage_go_its_routes_and_its_place_in_a_group(diamond: Diamond) -> None:
    first, second = (diamond.red.nexthops.add(each.ip4) for each in (diamond.left, diamond.right))
    group = diamond.red.nexthops.add_group([first, second])
    alone = diamond.red.nexthops.add_group([first])
    for destination, via in (("10.77.0.0/16", first), ("10.78.0.0/16", alone), (diamond.network(4), group)):
        diamond.red.add_route(destination, via=via)
    with diamond.by_left.down():
        diamond.red.nexthops.remove(first)
    assert [str(each) for each in diamond.red.nexthops] == [str(second), f"id {group.id} group {second.id}"]
    assert diamond.red.nexthops.add(diamond.left).id == group.id + 1
    assert [str(route.destination) for route in diamond.red.routes() if route.nexthop] == [diamond.network(4)]


@versions
def test_nexthops_and_their_routes_survive_a_crash(diamond: Diamond, version: int) -> None:
    diamond.red.add_route(diamond.lan, via=diamond.red.nexthops.add(f"{link_local(diamond)}%eth0"))
    before = diamond.routes(version)
    diamond.red.crash()
    diamond.red.restart()
    assert diamond.routes(version) == before
    assert diamond.red.ping(diamond.target(version))


def test_a_nexthop_that_is_not_there_is_named_with_those_that_are(diamond: Diamond) -> None:
    diamond.red.nexthops.add(diamond.left, id=7)
    with pytest.raises(KeyError, match="'red' has no nexthop with id 8; there are: 7"):
        diamond.red.nexthops[8]
    with pytest.raises(KernelError, match="ip nexthop delete id 8") as refused:
        diamond.red.nexthops.remove(8)
    assert refused.value.errno == errno.ENOENT
    with pytest.raises(KernelError, match="ip nexthop add id 9 group 8") as refused:
        diamond.red.nexthops.add_group([8], id=9)
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(KernelError, match="ip nexthop add id 7 via") as refused:
        diamond.red.nexthops.add(diamond.left, id=7)
    assert refused.value.errno == errno.EEXIST


# ------------------------------------------------------------ mistakes

MISTAKES: list[tuple[str, Callable[[Diamond], object]]] = [
    (r"via has no next hop", lambda d: d.red.add_route(d.lan, via=[])),
    (r"the weight of left is 0; it can be 1 to 256", lambda d: d.red.add_route(d.lan, via={d.left: 0})),
    (r"the weight of left is 257", lambda d: d.red.add_route(d.lan, via={d.left: 257})),
    (r"is link-local: name its interface, as 'fe80::1%eth0'", lambda d: d.red.add_route("fd77::/64", via="fe80::1")),
    (r"no interface 'eth9'", lambda d: d.red.add_route("fd77::/64", via="fe80::1%eth9")),
    (r"by another interface than 'eth1'", lambda d: d.red.add_route("fd77::/64", via="fe80::1%eth0", interface="eth1")),
    (r"10.0.0.1 is not an IPv6 address", lambda d: d.red.add_route(d.lan, via="inet6 10.0.0.1")),
    (r"is written 'inet6 ADDRESS'", lambda d: d.red.add_route("10.77.0.0/16", via=d.left.ip6)),
    (r"onlink=True needs interface=", lambda d: d.red.add_route("10.77.0.0/16", via="192.0.2.1", onlink=True)),
    (r"table is 0; it can be", lambda d: d.red.add_route(d.lan, via=d.left, table=0)),
    (r"mtu is -1; it can be", lambda d: d.red.add_route(d.lan, via=d.left, mtu=-1)),
    (r"advmss is 99999; it can be", lambda d: d.red.add_route(d.lan, via=d.left, advmss=99999)),
    (r"locked metric 'rtt' is not one of mtu, advmss", lambda d: d.red.add_route(d.lan, via=d.left, locked=["rtt"])),
    (r"mtu is locked, and no mtu is given", lambda d: d.red.add_route(d.lan, via=d.left, locked="mtu")),
    (r"is of the other family", lambda d: d.red.add_route("10.77.0.0/16", via=d.left, source="fd00::1")),
    (r"is written 'inet6 fd00", lambda d: d.red.add_route("10.77.0.0/16", via=[d.left.ip4, d.right.ip6])),
    (r"is a next hop for IPv4 only$", lambda d: d.red.add_route("fd77::/64", via=[d.left.ip6, d.right.ip4])),
    (r"own interface, so", lambda d: d.red.add_route(d.lan, via=d.red.nexthops.add(d.left), interface="eth1")),
    (r"own onlink, so give onlink=", lambda d: d.red.add_route(d.lan, via=d.red.nexthops.add(d.left), onlink=True)),
    (r"members is 7; expected a list", lambda d: d.red.nexthops.add_group(7)),  # type: ignore[arg-type]
    (r"id is \[1\]; it can be", lambda d: d.red.nexthops.add_group([[1]])),  # type: ignore[list-item]
    (r"as next hop by 'eth1'", lambda d: d.red.add_route(d.lan, via=d.left, interface="eth1")),
    (r"it needs via=, interface= or blackhole=True", lambda d: d.red.nexthops.add()),
    (r"a blackhole takes neither", lambda d: d.red.nexthops.add(d.left, blackhole=True)),
    (r"id is 0; it can be", lambda d: d.red.nexthops.add(d.left, id=0)),
    (r"it has no members", lambda d: d.red.nexthops.add_group([])),
    (r"the weight of 1 is 0", lambda d: d.red.nexthops.add_group({1: 0})),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_about_next_hops_is_told_and_changes_nothing(
    diamond: Diamond, words: str, mistake: Callable[[Diamond], object]
) -> None:
    before = [str(route) for route in diamond.red.routes(table=None)]
    with pytest.raises(TopologyError, match=words):
        mistake(diamond)
    assert [str(route) for route in diamond.red.routes(table=None)] == before


def test_locked_metrics_that_are_not_several_are_refused(diamond: Diamond) -> None:
    with pytest.raises(TypeError, match="route of 'red': locked is 5; expected several metrics"):
        diamond.red.add_route(diamond.lan, via=diamond.left, mtu=1400, locked=5)  # type: ignore[arg-type]


def test_a_node_in_a_list_of_next_hops_serves_the_families_that_it_has(diamond: Diamond) -> None:
    diamond.red.add_route(diamond.lan, via=[diamond.left, diamond.right.ip4])
    assert (hops(diamond.routes(4)), hops(diamond.routes(6))) == ([("eth0", 1), ("eth1", 1)], [("eth0", 1)])
