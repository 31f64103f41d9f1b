from __future__ import annotations

from ipaddress import ip_network
from itertools import permutations

import pytest
from slowness import patient

from pytest_netns import Bridge, Host, KernelError, Lab, TopologyError


def test_hosts_on_a_bridge_reach_each_other(bridge: Bridge) -> None:
    hosts = [bridge.host(f"h{number}") for number in range(4)]
    for a, b in permutations(hosts, 2):
        assert a.ping(b.ip4, timeout=patient(0.3, at_most=0.9))
        assert a.ping(b.ip6, timeout=patient(0.3, at_most=0.9))


def test_it_has_a_subnet_of_each_family(lab: Lab) -> None:
    bridge = lab.bridge("br0", "192.168.15.0/24")
    assert bridge.subnet == ip_network("192.168.15.0/24")
    assert bridge.subnets == [ip_network("192.168.15.0/24"), ip_network("fd00::/64")]
    assert lab.bridge("br1", "2001:db8::/64").subnet == ip_network("2001:db8::/64")
    assert lab.bridge("br2", subnet=False).subnets == []


def test_addresses_are_handed_out_in_order_and_can_be_chosen(bridge: Bridge) -> None:
    first = bridge.host("first")
    chosen = bridge.host("chosen", address=first.ip4 + 1)
    third = bridge.host("third")
    assert [host.ip4 - int(first.ip4) for host in (first, chosen, third)] == [
        type(first.ip4)(offset) for offset in (0, 1, 2)
    ]


def test_it_has_no_address_until_it_is_given_one(bridge: Bridge) -> None:
    red = bridge.host("red")
    assert [a for a in bridge.addresses() if not a.is_link_local] == []
    bridge.add_address(f"{red.ip4 + 4}/24")
    assert red.ping(bridge, timeout=patient(0.3, at_most=0.9))
    assert bridge.ping(red, timeout=patient(0.3, at_most=0.9))
    assert red.arp(bridge).mac == bridge.mac


def test_an_address_before_the_first_host_is_reached_too(lab: Lab) -> None:
    bridge = lab.bridge("br0", "192.168.15.0/24")
    bridge.add_address("192.168.15.5/24")
    bridge.add_address(f"{bridge.subnets[1].network_address + 5}/64")
    red = bridge.host("red")
    assert red.ping("192.168.15.5", timeout=patient(0.3, at_most=0.9))
    assert red.ping(bridge.subnets[1].network_address + 5, timeout=patient(0.3, at_most=0.9))


def test_its_own_address_is_given_to_nobody_else(lab: Lab) -> None:
    bridge = lab.bridge("br0", "192.168.15.0/24")
    bridge.add_address("192.168.15.1/24")
    assert str(bridge.host("red").ip4) == "192.168.15.2"


def test_ports_are_called_like_what_is_behind_them(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    names = ["red", "lo", "all", "a-name-that-is-longer-than-15", "a-name-that-is-longer-than-16"]
    for name in names:
        bridge.host(name)
    ports = list(bridge.ports)
    assert ports[0] == "red"
    assert len(set(ports)) == 5
    assert all(len(port) <= 15 for port in ports)
    assert [port[:2] for port in ports] == [name[:2] for name in names]


def test_a_port_is_found_by_the_whole_name_of_what_is_behind_it(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    long = "supervisor-of-rack-1"
    host = bridge.host(long)
    other = bridge.host("supervisor-of-rack-2")
    second = bridge.attach(host)
    ports = bridge.ports
    assert long in ports
    assert ports[long] == ports.get(long) == lab.links[0].end(bridge)
    assert ports[ports[long].name] == ports[long]
    assert ports[other.name] == lab.links[1].end(bridge)
    assert len(ports) == 3
    assert "rack-1" not in ports
    assert ports.get("rack-1") is None
    with pytest.raises(KeyError, match=r"no port of this bridge leads to 'rack-1'; there are: superviso"):
        ports["rack-1"]
    bridge.detach(host)  # the second one
    assert bridge.ports[long] == ports[long]
    bridge.detach(host)
    assert long not in bridge.ports
    assert second.node is host


def test_ports_have_no_address_of_any_kind(bridge: Bridge) -> None:
    for number in range(10):
        bridge.host(f"h{number}")
    bridge.detach(bridge.lab.host("late", bridge))
    bridge.attach(bridge.lab["late"])
    assert {name for name, port in bridge.ports.items() if port.addresses} == set()
    assert len(bridge.ports) == 11


def test_a_host_may_be_attached_twice(bridge: Bridge) -> None:
    red = bridge.host("red")
    second = bridge.attach(red)
    assert second.name == "eth1"
    assert len(bridge.ports) == 2


def test_a_host_may_be_on_several_bridges(lab: Lab) -> None:
    left, right = lab.bridge("left"), lab.bridge("right")
    middle = lab.host("middle", left, right)
    assert middle.ping(left.host("a"), timeout=patient(0.3, at_most=0.9))
    assert middle.ping(right.host("b"), timeout=patient(0.3, at_most=0.9))
    assert list(middle.interfaces) == ["lo", "eth0", "eth1"]


def test_connect_attaches_from_either_side(lab: Lab) -> None:
    bridge = lab.bridge("br0", "192.168.15.0/24")
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    assert lab.connect(bridge, red).end(red).name == "eth0"
    lab.connect(blue, bridge, addresses=("192.168.15.77", ()))
    lab.connect(green, bridge, "192.168.15.0/24", names=("uplink", "downlink"))
    assert (str(red.ip4), str(blue.ip4), str(green.ip4)) == ("192.168.15.1", "192.168.15.77", "192.168.15.2")
    assert set(bridge.ports) == {"red", "blue", "downlink"}
    assert red.ping(blue, timeout=patient(0.3, at_most=0.9))
    assert green.ping(blue, timeout=patient(0.3, at_most=0.9))


def test_a_port_can_be_had_without_an_address(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red = lab.host("red")
    lab.connect(red, bridge, subnet=False)
    with pytest.raises(TopologyError, match="'red' has no IPv4 address"):
        _ = red.ip4


@pytest.mark.parametrize("where", ["host", "attach", "lab", "router"])
def test_a_host_can_be_attached_without_an_address(lab: Lab, where: str) -> None:
    lan = lab.bridge("lan", "192.168.7.0/24")
    if where == "host":
        client: Host = lan.host("client", address=False)
    elif where == "lab":
        client = lab.host("client", lan, address=False)
    elif where == "router":
        client = lab.router("client", lan, lab.bridge("wan"), address=[False, None])
        assert str(client.ip4) == "10.0.0.1"
        client.interfaces["eth1"].down()
    else:
        client = lab.host("client")
        assert lan.attach(client, address=False) == client.interfaces["eth0"]
    eth0 = client.interfaces["eth0"]
    assert [address for address in eth0.addresses if not address.is_link_local] == []
    assert eth0.is_up
    server = lan.host("server")
    assert str(server.ip4) == "192.168.7.1"  # none was taken
    client.add_address("192.168.7.50/24", "eth0")  # as a client of DHCP does
    assert client.ping(server)


def test_no_address_on_any_of_several_bridges(lab: Lab) -> None:
    host = lab.host("host", lab.bridge("one"), lab.bridge("two"), address=False)
    assert [address for address in host.addresses() if not address.is_link_local and not address.is_loopback] == []


def test_who_is_attached_again_without_an_address_keeps_what_it_has(lab: Lab) -> None:
    home, away = lab.bridge("home", "192.168.7.0/24"), lab.bridge("away", "192.168.8.0/24")
    host = home.host("host")
    home.detach(host)
    away.attach(host, address=False)
    assert str(host.ip4) == "192.168.7.1"


@pytest.mark.netns_requires("program:ip")
def test_bridges_can_be_joined_by_a_trunk(lab: Lab) -> None:
    one = lab.bridge("one")
    two = lab.bridge("two", one)
    red, blue = one.host("red"), two.host("blue")
    assert red.ip4 != blue.ip4
    assert not red.ping(blue, timeout=0.1)
    lab.connect(one, two)
    red.run(["ip", "neighbour", "flush", "all"])
    assert red.ping(blue)
    assert set(one.ports) == {"red", "two"}


def test_it_learns_who_is_behind_which_port(bridge: Bridge) -> None:
    red, blue = bridge.host("red"), bridge.host("blue")
    assert red.ping(blue)
    learned = {entry.mac: entry.port for entry in bridge.fdb() if entry.state == "reachable"}
    assert learned[red.mac] == "red"
    assert learned[blue.mac] == "blue"
    assert any(entry.state == "permanent" for entry in bridge.fdb())


def test_a_detached_host_is_cut_off_and_the_others_are_not(bridge: Bridge) -> None:
    red, blue, green = (bridge.host(name) for name in ("red", "blue", "green"))
    address = red.ip4
    bridge.detach(red)
    assert set(bridge.ports) == {"blue", "green"}
    assert red.ip4 == address
    assert not red.interfaces["eth0"].is_up
    assert not blue.ping(address, timeout=0.1)
    assert blue.ping(green)


def test_a_host_that_is_attached_again_has_its_interface_and_its_addresses_back(bridge: Bridge) -> None:
    red, blue = bridge.host("red"), bridge.host("blue")
    before = red.interfaces["eth0"], red.addresses(), red.mac
    for _ in range(3):
        bridge.detach(red)
        interface = bridge.attach(red)
        assert (interface, red.addresses(), red.mac) == before
        assert blue.ping(red.ip4, timeout=patient(0.3, at_most=0.9))
        assert red.ping(blue.ip6, timeout=patient(0.3, at_most=0.9))


def test_a_host_that_is_attached_again_can_get_another_address(bridge: Bridge) -> None:
    red, blue = bridge.host("red"), bridge.host("blue")
    old = red.ip4
    bridge.detach(red)
    bridge.attach(red, old + 40)
    assert red.ip4 == old + 40
    assert blue.ping(old + 40, timeout=patient(0.3, at_most=0.9))
    assert bridge.host("heir").ip4 == old


def test_detaching_what_is_not_attached_is_refused(bridge: Bridge) -> None:
    red = bridge.host("red")
    bridge.detach(red)
    with pytest.raises(TopologyError, match="'red' is not attached to bridge 'br0'; attached: none"):
        bridge.detach(red)


def test_a_removed_link_frees_the_address_and_the_name_of_the_port(bridge: Bridge) -> None:
    red, blue = bridge.host("red"), bridge.host("blue")
    address = red.ip4
    red.links[0].remove()
    assert list(bridge.ports) == ["blue"]
    assert bridge.attach(red).ip4 == address
    assert list(bridge.ports) == ["blue", "red"]
    assert blue.ping(red, timeout=patient(0.3, at_most=0.9))


def test_a_long_bridge_name_is_shortened_too(lab: Lab) -> None:
    bridge = lab.bridge("a-bridge-with-a-very-long-name")
    assert len(bridge.device.name) <= 15
    assert bridge.host("red").ping(bridge.host("blue"))


@pytest.mark.netns_requires("program:ip")
def test_an_address_the_kernel_has_already_stays_with_the_bridge(lab: Lab) -> None:
    bridge = lab.bridge("br0", "192.168.15.0/24")
    bridge.run(["ip", "address", "add", "192.168.15.5/24", "dev", "br0"])
    with pytest.raises(KernelError, match=r"ip address add 192.168.15.5/24 dev br0"):
        bridge.add_address("192.168.15.5/24")
    bridge.run(["ip", "address", "delete", "192.168.15.5/24", "dev", "br0"])
    bridge.add_address("192.168.15.5/24")
