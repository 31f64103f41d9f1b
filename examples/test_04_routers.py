"""Lesson 4: a router passes on what is not for it."""

import socket
from itertools import pairwise

import pytest


@pytest.fixture
def two_networks(lab):
    """Red on one network, blue on another, and a router that is on both. Nobody knows of it yet."""
    west, east = lab.bridge("west", "192.168.15.0/24"), lab.bridge("east", "192.168.16.0/24")
    west.host("red", "192.168.15.1")
    east.host("blue", "192.168.16.1")
    return lab.router("router", west, east, address=["192.168.15.254", "192.168.16.254"])


def test_without_a_route_the_kernel_does_not_even_try(lab, two_networks):
    """The same words that ``ping`` and ``curl`` would show: they are the kernel's own."""
    red, blue = lab["red"], lab["blue"]
    answer = red.ping(blue)
    assert not answer
    assert str(answer.error) == "Network is unreachable"
    with pytest.raises(OSError, match="Network is unreachable"):
        red.call(socket.create_connection, ("192.168.16.1", 80))


def test_a_route_is_needed_in_both_directions(lab, two_networks):
    """Red's request arrives, and blue does not know where to send the answer."""
    red, blue = lab["red"], lab["blue"]
    red.add_route("192.168.16.0/24", via=two_networks)
    assert not red.ping(blue, timeout=0.2)
    blue.add_route("192.168.15.0/24", via=two_networks)
    assert red.ping(blue)


def test_a_default_route_is_for_all_that_is_not_known_otherwise(lab, two_networks):
    """Most hosts have one route that leads out, and that is enough."""
    red, blue = lab["red"], lab["blue"]
    for host in (red, blue):
        host.default_route(via=two_networks)
    assert red.ping(blue.ip4)
    assert red.ping(blue.ip6)


def test_each_router_takes_one_off_the_time_to_live(lab, two_networks):
    """Linux sends with 64, so an answer with 63 has passed one router."""
    red, blue = lab["red"], lab["blue"]
    lab.autoroute()
    assert red.ping(two_networks).ttl == 64
    assert red.ping(blue).ttl == 63


def test_a_trace_shows_the_way(lab):
    """Packets with a time to live of 1, 2, 3, ... die at the first, second, third router, which says so."""
    places = [lab.host("home"), lab.router("r1"), lab.router("r2"), lab.router("r3"), lab.host("server")]
    for here, there in pairwise(places):
        lab.connect(here, there)
    lab.autoroute()
    assert lab["home"].trace(lab["server"]).path == ["r1", "r2", "r3", "server"]


def test_when_a_cable_is_removed_there_is_another_way(lab):
    """Three routers in a ring: ``autoroute`` takes the shorter way round, and the longer one after a change."""
    r1, r2, r3 = (lab.router(name) for name in ("r1", "r2", "r3"))
    direct = lab.connect(r1, r2)
    lab.connect(r2, r3)
    lab.connect(r3, r1)
    home, server = lab.host("home"), lab.host("server")
    lab.connect(home, r1)
    lab.connect(server, r2)
    lab.autoroute()
    assert home.trace(server).path == ["r1", "r2", "server"]
    direct.remove()
    lab.autoroute()
    assert home.trace(server).path == ["r1", "r3", "r2", "server"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("unreachable", "No route to host"), ("prohibit", "Permission denied"), ("blackhole", "Invalid argument")],
)
def test_a_route_can_be_a_refusal(lab, two_networks, kind, words):
    """Each in words of its own, so that a program's handling of them can be tested."""
    red = lab["red"]
    red.add_route("203.0.113.0/24", kind=kind)
    assert str(red.ping("203.0.113.1").error) == words
