"""``source=``: what a probe comes from."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from conversation import address_of, listen
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP
from slowness import patient

from pytest_netns import (
    Host,
    Lab,
    ProbeFailure,
    TopologyError,
    assert_arp,
    assert_blocked,
    assert_no_ping,
    assert_path,
    assert_ping,
    assert_tcp_closed,
    assert_tcp_filtered,
    assert_tcp_not_open,
    assert_tcp_open,
    assert_udp,
)

SHORT = patient(0.1)
versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def two(lab: Lab) -> tuple[Host, Host]:
    """``red`` and ``blue`` are on two links, and red has two addresses of each family on the first."""
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.1.0.0/24")
    lab.connect(red, blue, "10.2.0.0/24")
    red.add_address("10.1.0.77/24")
    red.add_address("fd00::77/64")
    return red, blue


PROBES = {
    "ping": lambda red, to, source: red.ping(to, source=source),
    "tcp": lambda red, to, source: red.tcp(to, 80, source=source),
    "udp": lambda red, to, source: red.udp(to, 9, b"x", source=source, timeout=SHORT),
    "dns": lambda red, to, source: red.dns(to, "x.example", port=9, source=source, timeout=SHORT),
    "trace": lambda red, to, source: red.trace(to, source=source),
    "path_mtu": lambda red, to, source: red.path_mtu(to, source=source, timeout=SHORT),
}


def to_address(address: object) -> Callable[[Any], bool]:
    """A filter: packets to an address."""
    text = str(address)
    return lambda packet: text in (packet[layer].dst for layer in (IP, IPv6) if layer in packet)


def sources(packets: list[Any], version: int) -> set[str]:
    """Where packets came from."""
    layer = IP if version == 4 else IPv6
    return {str(packet[layer].src) for packet in packets}


@versions
@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_comes_from_an_address(two: tuple[Host, Host], version: int, probe: str) -> None:
    red, blue = two
    own = "10.1.0.77" if version == 4 else "fd00::77"
    to = address_of(blue, version)
    for source in (own, ip_address(own)):
        with blue.capture("eth0", to_address(to)) as capture:
            result = PROBES[probe](red, to, source)
        assert sources(capture.packets, version) == {own}
        if probe in ("ping", "tcp", "udp"):
            assert str(result.bound_to) == own


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_leaves_by_an_interface(two: tuple[Host, Host], probe: str) -> None:
    red, blue = two
    far = blue.interfaces["eth1"].ip4
    red.sysctl["net.ipv4.conf.all.arp_ignore"] = 0
    for source in ("eth0", red.interfaces["eth0"]):
        with (
            red.capture("eth1", to_address(far)) as other,
            red.capture("eth0", lambda packet: ARP in packet or to_address(far)(packet)) as out,
        ):
            PROBES[probe](red, far, source)
        assert not other.packets
        assert out.packets


def test_arp_asks_by_an_interface_and_as_an_address(two: tuple[Host, Host]) -> None:
    red, blue = two
    with blue.capture(filter=ARP(op=1)) as capture:
        assert red.arp(blue.interfaces["eth0"], source="10.1.0.77").mac == blue.interfaces["eth0"].mac
        assert red.arp("10.2.0.2", source=red.interfaces["eth0"]).interface == "eth0"
    assert [packet[ARP].psrc for packet in capture.packets] == ["10.1.0.77", "10.1.0.1"]


@versions
def test_the_family_of_a_node_is_that_of_the_source(two: tuple[Host, Host], version: int) -> None:
    red, blue = two
    assert red.ping(blue, source="10.1.0.77" if version == 4 else "fd00::77").address.version == version


def test_a_node_is_reached_on_the_link_of_the_source(two: tuple[Host, Host]) -> None:
    red, blue = two
    assert red.ping(blue, source="eth0").address == blue.interfaces["eth0"].ip4
    assert red.ping(blue, source="eth1").address == blue.interfaces["eth1"].ip4


@pytest.mark.netns_requires("nft")
def test_a_firewall_that_knows_addresses_is_tested_by_them(two: tuple[Host, Host]) -> None:
    red, blue = two
    listen(blue, 80)
    listen(blue, 7, "udp")
    blue.nft("table ip fw { chain c { type filter hook input priority 0; ip saddr 10.1.0.77 drop; }; }")
    to = blue.interfaces["eth0"]
    assert_ping(red, to, source="10.1.0.1")
    assert_tcp_open(red, to, 80, source="10.1.0.1")
    assert_tcp_closed(red, to, 81, source="10.1.0.1")
    assert_path(red, to, [blue], source="10.1.0.1")
    assert_no_ping(red, to, source="10.1.0.77", timeout=SHORT)
    assert_tcp_filtered(red, to, 80, source="10.1.0.77", timeout=SHORT)
    assert_tcp_not_open(red, to, 80, source="10.1.0.77", timeout=SHORT)
    assert_arp(red, to, source="10.1.0.77")
    for asked in ({"port": 80}, {"port": 7, "protocol": "udp"}, {}):
        assert "10.1.0.77" in (assert_blocked(red, to, by=blue, source="10.1.0.77", timeout=SHORT, **asked).cause or "")
        with pytest.raises(ProbeFailure):
            assert_blocked(red, to, by=blue, source="10.1.0.1", timeout=SHORT, **asked)
    for ask in (
        lambda: assert_ping(red, to, source="10.1.0.77", timeout=SHORT),
        lambda: assert_tcp_open(red, to, 80, source="10.1.0.77", timeout=SHORT),
        lambda: assert_udp(red, to, 7, b"x", source="10.1.0.77", timeout=SHORT),
    ):
        with pytest.raises(ProbeFailure, match=r"cause: a netfilter rule on 'blue' drops the request: .*10.1.0.77"):
            ask()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("10.9.9.9", "'red' has no such address; its addresses: 10.1.0.1/24"),
        ("fd00::99", "is IPv6"),
        ("eth7", "neither an address nor an interface of 'red'"),
        ("", "neither an address nor an interface"),
        (7, "expected an address or an interface of 'red', not int"),
        (b"eth0", "not bytes"),
    ],
)
@pytest.mark.parametrize("probe", [*PROBES, "arp"])
def test_what_is_no_source_is_refused(two: tuple[Host, Host], probe: str, source: Any, says: str) -> None:
    red, blue = two
    ask = {**PROBES, "arp": lambda red, to, source: red.arp(to, source=source)}[probe]
    with pytest.raises(TopologyError, match=says):
        ask(red, blue.interfaces["eth0"].ip4, source)


def test_the_interface_of_another_node_is_refused(two: tuple[Host, Host]) -> None:
    red, blue = two
    with pytest.raises(TopologyError, match="not an interface of 'red'"):
        red.ping(blue, source=blue.interfaces["eth0"])


def test_link_local_addresses_need_no_zone_with_a_source(two: tuple[Host, Host]) -> None:
    red, blue = two
    for name in ("eth0", "eth1"):
        there = next(a.ip for a in blue.interfaces[name].addresses if a.is_link_local)
        other = "eth1" if name == "eth0" else "eth0"
        listen(blue, 80 if name == "eth0" else 81)
        own = next(a.ip for a in red.interfaces[name].addresses if a.is_link_local)
        for source in (name, red.interfaces[name], f"{own}%{name}", own):
            assert red.ping(there, source=source)
            assert red.tcp(there, 80, source=source)
            assert red.udp(there, 9, source=source).state == "closed"
        assert red.ping(f"{there}%{name}")
        assert not red.ping(f"{there}%{other}", timeout=SHORT)
        with pytest.raises(TopologyError, match=f"is not on red:{other}"):
            red.ping(f"{there}%{name}", source=other)
    with pytest.raises(TopologyError, match="say which one"):
        red.ping(there)
    with pytest.raises(TopologyError, match="only IPv6 addresses have a zone"):
        red.ping("10.1.0.2%eth0")


def test_an_interface_that_has_link_local_addresses_only_is_found_on_its_link(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, green, subnet=False)
    lab.connect(red, blue, subnet=False)
    switch = lab.bridge("switch", False)
    switch.attach(red)
    switch.attach(lab.host("grey"))
    assert red.ping(blue)
    assert red.ping(blue.interfaces["eth0"])
    assert red.ping(lab["grey"])
    lab.connect(red, blue, subnet=False)
    assert red.ping(blue.interfaces["eth1"])
    with pytest.raises(TopologyError, match="say which one"):
        red.ping(blue)


@pytest.mark.netns_requires("program:ip")
def test_routes_by_port_and_user_hold_for_probes(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.1.0.0/24")
    listen(blue, 80)
    listen(blue, 81)
    listen(blue, 53, "udp")
    red.run(["ip", "route", "add", "prohibit", "default", "table", "7"])
    for rule, ports in {
        "ipproto tcp dport 80": (80,),
        f"uidrange {os.getuid()}-{os.getuid()}": (80, 81),
        "ipproto tcp": (80, 81),
    }.items():
        red.run(["ip", "rule", "add", *rule.split(), "table", "7", "priority", "7"])
        for port in (80, 81):
            result = red.tcp(blue, port)
            assert result.state == ("unreachable" if port in ports else "open"), rule
        red.run(["ip", "rule", "delete", "priority", "7"])
    red.run(["ip", "rule", "add", "ipproto", "udp", "dport", "53", "table", "7", "priority", "7"])
    assert red.udp(blue, 53, b"x", timeout=SHORT).state == "unreachable"
    assert red.tcp(blue, 80)


@pytest.mark.netns_requires("program:ip", "nft")
def test_every_connection_chooses_among_equal_routes(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    routers = [lab.router(name) for name in ("good", "bad")]
    for router in routers:
        lab.connect(red, router)
    for router in routers:
        lab.connect(router, blue)
    lab.autoroute()
    blue.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"])
    for router in routers:
        router.add_route("192.0.2.1/32", via=blue)
    hops = [str(router.interfaces["eth0"].ip4) for router in routers]
    red.sysctl["net.ipv4.fib_multipath_hash_policy"] = 1
    red.run(["ip", "route", "add", "192.0.2.1/32", "nexthop", "via", hops[0], "nexthop", "via", hops[1]])
    routers[1].nft("table ip dead { chain c { type filter hook forward priority 0; ip daddr 192.0.2.1 drop; }; }")
    listen(blue, 80)
    states = [red.tcp("192.0.2.1", 80, timeout=SHORT).state for _ in range(40)]
    assert set(states) == {"open", "filtered"}  # 2 in 2**40 runs would all take one way
