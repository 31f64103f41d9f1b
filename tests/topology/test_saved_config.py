"""What the kernel forgets when a link goes down, its mtu becomes small, or a host crashes: it all comes back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from pytest_netns import Fault, Host, Lab, Router

BREAK: dict[str, Callable[[Router], Fault]] = {
    "down": lambda router: router.links[0].down(),
    "small": lambda router: router.links[0].set_mtu(1000),
    "crash": lambda router: router.crash(),
}


@pytest.fixture
def way(lab: Lab) -> tuple[Host, Router, Host]:
    near, router, far = lab.host("near"), lab.router("router"), lab.host("far")
    lab.connect(near, router)
    lab.connect(router, far)
    lab.autoroute()
    far.add_route("192.0.2.0/24", via=router)
    router.add_route("2001:db8::/32", via=near)
    return near, router, far


def configured(*nodes: Host) -> list[set[str]]:
    """What they have: addresses, and routes that were set."""
    return [
        {str(address) for address in node.addresses() if not address.is_link_local}
        | {str(route) for route in node.routes() if route.protocol != "kernel"}
        for node in nodes
    ]


@pytest.mark.parametrize("order", list(permutations(BREAK)), ids="-".join)
def test_all_comes_back_in_whatever_order(way: tuple[Host, Router, Host], order: tuple[str, ...]) -> None:
    near, router, far = way
    before = configured(*way)
    for back in permutations(order):
        faults = {name: BREAK[name](router) for name in order}
        for name in back:
            faults[name].undo()
        assert configured(*way) == before, back
        assert near.ping(far.ip4)
        assert near.ping(far.ip6)


@pytest.mark.netns_requires("nft")
def test_a_restart_under_a_small_mtu_brings_all_but_ipv6(way: tuple[Host, Router, Host]) -> None:
    near, router, far = way
    before = configured(*way)
    router.masquerade(router.links[1].end(router))
    router.crash()
    with near.links[0].set_mtu(1000):
        router.restart()
        assert near.ping(far.ip4)
        assert "masquerade" in str(router.nft_ruleset())
        assert [address.version for address in router.links[0].end(router).addresses] == [4]
        assert far.ping(router.links[1].end(router).ip6)
    assert configured(*way) == before
    assert far.ping(near.ip6)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.netns_requires("program:ip")
def test_a_route_over_several_links_comes_back_with_the_last(lab: Lab, version: int, first: int) -> None:
    host, one, other = lab.host("host"), lab.router("one"), lab.router("other")
    links = [lab.connect(host, one), lab.connect(host, other)]
    hops = [link.end(router) for link, router in zip(links, (one, other), strict=True)]
    network = "192.0.2.0/24" if version == 4 else "2001:db8::/32"
    words = [word for hop in hops for word in ("nexthop", "via", str(hop.ip4 if version == 4 else hop.ip6))]
    host.run(["ip", "route", "add", network, *words])

    def gateways() -> int:
        return host.run(["ip", f"-{version}", "route", "show", network]).stdout.count("nexthop via")

    assert gateways() == 2
    for link in links:
        link.down()
    links[first].up()
    links[1 - first].up()
    assert gateways() == 2


@pytest.mark.netns_requires("program:ip")
def test_a_route_of_two_hops_over_one_link_comes_back(lab: Lab) -> None:
    host, router = lab.host("host"), lab.router("router")
    link = lab.connect(host, router)
    link.b.add_address("10.66.0.2/24")
    link.a.add_address("10.66.0.1/24")
    hops = ["nexthop", "via", str(router.ip4), "nexthop", "via", "10.66.0.2"]
    host.run(["ip", "route", "add", "192.0.2.0/24", *hops])
    before = host.run(["ip", "route"]).stdout
    with link.down():
        assert host.run(["ip", "route"]).stdout == ""
    assert host.run(["ip", "route"]).stdout == before


@pytest.mark.netns_requires("program:ip")
def test_a_route_comes_back_although_it_leads_over_another_one(lab: Lab) -> None:
    host, router = lab.host("host"), lab.router("router")
    link = lab.connect(host, router)
    host.run(["ip", "route", "add", "198.51.100.1", "dev", "eth0"])
    host.run(["ip", "route", "add", "default", "via", "198.51.100.1"])
    before = host.run(["ip", "route"]).stdout
    with link.down():
        pass
    host.restart()
    assert host.run(["ip", "route"]).stdout == before


def test_what_was_taken_away_by_hand_stays_away(lab: Lab) -> None:
    host, router = lab.host("host"), lab.router("router")
    link = lab.connect(host, router)
    address = next(each for each in link.a.addresses if each.version == 6)
    with link.down():
        link.a.remove_address(address)
    assert address not in link.a.addresses


def test_a_bridge_has_its_ipv6_back_with_the_mtu_of_its_ports(lab: Lab) -> None:
    lan, wan = lab.bridge("lan"), lab.bridge("wan")
    red, blue = lan.host("red"), lan.host("blue")
    lan.add_address(lan.subnets[1][254].compressed)
    wan.add_address(wan.subnets[1][254].compressed)
    with red.links[0].set_mtu(1000):
        assert [address.version for address in lan.addresses()] == []
        lan.detach(red)
        assert blue.ping(lan.subnets[1][254])
        wan.attach(red)
    assert blue.ping(lan.subnets[1][254])
    assert red.ping(wan.subnets[1][254])
