"""What can go wrong with a link: it goes down, flaps, shrinks, and swallows large packets; a host moves to another."""

from __future__ import annotations

import pytest
from explaining import why_no_ping

from pytest_netns import Host, Lab, TopologyError

SHORT = 0.05


def test_down_ends_with_its_block(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    link = left.links[0]
    with link.down() as fault:
        assert not left.ping(right, timeout=SHORT)
        assert str(fault) == "left:eth0 -- right:eth0 is down"
    assert left.ping(right)
    link.down()
    link.up()
    assert not list(left.lab.faults)
    link.down()
    left.lab.heal()
    assert left.ping(right)
    link.down()
    link.remove()
    left.lab.heal()


def test_a_link_comes_up_when_the_last_who_pulled_it_is_done(veth_pair: tuple[Host, Host]) -> None:
    link = veth_pair[0].links[0]
    with link.down():
        with link.down():
            pass
        assert not link.is_up
        link.flap(1, 0.01)
        assert not link.is_up
    assert link.is_up
    faults = [link.down(), link.down()]
    for fault in faults:
        assert not link.is_up
        fault.undo()
    assert link.is_up
    faults = [link.down(), link.down()]
    link.up()
    assert link.is_up
    assert not list(link.lab.faults)
    cut = link.down()
    faults[0].undo()  # is over, and mends nothing
    assert not link.is_up
    cut.undo()
    assert link.is_up


def test_flapping(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    link = left.links[0]
    before = int(left.run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout)
    assert before == 0
    changes = "/sys/class/net/eth0/carrier_changes"
    count = int(left.lab.host("probe", shares=left, isolate={"mount"}).run(["cat", changes]).stdout)
    link.flap(3, 0.02)
    assert int(left.lab.host("again", shares=left, isolate={"mount"}).run(["cat", changes]).stdout) == count + 6
    assert left.ping(right)
    for times, period, words in ((0, 1, "times=0"), (1.5, 1, "times=1.5"), (1, 0, "period=0"), (1, -1, "period=-1")):
        with pytest.raises(TopologyError, match=words):
            link.flap(times, period)  # type: ignore[arg-type]


def test_the_mtu_of_both_ends_changes(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    link = left.links[0]
    with link.set_mtu(1400):
        assert (link.a.mtu, link.b.mtu) == (1400, 1400)
        assert not left.ping(right.ip4, size=1400, df=True, timeout=SHORT)
    assert (link.a.mtu, link.b.mtu) == (1500, 1500)
    assert left.ping(right.ip4, size=1400, df=True)
    for bad in (67, 70000):
        with pytest.raises(TopologyError, match="from 68 to 65535"):
            link.set_mtu(bad)
    assert (link.a.mtu, link.b.mtu) == (1500, 1500)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.netns_requires("nft")
def test_a_black_hole_says_nothing(lab: Lab, version: int) -> None:
    left, right = lab.bridge("left"), lab.bridge("right")
    a, b = left.host("a"), right.host("b")
    router = lab.router("r", left, right)
    lab.autoroute()
    target = b.ip4 if version == 4 else b.ip6
    link = router.links[1]
    with link.black_hole(1400):
        for source, destination in ((a, target), (b, a.ip4 if version == 4 else a.ip6)):
            result = source.ping(destination, size=1400, df=True, timeout=SHORT)
            assert not result
            assert result.error is None
            assert source.ping(destination, size=1300, df=True)
        found = a.path_mtu(target, timeout=SHORT)
        assert (found.mtu, found.black_hole) == (1400, True)
        assert why_no_ping(a, target, size=1400, df=True).node == "r"
    assert a.ping(target, size=1400, df=True)


def test_a_bridge_makes_one_too(bridge: object, lab: Lab) -> None:
    lan = lab.bridge("lan")
    a, b = lan.host("a"), lan.host("b")
    with b.links[0].black_hole(1400):
        assert not a.ping(b, size=1400, timeout=SHORT)
        assert not b.ping(a, size=1400, timeout=SHORT)
        assert a.ping(b, size=1300)
    assert a.ping(b, size=1400)


@pytest.mark.netns_requires("nft")
def test_what_was_broken_may_be_removed(lab: Lab) -> None:
    links = [lab.connect(lab.host(f"host{number}"), lab.router(f"router{number}")) for number in range(2)]
    faults = [links[0].black_hole(1400), links[1].set_mtu(1400)]
    for link in links:
        link.remove()
    for fault in faults:
        fault.undo()
        assert not fault.in_force


def test_hosts_alone_make_no_black_hole(veth_pair: tuple[Host, Host], lab: Lab) -> None:
    left, _ = veth_pair
    with pytest.raises(TopologyError, match="both ends are hosts"):
        left.links[0].black_hole(1400)
    router = lab.router("r")
    link = lab.connect(router, left)
    with pytest.raises(TopologyError, match="expected less than 1500"):
        link.black_hole(1500)
    for bad in ("1400", None, True, 67):
        with pytest.raises(TopologyError, match="expected bytes, a whole number from 68 to 65535"):
            link.black_hole(bad)  # type: ignore[arg-type]
    assert not list(lab.faults)


def test_roaming_with_a_new_address(lab: Lab) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    red, in_original_namespace, there = home.host("red"), home.host("server"), away.host("server2")
    red.default_route(via=in_original_namespace)
    before, mac, index = red.addresses(), red.mac, red._primary.index
    home.detach(red)
    interface = away.attach(red)
    assert (red.mac, interface.index) == (mac, index)
    assert list(red.interfaces) == ["lo", "eth0"]
    assert str(red.ip4).startswith("10.2.0.")
    assert not {a for a in before if not a.is_link_local} & set(red.addresses())
    assert red.ping(there.ip4)
    assert red.ping(there.ip6)
    assert [str(r) for r in red.routes() if r.gateway] == []
    assert "red" in away.ports
    assert "red" not in home.ports
    assert home.host("next").ip4 == before[0].ip  # it was given back
    away.detach(red)
    home.attach(red)
    assert red.ping(in_original_namespace)
    lab[red.name].links[0].remove()
    assert list(red.interfaces) == ["lo"]


def test_roaming_with_its_address_kept(lab: Lab) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    red = home.host("red")
    before = red.addresses()
    home.detach(red)
    away.attach(red, "keep")
    assert red.addresses() == before
    away.detach(red)
    away.attach(red, "renew")
    assert str(red.ip4).startswith("10.2.0.")
    away.detach(red)
    away.attach(red, "10.2.0.99")
    assert str(red.ip4) == "10.2.0.99"


def test_an_address_that_is_given_renews_the_other_family_too(lab: Lab) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    red, there = home.host("red"), away.host("there")
    home.detach(red)
    away.attach(red, "10.2.0.50")
    assert str(red.ip4) == "10.2.0.50"
    assert red.ip6 in away.subnets[1]
    assert red.ping(there.ip6)
    before = red.addresses()
    for same in ("10.2.0.50", "10.2.0.50/24", before[1].ip):
        away.detach(red)
        away.attach(red, same)
        assert red.addresses() == before


def test_roaming_that_is_refused_can_be_tried_again(lab: Lab) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    red, there = home.host("red"), away.host("there")
    before = red.addresses()
    home.detach(red)
    with pytest.raises(TopologyError, match="is taken by 'there'"):
        away.attach(red, there.ip4)
    for bad in ("Keep", "10.2.0.300", 7):
        with pytest.raises(TopologyError, match=r"expected an address of 10.2.0.0/24, .*; 'keep' or 'renew'"):
            away.attach(red, bad)  # type: ignore[arg-type]
    assert list(away.ports) == ["there"]
    assert red.addresses() == before
    away.attach(red)
    assert red.ping(there.ip4)
    assert red.ping(there.ip6)


@pytest.mark.parametrize("how", ["down", "crash", "small"])
def test_roaming_in_trouble(lab: Lab, how: str) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    red, in_original_namespace, there = home.host("red"), home.host("server"), away.host("there")
    red.default_route(via=in_original_namespace)
    link = red.links[0]
    fault = {"down": link.down, "crash": red.crash, "small": lambda: link.set_mtu(1000)}[how]()
    home.detach(red)
    away.attach(red)
    assert [address.version for address in red.addresses() if not address.is_link_local] in ([4, 6], [4])
    assert red.ip4 in away.subnets[0]
    assert lab._in_force() == (str(fault),)
    lab.heal()
    assert red.ping(there.ip4)
    assert red.ping(there.ip6)
    assert [str(route) for route in red.routes() if route.gateway] == []
    assert home.host("next").ip4 in home.subnets[0]
    away.detach(red)
    home.attach(red)
    assert red.ping(in_original_namespace.ip6)


def test_detaching_is_a_fault(lab: Lab) -> None:
    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "10.2.0.0/24")
    red, blue = lan.host("red"), lan.host("blue")
    before = red.addresses()
    with lan.detach(red) as fault:
        assert str(fault) == "'red' is detached from bridge 'lan'"
        assert not red.ping(blue, timeout=SHORT)
    assert not fault.in_force
    assert red.ping(blue)
    lan.detach(red)
    red.crash()
    lab.heal()
    assert red.addresses() == before
    assert red.ping(blue)
    there = wan.host("there")
    with lan.detach(red), pytest.raises(TopologyError, match="is taken by 'there'"):
        wan.attach(red, there.ip4)
    assert red.ping(blue)  # is plugged in where it was
    with lan.detach(red):
        wan.attach(red)
        assert not list(lab.faults)
    assert "red" in wan.ports  # has roamed
    wan.detach(red)
    red.links[0].remove()
    assert not list(lab.faults)
    lan.detach(blue)
    blue.close()
    lab.heal()


def test_a_trunk_is_put_into_another_bridge(lab: Lab) -> None:
    one = lab.bridge("one")
    two, three = lab.bridge("two", one), lab.bridge("three", one)
    trunk = lab.connect(one, two)
    red, blue = two.host("red"), three.host("blue")
    one.detach(two)
    three.attach(two)
    assert [address for end in trunk.interfaces for address in end.addresses if not address.is_link_local] == []
    assert red.ping(blue)
    three.detach(two)
    two.attach(three)
    assert red.ping(blue)
    assert lab.links.count(trunk) == 1
    assert len([link for link in lab.links if link.nodes in ((three, two), (two, three))]) == 1
    for call in (one.attach, one.detach):
        with pytest.raises(TopologyError, match=r"'one' (to|from) itself"):
            call(one)
    with pytest.raises(TopologyError, match="a trunk takes no address"):
        one.attach(two, "10.0.0.77")


def test_between_bridges_of_one_subnet_nothing_changes(lab: Lab) -> None:
    one = lab.bridge("one", "10.1.0.0/24")
    two = lab.bridge("two", one)
    lab.connect(one, two)
    red, blue = one.host("red"), one.host("blue")
    before = red.addresses()
    one.detach(red)
    two.attach(red)
    assert red.addresses() == before
    assert red.ping(blue)


@pytest.mark.netns_requires("nft")
def test_heal_mends_everything_and_reports_all_that_fails(lab: Lab) -> None:
    lan = lab.bridge("lan")
    a, b, c = (lan.host(name) for name in "abc")
    a.links[0].down()
    b.crash()
    c.block()
    assert [str(fault) for fault in lab.faults] == [
        "a:eth0 -- lan:a is down",
        "'b' has crashed",
        "'c' drops packets of all kinds",
    ]
    lab.heal()
    assert lab.ping_all()
    assert not list(lab.faults)
