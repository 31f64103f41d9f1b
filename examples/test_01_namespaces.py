"""Lesson 1: a network namespace is a whole network stack of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def firewall(ns):
    """All netfilter rules of a namespace, as text; skips the test where no program can tell."""
    if shutil.which("nft"):
        listing = ns.run(["nft", "list", "ruleset"], check=False)
    elif shutil.which("iptables"):
        listing = ns.run(["iptables", "-S"], check=False)
    else:
        pytest.skip("neither nft nor iptables is installed")
    if listing.returncode != 0:
        pytest.skip(f"netfilter cannot be used here: {listing.stderr.strip()}")
    return listing.stdout


def forbid_ping(ns):
    """Add a netfilter rule that drops echo requests which arrive."""
    if shutil.which("nft"):
        ns.run(["nft", "-f", "-"], input="table inet lesson { chain in { type filter hook input priority 0; }; }")
        ns.run(["nft", "add rule inet lesson in icmp type echo-request drop"])
    else:
        ns.run(["iptables", "-A", "INPUT", "-p", "icmp", "--icmp-type", "echo-request", "-j", "DROP"])


def test_a_new_namespace_has_a_loopback_interface_and_nothing_else(netns):
    """Like a computer whose network cards were all pulled out: it can talk to itself only."""
    assert list(netns.interfaces) == ["lo"]
    assert netns.routes() == []
    assert "127.0.0.1" in netns.run(["ip", "address"]).stdout


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
    red.run(["ip", "link", "add", "lesson0", "type", "bridge"])
    assert "lesson0" in red.interfaces
    assert "lesson0" not in blue.interfaces


def test_routes_belong_to_one_namespace(lab):
    """Red learns a route; blue does not."""
    red, blue = lab.host("red"), lab.host("blue")
    red.run(["ip", "route", "add", "blackhole", "203.0.113.0/24"])
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


def test_netfilter_rules_belong_to_one_namespace(lab):
    """Blue drops pings; red, on the same cable, answers them."""
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    before = firewall(red)
    assert red.ping(blue)
    forbid_ping(blue)
    assert firewall(blue) != before
    assert firewall(red) == before
    assert not red.ping(blue, timeout=0.2)
    assert blue.ping(red)


def test_the_host_knows_nothing_of_them(veth_pair):
    """No interface, no address and no file of theirs exists where this test runs."""
    left, right = veth_pair
    assert left.ping(right)
    for host in veth_pair:
        assert host.mac not in subprocess.check_output(["ip", "link"], text=True)
        assert f"inet {host.ip4}/" not in subprocess.check_output(["ip", "address"], text=True)
    named = Path("/run/netns").glob("*")
    assert not {file.stat().st_ino for file in named} & {left.inode, right.inode}
