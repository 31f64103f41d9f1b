from __future__ import annotations

from itertools import pairwise

import pytest
from conversation import address_of, listen
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Packet
from slowness import patient

from pytest_netns import Host, Lab, TopologyError, TraceResult
from pytest_netns.probe.trace import Method

versions = pytest.mark.parametrize("version", [4, 6])

UNDER: dict[str, type[Packet]] = {"icmp": ICMP, "udp": UDP, "tcp": TCP}


@pytest.fixture
def way(lab: Lab) -> list[Host]:
    """``red``, three routers, ``blue``: routed."""
    nodes = [lab.host("red"), *(lab.router(f"r{number}") for number in (1, 2, 3)), lab.host("blue")]
    for left, right in pairwise(nodes):
        lab.connect(left, right)
    lab.autoroute()
    return nodes


@versions
def test_a_trace_shows_every_hop_in_order(way: list[Host], version: int) -> None:
    red, *routers, blue = way
    found = red.trace(address_of(blue, version))
    assert isinstance(found, TraceResult)
    assert found
    assert found.reached
    assert found.error is None
    assert found.path == ["r1", "r2", "r3", "blue"]
    assert [hop.ttl for hop in found.hops] == [1, 2, 3, 4]
    # a router answers from the interface that the packet came in by, its first one here
    near = [address_of(router.interfaces["eth0"], version) for router in routers]
    assert [hop.address for hop in found.hops] == [*near, address_of(blue, version)]


def test_a_trace_reads_as_a_sentence(way: list[Host]) -> None:
    red, r1, *_, blue = way
    near = r1.interfaces["eth0"].ip4
    shown = repr(red.trace(blue))
    assert shown.startswith(f"<TraceResult red -> blue ({blue.ip4}): 1 r1 ({near}), 2 r2 (")
    assert shown.endswith(f"4 blue ({blue.ip4})>")


@versions
@pytest.mark.parametrize("method", ["icmp", "udp", "tcp"])
def test_every_method_finds_the_same_way(way: list[Host], version: int, method: Method) -> None:
    red, *_, blue = way
    with blue.capture("eth0", UNDER[method]) as capture:
        found = red.trace(address_of(blue, version), method=method)
    assert found
    assert found.path == ["r1", "r2", "r3", "blue"]
    assert found.hops[-1].rtt is not None
    if version == 4 or method != "icmp":  # for IPv6 scapy has a layer for each kind of ICMP message
        assert len(capture) >= 1


@versions
def test_a_trace_by_tcp_ends_at_an_open_port_too(way: list[Host], version: int) -> None:
    red, *_, blue = way
    with listen(blue, 8080):
        assert red.trace(address_of(blue, version), method="tcp", port=8080).path[-1] == "blue"


def test_the_port_is_the_one_that_was_asked_for(way: list[Host]) -> None:
    red, *_, blue = way
    for method, port, asked in (("udp", None, 33434), ("tcp", None, 80), ("udp", 7, 7), ("tcp", 8080, 8080)):
        with blue.capture("eth0") as capture:
            assert red.trace(blue.ip4, method=method, port=port)
            capture.expect(UNDER[method](dport=asked))


@pytest.mark.netns_requires("nft")
def test_a_wall_against_one_method_lets_the_others_through(way: list[Host]) -> None:
    red, _, r2, _, blue = way
    r2.nft("table ip wall { chain c { type filter hook forward priority 0; meta l4proto udp drop; }; }")
    assert red.trace(blue.ip4, method="tcp")
    found = red.trace(blue.ip4, method="udp", timeout=patient(0.05))
    assert not found
    assert found.path == ["r1", "r2", "*", "*", "*"]


@pytest.mark.parametrize("wrong", ["sctp", "", None, "ICMP"])
def test_an_unknown_method_is_a_value_error(way: list[Host], wrong: Method) -> None:
    with pytest.raises(ValueError, match=r"method is .*; it can be 'icmp', 'udp' or 'tcp'"):
        way[0].trace(way[-1], method=wrong)


@pytest.mark.parametrize("wrong", [-1, 65536, True, "80"])
def test_a_port_out_of_range_is_a_value_error(way: list[Host], wrong: int) -> None:
    with pytest.raises(ValueError, match=r"port is .*; it can be 1 to 65535"):
        way[0].trace(way[-1], method="tcp", port=wrong)


def test_a_neighbour_is_one_hop_away(way: list[Host]) -> None:
    assert way[0].trace(way[1].interfaces["eth0"]).path == ["r1"]


def test_a_round_trip_time_is_known_for_the_destination(way: list[Host]) -> None:
    last = way[0].trace(way[-1]).hops[-1]
    assert last.rtt is not None
    assert last.rtt > 0


@versions
def test_without_a_route_the_trace_is_empty_and_says_why(way: list[Host], version: int) -> None:
    found = way[0].trace({4: "203.0.113.1", 6: "2001:db8::1"}[version])
    assert not found
    assert found.hops == ()
    assert found.error is not None
    assert found.error.text == "Network is unreachable"
    assert "no hop: Network is unreachable" in repr(found)


@versions
def test_the_router_that_knows_no_way_ends_the_trace_with_its_words(way: list[Host], version: int) -> None:
    red, _, r2, *_ = way
    target = {4: "203.0.113.1", 6: "2001:db8::1"}[version]
    red.default_route(way[1])
    way[1].default_route(r2)
    found = red.trace(target)
    assert not found
    assert found.path == ["r1", "r2"]
    assert found.error is not None
    assert found.error.text == {4: "Destination Net Unreachable", 6: "No route"}[version]
    assert found.error.sender == address_of(r2.interfaces["eth0"], version)


@versions
@pytest.mark.netns_requires("nft")
def test_a_router_that_does_not_answer_is_a_star(way: list[Host], version: int) -> None:
    red, _, r2, *_, blue = way
    kind = {4: "icmp type time-exceeded", 6: "icmpv6 type time-exceeded"}[version]
    r2.nft(f"table inet mute {{ chain out {{ type filter hook output priority 0; {kind} drop; }}; }}")
    found = red.trace(address_of(blue, version), timeout=patient(0.2))
    assert found
    assert found.path == ["r1", "*", "r3", "blue"]
    assert found.hops[1].address is None
    assert ", 2 *, " in repr(found)


def test_three_silent_hops_end_the_trace(way: list[Host]) -> None:
    red, _, r2, *_, blue = way
    r2.add_route(blue.ip4, kind="blackhole")
    found = red.trace(blue.ip4, timeout=patient(0.1))
    assert not found
    assert found.path == ["r1", "*", "*", "*"]
    assert repr(found).endswith(": not reached>")


def test_max_hops_is_how_far_it_looks(way: list[Host]) -> None:
    found = way[0].trace(way[-1], max_hops=2)
    assert not found
    assert found.path == ["r1", "r2"]
    assert found.error is None


def test_a_loop_is_seen(way: list[Host]) -> None:
    red, r1, r2, *_ = way
    red.default_route(r1)
    r1.default_route(r2)
    r2.default_route(r1)
    found = red.trace("203.0.113.1", max_hops=6)
    assert not found
    assert found.path == ["r1", "r2"] * 3


@pytest.mark.netns_requires("nft")
def test_an_address_that_no_node_has_is_shown_as_it_is(way: list[Host]) -> None:
    red, r1, *_ = way
    red.default_route(r1)
    chain = "chain pre { type nat hook prerouting priority -100; ip daddr 203.0.113.1 dnat to "
    r1.nft(f"table ip away {{ {chain} {way[-1].ip4}; }}; }}")
    found = red.trace("203.0.113.1")
    assert found
    assert len(found.hops) == 4
    assert found.path[-1] == "203.0.113.1"


def test_a_node_that_was_closed_is_no_hindrance(way: list[Host]) -> None:
    red, r1, *_, r3, blue = way
    r3.lab.host("ghost").close()
    assert red.trace(r1.interfaces["eth0"]).path == ["r1"]
    blue.close()
    assert red.trace(r3.interfaces["eth0"]).path == ["r1", "r2", "r3"]


@pytest.mark.parametrize("max_hops", [0, 256, True])
def test_max_hops_out_of_range_is_a_value_error(way: list[Host], max_hops: int) -> None:
    with pytest.raises(ValueError, match=r"max_hops is .*; it can be 1 to 255"):
        way[0].trace(way[-1], max_hops=max_hops)


def test_a_name_instead_of_a_node_is_a_topology_error(way: list[Host]) -> None:
    with pytest.raises(TopologyError, match=r"'blue' is not an address"):
        way[0].trace("blue")
