from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from pytest_netns import Host, Lab, TopologyError, assert_no_ping, assert_ping
from pytest_netns.stack.destination import resolve


def test_a_node_is_its_address_on_a_common_subnet(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(blue, green)
    common = lab.connect(red, blue)
    target = resolve(red, blue)
    assert target.address == common.b.ip4
    assert target.label == f"blue ({common.b.ip4})"


def test_ipv4_comes_before_ipv6_and_ipv6_is_taken_where_only_that_is_common(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue)
    lab.connect(red, green, addresses=("fd09::1/64", "fd09::2/64"))
    assert resolve(red, blue).address.version == 4
    assert resolve(red, green).address == ip_address("fd09::2")
    assert red.ping(green)


def test_a_node_on_no_common_subnet_is_its_first_address_of_a_known_family(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, lab.host("x"))
    lab.connect(blue, lab.host("y"))
    assert resolve(red, blue).address == blue.ip4


def test_addresses_are_taken_as_they_are(lab: Lab) -> None:
    red = lab.host("red")
    for text in ("198.51.100.1", "2001:db8::1"):
        for destination in (text, ip_address(text), ip_interface(f"{text}/24")):
            target = resolve(red, destination)
            assert (target.address, target.label, target.scope) == (ip_address(text), text, 0)


def test_a_link_local_address_gets_the_only_interface_or_the_one_named(lab: Lab) -> None:
    red = lab.host("red")
    first = lab.connect(red, lab.host("blue"))
    assert resolve(red, "fe80::1").scope == first.a.index
    second = lab.connect(red, lab.host("green"))
    assert resolve(red, "fe80::1%eth1").scope == second.a.index
    assert resolve(red, ip_address("fe80::1%eth0")).scope == first.a.index
    with pytest.raises(TopologyError, match=r"'red' has 2 interfaces; say which one: 'fe80::1%eth0'"):
        resolve(red, "fe80::1")
    with pytest.raises(TopologyError, match="no interface 'eth7'"):
        resolve(red, "fe80::1%eth7")


def test_an_interface_means_its_own_addresses(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    target = resolve(red, link.b)
    assert (target.address, target.label) == (link.b.ip4, f"blue:eth0 ({link.b.ip4})")


def test_nodes_that_have_nothing_but_link_local_addresses_are_reached_by_those(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, subnet=False)
    assert resolve(red, blue).scope == link.a.index
    assert red.ping(blue)


@pytest.mark.parametrize("destination", ["blue", "", "10.0.0", "10.0.0.1/24", 7, None, b"10.0.0.1", 1.5])
def test_anything_else_is_refused(lab: Lab, destination: object) -> None:
    with pytest.raises(TopologyError, match=r"a destination is|is not an address"):
        resolve(lab.host("red"), destination)  # type: ignore[arg-type]


PROBES: list[Callable[[Host, Any], object]] = [
    lambda red, to: red.ping(to),
    lambda red, to: red.arp(to),
    lambda red, to: red.tcp(to, 80),
    lambda red, to: red.udp(to, 53),
    lambda red, to: red.dns(to, "x.example"),
    lambda red, to: red.trace(to),
    lambda red, to: red.path_mtu(to),
    assert_ping,
    assert_no_ping,
    lambda red, to: red.lab.throughput(red, to, seconds=0.1),
    lambda red, to: red.lab.loss(red, to, count=1),
]


@pytest.mark.parametrize("ask", PROBES)
def test_nodes_of_another_lab_are_refused_though_they_have_the_same_addresses(
    lab: Lab, ask: Callable[[Host, Any], object]
) -> None:
    with Lab("other") as other:
        red, blue = lab.bridge("lan").host("red"), other.bridge("lan").host("blue")
        for to in (blue, blue.interfaces["eth0"]):
            with pytest.raises(TopologyError, match=r"'blue' from 'red': it is a node of another lab .*'other'"):
                ask(red, to)
        assert red.ip4 == blue.ip4


def test_connections_to_nodes_of_another_lab_are_refused(lab: Lab) -> None:
    with Lab("other") as other:
        red, blue = lab.bridge("lan").host("red"), other.bridge("lan").host("blue")
        with pytest.raises(TopologyError, match="it is a node of another lab"):
            asyncio.run(red.open_connection(blue, 80))
        with pytest.raises(TopologyError, match="it is a node of another lab"):
            asyncio.run(red.start_server(lambda _, __: None, blue, 80))
