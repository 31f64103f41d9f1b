"""Lesson 2: a veth is a cable with two ends."""

import pytest


@pytest.fixture
def cable(lab):
    """Red and blue on one cable, with the addresses of a home network."""
    return lab.connect(
        lab.host("red"),
        lab.host("blue"),
        addresses=("192.168.15.1/24", "192.168.15.2/24"),
        names=("veth-red", "veth-blue"),
    )


def test_red_and_blue_ping_each_other(lab, cable):
    """One cable, two addresses of one subnet: no router is needed."""
    assert lab["red"].ping("192.168.15.2")
    assert lab["blue"].ping("192.168.15.1")


def test_after_a_ping_they_know_each_others_mac(lab, cable):
    """The first packet makes each ask, by ARP, who has the other's address."""
    red, blue = lab["red"], lab["blue"]
    assert red.neighbours() == []
    assert red.ping(blue)
    assert [(str(n.address), n.mac) for n in red.neighbours()] == [("192.168.15.2", blue.mac)]
    assert [(str(n.address), n.mac) for n in blue.neighbours()] == [("192.168.15.1", red.mac)]


def test_arp_can_be_asked_without_a_ping(lab, cable):
    """``arp`` puts the question on the wire itself; the kernel's table stays as it is."""
    red, blue = lab["red"], lab["blue"]
    assert red.arp("192.168.15.2").mac == blue.mac
    assert not red.arp("192.168.15.3", timeout=0.2)
    assert red.neighbours() == []


def test_what_is_listening_in_blue_is_reached_from_red(lab, cable):
    """A server started in blue; ``ready=8080`` waits until it listens."""
    red, blue = lab["red"], lab["blue"]
    assert red.tcp(blue, 8080).state == "closed"
    blue.spawn(["python3", "-m", "http.server", "8080"], ready=8080)
    assert red.tcp(blue, 8080).state == "open"


def test_pulling_the_cable_and_plugging_it_in(lab, cable):
    """Without a carrier nothing passes; the addresses stay, and all works again afterwards."""
    red, blue = lab["red"], lab["blue"]
    cable.down()
    assert not red.ping(blue, timeout=0.2)
    assert str(red.ip4) == "192.168.15.1"
    cable.up()
    assert red.ping(blue)


def test_deleting_veth_red_deletes_its_peer(lab, cable):
    """There is no cable with one end."""
    red, blue = lab["red"], lab["blue"]
    assert "veth-blue" in blue.interfaces
    cable.remove()
    assert "veth-red" not in red.interfaces
    assert "veth-blue" not in blue.interfaces


def test_a_ready_made_pair_has_both_families(veth_pair):
    """The ``veth_pair`` fixture is the same in one word, with IPv4 and IPv6."""
    left, right = veth_pair
    assert left.ping(right.ip4)
    assert left.ping(right.ip6)
