from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

import pytest
from conversation import address_of, settled_routes

from pytest_netns import Host, KernelError, Lab

versions = pytest.mark.parametrize("version", [4, 6])


def chain(lab: Lab, length: int) -> tuple[Host, Host]:
    """Two hosts with a row of routers between them."""
    nodes = [lab.host("start"), *(lab.router(f"r{number}") for number in range(1, length + 1)), lab.host("end")]
    join(lab, *nodes)
    return nodes[0], nodes[-1]


def join(lab: Lab, *nodes: Host) -> None:
    """Connect each to the next."""
    for left, right in pairwise(nodes):
        lab.connect(left, right)


def ring(lab: Lab, length: int) -> Sequence[Host]:
    """Routers in a circle, each with a host ``h1``, ``h2``, ... of its own."""
    routers = [lab.router(f"r{number}") for number in range(1, length + 1)]
    join(lab, *routers, routers[0])
    hosts = [lab.host(f"h{number}") for number in range(1, length + 1)]
    for host, router in zip(hosts, routers, strict=True):
        lab.connect(host, router)
    return hosts


def static_routes(lab: Lab) -> dict[str, list[str]]:
    """What autoroute has set, by node."""
    return {
        node.name: sorted(f"{r.destination} via {r.gateway}" for r in node.routes() if r.protocol == "static")
        for node in lab
    }


@versions
def test_the_ends_of_a_chain_reach_each_other_and_all_between(lab: Lab, version: int) -> None:
    start, end = chain(lab, 4)
    assert not start.ping(address_of(end, version))
    lab.autoroute()
    for source, destination in permutations(list(lab), 2):
        assert source.ping(address_of(destination, version))
    assert start.trace(address_of(end, version)).path == ["r1", "r2", "r3", "r4", "end"]


@versions
def test_every_interface_of_every_node_is_reached(lab: Lab, version: int) -> None:
    chain(lab, 2)
    lab.autoroute()
    for source in lab:
        for node in lab:
            for address in node.addresses():
                if address.version == version and not address.is_link_local:
                    assert source.ping(address.ip)


@versions
def test_a_ring_is_walked_the_shorter_way_round(lab: Lab, version: int) -> None:
    h1, h2, _, _, h5 = ring(lab, 5)
    lab.autoroute()
    assert h1.trace(address_of(h2, version)).path == ["r1", "r2", "h2"]
    assert h1.trace(address_of(h5, version)).path == ["r1", "r5", "h5"]


def test_of_two_ways_as_long_the_router_made_first_is_taken(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    near, far = lab.bridge("near"), lab.bridge("far")
    later, first = lab.bridge("later"), lab.bridge("first")  # made in another order than the routers
    for bridge in (near, far):
        bridge.attach(red if bridge is near else blue)
    one, two = lab.router("one"), lab.router("two")
    for router, between in ((two, later), (one, first)):
        near.attach(router)
        between.attach(router)
    for number, between in ((3, first), (4, later)):
        lab.router(f"r{number}", between, far)
    lab.autoroute()
    assert red.trace(blue.ip4).path == ["one", "r3", "blue"]
    assert red.trace(blue.ip6).path == ["one", "r3", "blue"]


def test_the_result_is_the_same_each_time() -> None:
    found = []
    for _ in range(3):
        with Lab() as lab:
            ring(lab, 6)
            lab.autoroute()
            found.append(static_routes(lab))
    assert found[0]["r1"]
    assert found[0] == found[1] == found[2]


def test_called_again_without_a_change_it_changes_nothing(lab: Lab) -> None:
    ring(lab, 4)
    lab.autoroute()
    before = {node.name: settled_routes(node) for node in lab}
    lab.autoroute()
    assert {node.name: settled_routes(node) for node in lab} == before


def test_called_again_it_takes_a_new_short_cut(lab: Lab) -> None:
    start, end = chain(lab, 4)
    lab.autoroute()
    lab.connect(lab["r1"], lab["r4"])
    assert start.trace(end).path == ["r1", "r2", "r3", "r4", "end"]
    lab.autoroute()
    assert start.trace(end).path == ["r1", "r4", "end"]


@versions
def test_called_again_after_a_link_was_removed_it_takes_the_long_way(lab: Lab, version: int) -> None:
    h1, h2, *_ = ring(lab, 4)
    lab.autoroute()
    [direct] = [link for link in lab.links if {end.node.name for end in link.interfaces} == {"r1", "r2"}]
    direct.remove()
    lab.autoroute()
    assert h1.trace(address_of(h2, version)).path == ["r1", "r4", "r3", "r2", "h2"]


def test_called_again_it_takes_back_routes_to_what_is_gone(lab: Lab) -> None:
    start, end = chain(lab, 2)
    lab.autoroute()
    gone = end.addresses()[0].network
    [link] = end.links
    link.remove()
    lab.autoroute()
    for node in lab:
        assert gone not in [route.destination for route in node.routes()]
    with pytest.raises(KernelError, match="Network is unreachable"):
        start.route_to(gone.network_address + 2)


def test_called_again_after_a_link_was_down_it_brings_back_what_the_kernel_dropped(lab: Lab) -> None:
    start, end = chain(lab, 2)
    lab.autoroute()
    [link] = start.links
    link.down()
    link.up()
    lab.autoroute()
    assert start.ping(end.ip4)
    assert start.ping(end.ip6)


def test_routes_that_were_set_by_hand_stay(lab: Lab) -> None:
    start, _ = chain(lab, 2)
    start.add_route("203.0.113.0/24", lab["r1"])
    start.add_route("198.51.100.0/24", kind="unreachable")
    mine = [r for r in start.routes() if r.protocol == "boot"]
    lab.autoroute()
    lab.autoroute()
    assert len(mine) == 2
    assert [r for r in start.routes() if r.protocol == "boot"] == mine


@versions
def test_a_route_by_hand_to_a_subnet_of_the_lab_wins(lab: Lab, version: int) -> None:
    h1, _, h3, _ = ring(lab, 4)
    lab.autoroute()
    target = address_of(h3, version)
    assert h1.trace(target).path == ["r1", "r2", "r3", "h3"]
    subnet = next(a.network for a in h3.addresses() if a.version == version)
    r1 = lab["r1"]
    assert isinstance(r1, Host)
    r1.add_route(subnet, lab["r4"])
    lab.autoroute()
    assert h1.trace(target).path == ["r1", "r4", "r3", "h3"]
    r1.remove_route(subnet)
    assert h1.trace(target).path == ["r1", "r2", "r3", "h3"]


def test_a_node_that_was_closed_is_left_out(lab: Lab) -> None:
    start, end = chain(lab, 2)
    lab.host("ghost").close()
    lab.autoroute()
    assert start.ping(end)


def test_a_host_with_two_interfaces_is_no_way_through(lab: Lab) -> None:
    red, blue, middle = lab.host("red"), lab.host("blue"), lab.host("middle")
    join(lab, red, middle, blue)
    lab.autoroute()
    assert static_routes(lab) == {"red": [], "blue": [], "middle": []}


def test_a_subnet_that_cannot_be_reached_gets_no_route(lab: Lab) -> None:
    chain(lab, 1)
    island, shore = lab.host("island"), lab.host("shore")
    lab.connect(island, shore, "192.0.2.0/24")
    lab.autoroute()
    routes = static_routes(lab)
    assert routes["island"] == []
    assert not any("192.0.2.0" in line for lines in routes.values() for line in lines)


@versions
def test_each_family_has_ways_of_its_own(lab_factory: object, version: int) -> None:
    pools = {"ipv6": None} if version == 4 else {"ipv4": None}
    with Lab("one-family", **pools) as lab:  # type: ignore[arg-type]
        start, end = chain(lab, 2)
        lab.autoroute()
        assert start.ping(end)
        assert {r.destination.version for node in lab for r in node.routes() if r.protocol == "static"} == {version}


def test_a_link_of_one_family_is_a_way_for_that_family_only(lab: Lab) -> None:
    h1, h2, *_ = ring(lab, 4)
    lab.connect(lab["r1"], lab["r3"], addresses=("192.0.2.1/24", "192.0.2.2/24"))
    lab.autoroute()
    h3 = lab["h3"]
    assert h1.trace(h3.ip4).path == ["r1", "r3", "h3"]
    assert h1.trace(h3.ip6).path == ["r1", "r2", "r3", "h3"]
    assert h2.ping(h3.ip6)


def test_a_link_of_one_family_makes_no_way_look_shorter_for_the_other(lab: Lab) -> None:
    near = lab.bridge("near")
    home, tempting, right = lab.host("home", near), lab.router("tempting", near), lab.router("right", near)
    middle, last, goal = lab.router("middle"), lab.router("last"), lab.host("goal")
    join(lab, right, middle, last, goal)
    lab.connect(tempting, last, addresses=("192.0.2.1/24", "192.0.2.2/24"))
    lab.autoroute()
    assert home.trace(goal.ip4).path == ["tempting", "last", "goal"]
    assert home.trace(goal.ip6).path == ["right", "middle", "last", "goal"]


def test_hosts_that_share_a_namespace_are_routed_once(lab: Lab) -> None:
    start, end = chain(lab, 1)
    lab.host("sidecar", shares=end)
    lab.autoroute()
    assert start.ping(end)
    [link] = start.links
    link.remove()
    lab.autoroute()  # takes back what it set in the shared namespace
    assert [r for r in end.routes() if r.protocol == "static"] == []


def test_an_empty_lab_has_nothing_to_route(lab: Lab) -> None:
    lab.autoroute()
    lab.bridge("br0")
    lab.autoroute()
    assert static_routes(lab) == {"br0": []}


# ------------------------------------------------------------ addresses on loopback, and several ways

LOOPBACKS = {4: "192.0.2.1/32", 6: "2001:db8::1/128"}


def diamond(lab: Lab) -> tuple[Host, Host]:
    """``red`` and ``blue`` behind two routers, each way as long as the other; blue has addresses on loopback."""
    red, blue = lab.host("red"), lab.host("blue")
    for name in ("left", "right"):
        router = lab.router(name)
        lab.connect(red, router)
        lab.connect(router, blue)
    for address in LOOPBACKS.values():
        blue.add_address(address, interface="lo")
    return red, blue


def ways(host: Host, destination: str) -> list[str | None]:
    return [route.interface for route in host.routes() if str(route.destination) == destination]


@pytest.mark.parametrize("version", [4, 6])
def test_addresses_on_loopback_are_reached(lab: Lab, version: int) -> None:
    red, _ = diamond(lab)
    lab.autoroute()
    assert ways(red, LOOPBACKS[version]) == ["eth0"]
    assert red.ping(LOOPBACKS[version].partition("/")[0])


@pytest.mark.parametrize("version", [4, 6])
def test_with_ecmp_all_ways_of_equal_length_are_used(lab: Lab, version: int) -> None:
    red, blue = diamond(lab)
    lab.autoroute(ecmp=True)
    assert ways(red, LOOPBACKS[version]) == ["eth0", "eth1"]
    assert red.ping(LOOPBACKS[version].partition("/")[0])
    own = next(a for a in red.interfaces["eth0"].addresses if a.version == version).network
    assert ways(blue, str(own)) == ["eth0"]
    lab.autoroute()
    assert ways(red, LOOPBACKS[version]) == ["eth0"]
    lab.autoroute(ecmp=True)
    assert ways(red, LOOPBACKS[version]) == ["eth0", "eth1"]


@pytest.mark.parametrize("version", [4, 6])
def test_a_loopback_address_that_two_nodes_have_leads_to_the_nearer_one(lab: Lab, version: int) -> None:
    red, blue = diamond(lab)
    left = lab["left"]
    left.add_address(LOOPBACKS[version], interface="lo")
    lab.autoroute(ecmp=True)
    assert ways(red, LOOPBACKS[version]) == ["eth0"]
    with left.counting() as change:
        assert red.ping(LOOPBACKS[version].partition("/")[0])
    assert change["IcmpInEchos" if version == 4 else "Icmp6InEchos"] == 1
    assert set(ways(blue, LOOPBACKS[version])) <= {"lo"}


def test_an_address_on_loopback_that_is_taken_away_is_routed_no_more(lab: Lab) -> None:
    red, blue = diamond(lab)
    lab.autoroute(ecmp=True)
    blue.interfaces["lo"].remove_address(LOOPBACKS[4])
    lab.autoroute(ecmp=True)
    assert ways(red, LOOPBACKS[4]) == []
