"""Lesson 3: a bridge is a switch that many are plugged into."""

from itertools import permutations

import pytest

COLOURS = ("red", "blue", "green", "yellow")


@pytest.fixture
def switch(lab):
    """The bridge ``v-net-0`` with four hosts, each with one address of its subnet."""
    bridge = lab.bridge("v-net-0", "192.168.15.0/24")
    for colour in COLOURS:
        bridge.host(colour)
    return bridge


def test_four_namespaces_on_a_bridge_reach_each_other(lab, switch):
    """Four cables instead of six: everybody is one hop from everybody."""
    assert [str(lab[colour].ip4) for colour in COLOURS] == [f"192.168.15.{n}" for n in (1, 2, 3, 4)]
    for source, destination in permutations(COLOURS, 2):
        assert lab[source].ping(lab[destination])


def test_every_port_is_called_like_the_host_behind_it(switch):
    """So that the bridge can be read like the labels of a patch panel."""
    assert set(switch.ports) == set(COLOURS)


def test_the_bridge_gets_an_address_and_is_reached(lab, switch):
    """A bridge is an interface too. With an address, the machine it is in joins the network."""
    switch.add_address("192.168.15.5/24")
    for colour in COLOURS:
        assert lab[colour].ping("192.168.15.5")
        assert switch.ping(lab[colour])


def test_the_bridge_learns_who_is_behind_which_port(lab, switch):
    """It looks at the senders of the frames that pass."""
    red, blue = lab["red"], lab["blue"]
    assert red.ping(blue)
    ports = {entry.mac: entry.port for entry in switch.fdb()}
    assert (ports[red.mac], ports[blue.mac]) == ("red", "blue")


def test_unplugging_one_host_leaves_the_others_connected(lab, switch):
    """And plugging it in again brings it back, with the address it had."""
    red, blue, green = lab["red"], lab["blue"], lab["green"]
    switch.detach(red)
    assert not blue.ping("192.168.15.1", timeout=0.2)
    assert blue.ping(green)
    switch.attach(red)
    assert blue.ping("192.168.15.1")


def test_a_ready_made_bridge_takes_any_number_of_hosts(bridge):
    """The ``bridge`` fixture, addressed for IPv4 and IPv6."""
    hosts = [bridge.host(f"pc{number}") for number in range(1, 6)]
    assert all(hosts[0].ping(host.ip6) for host in hosts[1:])
