"""Lesson 1: a network namespace is a whole network stack of its own."""

import os
from pathlib import Path

import pytest


def test_a_new_namespace_has_a_loopback_interface_and_nothing_else(netns):
    """Like a computer whose network cards were all pulled out: it can talk to itself only."""
    assert list(netns.interfaces) == ["lo"]
    assert netns.routes() == []
    assert "127.0.0.1/8" in map(str, netns.interfaces["lo"].addresses)


def test_code_and_commands_can_run_inside(netns):
    """``with netns:`` moves this thread in and back; ``netns.run`` starts a command inside."""
    outside = os.readlink("/proc/thread-self/ns/net")
    with netns:
        inside = os.readlink("/proc/thread-self/ns/net")
    assert inside != outside
    assert netns.run(["readlink", "/proc/self/ns/net"]).stdout.strip() == inside
    assert os.readlink("/proc/thread-self/ns/net") == outside


def test_interfaces_belong_to_one_namespace(lab):
    """A device made in red exists in red alone."""
    red, blue = lab.host("red"), lab.host("blue")
    red.add_ifb("lesson0")
    assert "lesson0" in red.interfaces
    assert "lesson0" not in blue.interfaces


def test_routes_belong_to_one_namespace(lab):
    """Red learns a route; blue does not."""
    red, blue = lab.host("red"), lab.host("blue")
    red.add_route("203.0.113.0/24", kind="blackhole")
    assert [str(route.destination) for route in red.routes()] == ["203.0.113.0/24"]
    assert blue.routes() == []


def test_arp_tables_belong_to_one_namespace(lab):
    """Red and blue talk and know each other afterwards; green knows nobody."""
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue)
    assert red.ping(blue)
    assert blue.ip4 in [neighbour.address for neighbour in red.neighbours()]
    assert green.neighbours() == []


def test_the_same_port_can_be_bound_in_both(lab):
    """Port 80 is free in every namespace, whatever listens elsewhere."""
    for name in ("red", "blue"):
        server = lab.host(name).socket()
        server.bind(("0.0.0.0", 80))
        server.listen()


@pytest.mark.netns_requires("nft")
def test_netfilter_rules_belong_to_one_namespace(lab):
    """Blue drops pings; red, on the same cable, answers them."""
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    assert red.ping(blue)
    blue.nft("""
        table inet lesson {
            chain arriving { type filter hook input priority 0; icmp type echo-request drop; }
        }
    """)
    assert blue.nft_ruleset() != []
    assert red.nft_ruleset() == []
    assert not red.ping(blue, timeout=0.2)
    assert blue.ping(red)


def test_the_host_knows_nothing_of_them(veth_pair):
    """No interface, no address and no file of theirs exists where this test runs."""
    left, right = veth_pair
    assert left.ping(right)
    addresses = Path("/proc/thread-self/net/fib_trie").read_text()
    macs = [file.read_text().strip() for file in Path("/sys/class/net").glob("*/address")]
    for host in veth_pair:
        assert host.mac not in macs
        assert str(host.ip4) not in addresses
    named = Path("/run/netns").glob("*")
    assert not {file.stat().st_ino for file in named} & {left.inode, right.inode}
