"""Labs whose nodes know each other's MAC addresses in advance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conversation import address_of
from slowness import patient

from pytest_netns import Bridge, Host, Lab, LabFactory, Namespace, TopologyError
from pytest_netns.kernel.netlink.neighbour_table import counted_entries
from pytest_netns.kernel.netlink.rtnetlink import AF_INET, AF_INET6

versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(neighbours="known") as lab:
        yield lab


def known(node: Namespace, interface: str = "eth0") -> dict[str, str]:
    """MAC address by IP address of the entries that are marked, on one interface; without link-local ones."""
    lines = []
    for version in (4, 6):
        lines += node.run(["ip", f"-{version}", "neighbour", "show", "dev", interface]).stdout.splitlines()
    words = [line.split() for line in lines if "extern_learn" in line.split() and not line.startswith("fe80:")]
    return {each[0]: each[each.index("lladdr") + 1] for each in words}


def all_of(*hosts: Host) -> dict[str, str]:
    """What a node should know of ``hosts``, each of which has one interface."""
    return {str(address.ip): host.mac for host in hosts for address in host.addresses() if not address.is_link_local}


@pytest.fixture
def lan(lab: Lab) -> tuple[Bridge, Host, Host, Host]:
    bridge = lab.bridge("lan")
    return bridge, bridge.host("red"), bridge.host("green"), bridge.host("blue")


@versions
def test_nobody_asks_for_an_address(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    with link.capture(chatter=True) as captured:
        assert red.ping(address_of(blue, version))
    asked = [each for each in captured.packets if each.haslayer("ARP") or each.haslayer("ICMPv6ND_NS")]
    assert asked == []
    echoes = [each for each in captured.packets if "echo" in each.summary().lower()]
    assert len(echoes) == 2
    for node in (red, blue):
        assert counted_entries(node.rtnl, (AF_INET, AF_INET6)) == {}


@pytest.mark.netns_requires("program:ip")
def test_link_local_addresses_are_known_too(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    local = next(address.ip for address in blue.addresses() if address.is_link_local)
    assert f"{local} dev eth0 lladdr {blue.mac} extern_learn" in red.run(["ip", "-6", "neighbour"]).stdout


@pytest.mark.netns_requires("program:ip")
def test_all_on_a_bridge_know_each_other(lan: tuple[Bridge, Host, Host, Host]) -> None:
    bridge, red, green, blue = lan
    assert known(red) == all_of(green, blue)
    assert known(green) == all_of(red, blue)
    assert known(blue) == all_of(red, green)
    assert known(bridge, "lan") == {}
    assert len(known(red)) == 4


@pytest.mark.netns_requires("program:ip")
def test_a_bridge_with_an_address_knows_and_is_known(lan: tuple[Bridge, Host, Host, Host]) -> None:
    bridge, red, green, blue = lan
    bridge.add_address("10.0.0.254")
    assert known(red)["10.0.0.254"] == bridge.mac
    assert known(bridge, "lan") == {address: mac for address, mac in all_of(red, green, blue).items() if "." in address}


@pytest.mark.netns_requires("program:ip")
def test_a_router_is_known_on_each_side_and_nobody_behind_it(lab: Lab) -> None:
    left, right = lab.bridge("left"), lab.bridge("right")
    red, blue = left.host("red"), right.host("blue")
    router = lab.router("router", left, right)
    lab.autoroute()
    assert set(known(red).values()) == {router.interfaces["eth0"].mac}
    assert known(router, "eth0") == all_of(red)
    assert known(router, "eth1") == all_of(blue)
    assert red.ping(blue)
    assert counted_entries(red.rtnl, [AF_INET]) == {}


@pytest.mark.netns_requires("program:ip")
def test_addresses_that_come_and_go(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.5.0.0/24")
    before = known(red)
    blue.add_address("10.5.0.77/24")
    assert known(red) == {**before, "10.5.0.77": blue.mac}
    blue.add_address("10.6.0.1/24")  # red is in no such subnet
    assert "10.6.0.1" not in known(red)
    red.add_address("10.6.0.2/24")
    assert known(red)["10.6.0.1"] == blue.mac
    assert known(blue)["10.6.0.2"] == red.mac
    blue.interfaces["eth0"].remove_address("10.5.0.77/24")
    blue.interfaces["eth0"].remove_address("10.6.0.1/24")
    assert known(red) == before


@pytest.mark.netns_requires("program:ip")
def test_a_link_that_goes_takes_its_neighbours_along(lan: tuple[Bridge, Host, Host, Host]) -> None:
    _, red, green, blue = lan
    blue.links[0].remove()
    assert known(red) == all_of(green)
    assert known(green) == all_of(red)


@pytest.mark.netns_requires("program:ip")
def test_so_does_a_host_that_is_closed(lan: tuple[Bridge, Host, Host, Host]) -> None:
    _, red, green, blue = lan
    blue.close()
    assert known(red) == all_of(green)


@pytest.mark.netns_requires("program:ip")
def test_a_host_that_roams(lab: Lab, lan: tuple[Bridge, Host, Host, Host]) -> None:
    bridge, red, green, blue = lan
    other = lab.bridge("other")
    far = other.host("far")
    with bridge.detach(blue):
        assert known(red) == all_of(green)
        assert known(blue) == {}
    assert known(red) == all_of(green, blue)
    bridge.detach(blue)
    other.attach(blue)
    assert known(red) == all_of(green)
    assert known(far) == all_of(blue)
    assert known(blue) == all_of(far)
    assert blue.ping(far)


@pytest.mark.netns_requires("program:ip")
def test_two_bridges_that_are_joined_and_parted(lab: Lab) -> None:
    one = lab.bridge("one", "10.7.0.0/24")
    two = lab.bridge("two", one)
    red, blue = one.host("red"), two.host("blue")
    assert known(red) == {}
    trunk = lab.connect(one, two)
    assert known(red) == all_of(blue)
    assert known(blue) == all_of(red)
    trunk.remove()
    assert known(red) == known(blue) == {}


@pytest.mark.netns_requires("program:ip")
def test_a_link_that_was_down_is_known_when_it_is_up_again(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    before = known(red), known(blue)
    with link.down():
        pass
    assert (known(red), known(blue)) == before
    red.interfaces["eth0"].down()
    red.interfaces["eth0"].up()
    assert known(red).keys() >= {str(blue.ip4)}
    with link.set_mtu(1000):  # without IPv6
        assert all("." in address for address in known(red))
    assert (known(red), known(blue)) == before


@pytest.mark.netns_requires("program:ip")
def test_a_host_that_was_restarted_knows_and_is_known(lan: tuple[Bridge, Host, Host, Host]) -> None:
    _, red, green, blue = lan
    with blue.crash():
        pass
    assert known(blue) == all_of(red, green)
    assert known(red) == all_of(green, blue)
    assert blue.ping(red)


@pytest.mark.netns_requires("program:ip")
def test_hosts_that_share_a_namespace(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    sidecar = lab.host("sidecar", shares=red)
    lab.connect(sidecar, blue, "10.5.0.0/24")
    assert known(blue) == all_of(red)
    red.add_address("10.5.0.9/24", "eth0")
    assert known(blue)["10.5.0.9"] == red.mac


@pytest.mark.netns_requires("program:ip")
def test_entries_of_the_test_itself_stay(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    red.run(["ip", "neighbour", "add", "10.0.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
    blue.add_address("10.0.0.7/24")
    assert ("10.0.0.99", "PERMANENT") in [(str(each.address), each.state) for each in red.neighbours()]
    assert link.is_up


@pytest.mark.netns_requires("program:ip")
def test_ping_all_of_many_needs_no_room(lab: Lab) -> None:
    bridge = lab.bridge("lan", "10.20.0.0/16")
    hosts = [bridge.host(f"h{each}") for each in range(30)]
    before = [known(host) for host in hosts]
    assert len(before[0]) == 58
    assert lab.ping_all(timeout=patient(20))
    assert [known(host) for host in hosts] == before
    assert not any(counted_entries(host.rtnl, [AF_INET]) for host in hosts)


def test_a_wrong_choice_names_the_right_ones(lab_factory: LabFactory) -> None:
    with pytest.raises(TopologyError, match="neighbours='static': expected 'learned' or 'known'"):
        lab_factory("wrong", neighbours="static")  # type: ignore[arg-type]


@pytest.mark.netns_requires("program:ip")
def test_by_the_factory(lab_factory: LabFactory) -> None:
    lab = lab_factory("made", neighbours="known")
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    assert known(red) == all_of(blue)
    lab.close()
