from __future__ import annotations

import pytest
from slowness import patient

from pytest_netns import Host, Lab, TopologyError


def user_routes(host: Host) -> set[str]:
    return {str(route) for route in host.routes() if route.protocol != "kernel"}


def test_it_knows_its_ends(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    assert (link.a.node, link.b.node) == (red, blue)
    assert link.end(red) is link.a
    assert link.end(blue) is link.b
    assert repr(link) == "<Link red:eth0 -- blue:eth0>"
    assert link.is_up


def test_down_is_a_pulled_cable_and_up_plugs_it_in(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    for _ in range(5):
        link.down()
        assert not link.is_up
        assert not red.ping(blue.ip4, timeout=0.05)
        link.up()
        assert link.is_up
        assert red.ping(blue.ip4, timeout=patient(0.3, at_most=0.9))
        assert blue.ping(red.ip6, timeout=patient(0.3, at_most=0.9))


def test_addresses_stay_while_it_is_down(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"))
    link.a.add_address("10.200.0.1/24")
    before = [[a for a in end.addresses if not a.is_link_local] for end in link.interfaces]
    link.down()
    assert [[a for a in end.addresses if not a.is_link_local] for end in link.interfaces] == before
    link.up()
    assert [[a for a in end.addresses if not a.is_link_local] for end in link.interfaces] == before


@pytest.mark.netns_requires("program:ip")
def test_up_restores_the_routes_that_down_took(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    red.run(["ip", "route", "add", "default", "via", str(blue.ip4)])
    red.run(["ip", "route", "add", "198.51.100.0/24", "via", str(blue.ip4), "metric", "7", "src", str(red.ip4)])
    red.run(["ip", "-6", "route", "add", "default", "via", str(blue.ip6)])
    red.run(["ip", "-6", "route", "add", "2001:db8::/32", "dev", "eth0", "metric", "5"])
    blue.run(["ip", "route", "add", "203.0.113.0/24", "dev", "eth0"])
    routes = [user_routes(host) for host in (red, blue)]
    assert len(routes[0]) == 4
    for _ in range(2):
        link.down()
        link.down()  # the second time there is nothing more to remember
        assert user_routes(red) == user_routes(blue) == set()
        link.up()
        assert [user_routes(host) for host in (red, blue)] == routes


@pytest.mark.netns_requires("program:ip")
def test_routes_through_other_links_are_left_alone(lab: Lab) -> None:
    red = lab.host("red")
    link, other = lab.connect(red, lab.host("blue")), lab.connect(red, lab.host("green"))
    red.run(["ip", "route", "add", "198.51.100.0/24", "dev", other.a.name])
    link.down()
    assert user_routes(red) == {"198.51.100.0/24 dev eth1"}
    red.run(["ip", "route", "delete", "198.51.100.0/24"])
    link.up()
    assert user_routes(red) == set()


def test_up_on_a_link_that_is_up_changes_nothing(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    before = red.addresses(), red.routes()
    link.up()
    assert (red.addresses(), red.routes()) == before


def test_a_link_to_a_bridge_goes_down_and_up_too(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red, blue = bridge.host("red"), bridge.host("blue")
    (link,) = red.links
    for _ in range(5):
        link.down()
        assert not blue.ping(red.ip4, timeout=0.05)
        link.up()
        assert blue.ping(red.ip4, timeout=5)  # blue's kernel has an ARP request out, which it repeats each second
        assert red.ping(blue.ip6, timeout=patient(0.3, at_most=0.9))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.netns_requires("program:ip")
def test_removing_one_end_removes_both(lab: Lab, side: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    end = link.interfaces[side]
    end.node.run(["ip", "link", "delete", end.name])
    assert list(red.interfaces) == list(blue.interfaces) == ["lo"]


def test_remove_takes_both_ends_and_frees_the_subnet(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, "10.7.0.0/24")
    link.remove()
    assert link.removed
    assert repr(link) == "<Link red:eth0 -- blue:eth0 removed>"
    assert list(red.interfaces) == list(blue.interfaces) == ["lo"]
    assert lab.links == ()
    assert red.links == []
    again = lab.connect(red, blue, "10.7.0.0/24")
    assert red.ping(again.b, timeout=patient(0.3, at_most=0.9))


def test_the_mtu_is_that_of_both_ends(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, mtu=1400)
    assert (link.a.mtu, link.b.mtu) == (1400, 1400)
    assert red.ping(blue.ip4, size=1372, df=True)
    assert not red.ping(blue.ip4, size=1373, df=True)
    assert lab.connect(red, blue).a.mtu == 1500
    assert lab.connect(red, blue, mtu=9000).b.mtu == 9000


def test_names_can_be_chosen(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, names=("veth-red", "veth-blue"))
    assert (link.a.name, link.b.name) == ("veth-red", "veth-blue")
    assert list(red.interfaces) == ["lo", "veth-red"]
    assert list(blue.interfaces) == ["lo", "veth-blue"]
    assert lab.connect(red, blue).a.name == "eth0"


def test_a_node_that_is_not_on_it_has_no_end(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"))
    with pytest.raises(TopologyError, match="has no end in 'green'"):
        link.end(lab.host("green"))
