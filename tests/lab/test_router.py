from __future__ import annotations

from itertools import pairwise

import pytest
from conversation import address_of

from pytest_netns import Host, Lab, Router


def two_networks(lab: Lab, **sysctls: int) -> tuple[Host, Router, Host]:
    """``red`` and ``blue`` on two networks, and a router between them that both know."""
    west, east = lab.bridge("west"), lab.bridge("east")
    router = lab.router("router", west, east, sysctls={f"net.{name}": value for name, value in sysctls.items()})
    red, blue = lab.host("red", west), lab.host("blue", east)
    red.default_route(router)
    blue.default_route(router)
    return red, router, blue


@pytest.mark.parametrize("version", [4, 6])
def test_a_router_forwards_and_takes_one_off_the_time_to_live(lab: Lab, version: int) -> None:
    red, router, blue = two_networks(lab)
    assert red.ping(address_of(router, version)).ttl == 64
    reply = red.ping(address_of(blue, version))
    assert reply
    assert reply.ttl == 63


@pytest.mark.parametrize("version", [4, 6])
def test_the_time_to_live_decreases_hop_by_hop(lab: Lab, version: int) -> None:
    nodes = [lab.host("start"), *(lab.router(f"r{number}") for number in range(1, 6)), lab.host("end")]
    for left, right in pairwise(nodes):
        lab.connect(left, right)
    lab.autoroute()
    target = address_of(nodes[-1], version)
    assert nodes[0].ping(target).ttl == 64 - 5
    assert nodes[0].ping(target, ttl=6)
    expired = nodes[0].ping(target, ttl=5)
    assert not expired
    assert expired.error is not None
    assert expired.error.sender in [address.ip for address in nodes[5].addresses()]


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_does_not_forward(lab: Lab, version: int) -> None:
    red, blue, middle = lab.host("red"), lab.host("blue"), lab.host("middle")
    lab.connect(red, middle)
    lab.connect(middle, blue)
    red.default_route(middle)
    blue.default_route(middle)
    assert red.ping(address_of(middle, version))
    assert not red.ping(address_of(blue, version), timeout=0.2)


def test_forwarding_can_be_switched_off_at_birth_and_on_in_a_test(lab: Lab) -> None:
    red, router, blue = two_networks(lab, **{"ipv4.ip_forward": 0})
    assert not red.ping(blue.ip4, timeout=0.2)
    assert red.ping(blue.ip6)
    router.sysctl["net.ipv4.ip_forward"] = 1
    assert red.ping(blue.ip4)


def test_a_router_has_an_interface_and_an_address_on_each_of_its_networks(lab: Lab) -> None:
    _, router, _ = two_networks(lab)
    west, east = lab["west"], lab["east"]
    assert list(router.interfaces) == ["lo", "eth0", "eth1"]
    assert router.interfaces["eth0"].ip4 in west.subnet  # type: ignore[attr-defined]
    assert router.interfaces["eth1"].ip4 in east.subnet  # type: ignore[attr-defined]


def test_a_router_has_addresses_that_were_asked_for(lab: Lab) -> None:
    west, east = lab.bridge("west", "192.0.2.0/24"), lab.bridge("east", "198.51.100.0/24")
    router = lab.router("router", west, east, address=["192.0.2.254", None])
    assert [str(a) for a in router.addresses() if a.version == 4] == ["192.0.2.254/24", "198.51.100.1/24"]


@pytest.mark.parametrize("version", [4, 6])
def test_a_router_owes_an_error_for_every_packet_that_expires(lab: Lab, version: int) -> None:
    red, router, blue = two_networks(lab)
    expected = address_of(router.interfaces["eth0"], version)
    for _ in range(20):
        answer = red.ping(address_of(blue, version), ttl=1)
        assert answer.error is not None
        assert answer.error.sender == expected


def test_a_router_teaches_no_host_to_bypass_it(lab: Lab) -> None:
    lan = lab.bridge("lan", "192.0.2.0/24")
    first, second = lab.router("first", lan), lab.router("second", lan)
    red, far = lab.host("red", lan), lab.host("far")
    lab.connect(second, far, "198.51.100.0/24")
    red.add_route("198.51.100.0/24", first)
    first.add_route("198.51.100.0/24", second)
    far.default_route(second)
    assert red.ping(second.ip4)  # a redirect to a neighbour that it does not know yet would not count at once
    assert red.ping(far.ip4)
    assert red.route_to(far.ip4).gateway == first.ip4
