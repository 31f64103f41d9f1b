from __future__ import annotations

import socket
from dataclasses import dataclass

import pytest
from conversation import address_of

from pytest_netns import Host, Lab, Router, TopologyError

pytestmark = pytest.mark.netns_requires("nft")

versions = pytest.mark.parametrize("version", [4, 6])
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True)
class Site:
    """``red`` and ``blue`` behind a router, ``far`` outside, which has no route to them."""

    router: Router
    red: Host
    blue: Host
    far: Host


@pytest.fixture
def site(lab: Lab) -> Site:
    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "203.0.113.0/24")
    router = lab.router("router", lan, wan)
    red, blue = lan.host("red"), lan.host("blue")
    for host in (red, blue):
        host.default_route(router)
    return Site(router, red, blue, wan.host("far"))


def datagrams(host: Host, version: int, port: int = 0) -> socket.socket:
    """A socket of a host that gives up soon."""
    made = host.socket(_FAMILY[version], socket.SOCK_DGRAM)
    made.bind(("", port))
    made.settimeout(5)
    return made


# ---------------------------------------------------------------- list


@versions
def test_a_translated_connection_is_shown_with_both_directions(site: Site, version: int) -> None:
    site.router.masquerade("eth1")
    sender, receiver = datagrams(site.red, version), datagrams(site.far, version, 5353)
    inside, outside = address_of(site.red, version), address_of(site.far, version)
    sender.sendto(b"ask", (str(outside), 5353))
    _, peer = receiver.recvfrom(9)
    [found] = site.router.connections
    assert (found.protocol, found.original.source, found.original.destination) == ("udp", inside, outside)
    assert (found.original.source_port, found.original.destination_port) == (sender.getsockname()[1], 5353)
    assert (str(found.reply.destination), found.reply.destination_port) == peer[:2]
    assert (found.source_nat, found.destination_nat, found.replied, found.state) == (True, False, False, None)
    assert 0 < found.timeout <= 30
    receiver.sendto(b"answer", peer)
    assert sender.recv(9) == b"answer"
    assert site.router.connections[0].replied


def test_tcp_has_a_state_and_icmp_an_identifier(site: Site) -> None:
    site.router.masquerade("eth1")
    server = site.far.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("", 80))
    server.listen()
    client = site.red.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect((str(site.far.ip4), 80))
    assert site.blue.ping(site.far.ip4)
    [tcp] = site.router.connections.filter(protocol="tcp")
    assert (tcp.state, tcp.assured) == ("ESTABLISHED", True)
    [icmp] = site.router.connections.filter(protocol="icmp")
    assert icmp.original.source_port is None
    assert icmp.original.icmp is not None
    assert icmp.reply.icmp == (0, 0, icmp.original.icmp[2])


def test_it_reads_like_conntrack(site: Site) -> None:
    assert str(site.router.connections) == "no connection is tracked by 'router'"
    site.router.masquerade("eth1")
    sender = datagrams(site.red, 4, 4000)
    sender.sendto(b"x", (str(site.far.ip4), 53))
    shown = str(site.router.connections)
    assert shown.startswith(f"udp src={site.red.ip4} dst={site.far.ip4} sport=4000 dport=53 | src={site.far.ip4} dst=")
    assert "[UNREPLIED] [SNAT] (" in shown
    without_time = shown.rpartition(" (")[0]
    assert repr(site.router.connections).startswith(f"<1 connection of 'router': {without_time} (")


def test_packets_are_counted_where_the_kernel_was_told_to(site: Site) -> None:
    site.router.masquerade("eth1")
    site.router.sysctl["net.netfilter.nf_conntrack_acct"] = 1
    assert site.red.ping(site.far.ip4, count=3, size=56)
    [found] = site.router.connections
    assert (found.packets, found.bytes) == (6, 6 * 84)
    site.router.sysctl["net.netfilter.nf_conntrack_acct"] = 0
    assert site.blue.ping(site.far.ip4)
    [other] = site.router.connections.filter(source=site.blue)
    assert (other.packets, other.bytes) == (None, None)


# -------------------------------------------------------------- filter


def test_each_keyword_picks_a_part(site: Site) -> None:
    router = site.router
    router.masquerade("eth1")
    datagrams(site.red, 4, 4000).sendto(b"x", (str(site.far.ip4), 53))
    datagrams(site.blue, 6, 4001).sendto(b"x", (str(site.far.ip6), 54))
    assert site.blue.ping(site.far.ip4)
    outside = router.interfaces["eth1"]

    def ports(**match: object) -> list[int | None]:
        found = router.connections.filter(**match)  # type: ignore[arg-type]
        return sorted((each.original.destination_port for each in found), key=str)

    assert ports() == [53, 54, None]
    assert ports(protocol="udp") == [53, 54]
    assert ports(source=site.red) == ports(source=site.red.ip4) == ports(source="10.1.0.2/32") == [53]
    assert ports(destination=site.far.ip6) == [54]
    assert ports(port=54) == [54]
    assert ports(reply_destination=outside) == [53, 54, None]
    assert ports(reply_source=site.far.ip4) == [53, None]
    assert ports(replied=True) == [None]
    assert ports(state="ESTABLISHED") == ports(mark=7) == ports(protocol="udp", source=site.red, port=54) == []
    narrowed = router.connections.filter(protocol="udp").filter(port=53)
    assert len(narrowed) == 1
    assert narrowed[0] in router.connections


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ({"sport": 53}, "unknown: sport; known are protocol, source"),
        ({"source": "nobody"}, "source='nobody'"),
        ({"destination": 5}, "destination=5"),
    ],
)
def test_what_cannot_be_understood_is_refused(site: Site, match: dict[str, object], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        site.router.connections.filter(**match)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=words):
        site.router.connections.flush(**match)  # type: ignore[arg-type]


def test_a_port_is_within_its_range(site: Site) -> None:
    with pytest.raises(ValueError, match="port is 0"):
        site.router.connections.filter(port=0)


# --------------------------------------------------------------- flush


def test_flush_forgets_what_matches_and_says_how_many(site: Site) -> None:
    site.router.masquerade("eth1")
    for host in (site.red, site.blue):
        assert host.ping(site.far.ip4)
        assert host.ping(site.far.ip6)
    assert site.router.connections.flush(protocol="icmp", source=site.red) == 1
    assert site.router.connections.filter(protocol="icmpv6").flush() == 2
    [left] = site.router.connections
    assert left.original.source == site.blue.ip4
    assert site.router.connections.flush() == 1
    assert len(site.router.connections) == 0


@versions
def test_a_flow_stays_with_the_old_target_of_a_port_until_it_is_flushed(site: Site, version: int) -> None:
    first, second = datagrams(site.red, version, 6000), datagrams(site.blue, version, 6000)
    client = datagrams(site.far, version)
    public = str(address_of(site.router.interfaces["eth1"], version)), 5000
    rule = site.router.forward_port(5000, site.red, 6000, protocol="udp", on="eth1")
    client.sendto(b"one", public)
    assert first.recv(9) == b"one"
    rule.change(to=site.blue)
    client.sendto(b"two", public)
    assert first.recv(9) == b"two"
    rule.change(to=site.blue, flush=True)
    client.sendto(b"three", public)
    assert second.recv(9) == b"three"


def test_a_port_that_is_forwarded_later_takes_over_what_came_before(site: Site) -> None:
    site.router.masquerade("eth1")  # connections are tracked from here on
    public = str(site.router.interfaces["eth1"].ip4), 5000
    own, client = datagrams(site.router, 4, 5000), datagrams(site.far, 4)
    client.sendto(b"one", public)
    assert own.recv(9) == b"one"
    site.router.forward_port(5000, site.red, 6000, protocol="udp", on="eth1", flush=True)
    target = datagrams(site.red, 4, 6000)
    client.sendto(b"two", public)
    assert target.recv(9) == b"two"


def test_other_connections_are_left_alone(site: Site) -> None:
    site.router.masquerade("eth1")
    assert site.red.ping(site.far.ip4)
    datagrams(site.far, 4, 7000).sendto(b"x", (str(site.router.interfaces["eth1"].ip4), 5001))
    before = {(each.protocol, each.original) for each in site.router.connections}
    rule = site.router.forward_port(5000, site.blue, protocol="udp", flush=True)
    rule.change(to_port=5002, flush=True)
    rule.remove(flush=True)
    assert {(each.protocol, each.original) for each in site.router.connections} == before
    assert len(before) == 2


@versions
def test_a_masquerade_made_later_translates_what_is_under_way(site: Site, version: int) -> None:
    site.router.forward_port(9, site.red, protocol="udp", on="eth1")  # so that connections are tracked
    client, server = datagrams(site.red, version), datagrams(site.far, version, 53)
    to = str(address_of(site.far, version)), 53
    client.sendto(b"one", to)
    assert server.recvfrom(9)[1][0] == str(address_of(site.red, version))
    site.router.masquerade("eth1")
    client.sendto(b"two", to)
    assert server.recvfrom(9)[1][0] == str(address_of(site.red, version))
    site.router.masquerade("eth1", flush=True)
    client.sendto(b"three", to)
    assert server.recvfrom(9)[1][0] == str(address_of(site.router.interfaces["eth1"], version))


def test_a_masquerade_that_goes_lets_go_of_its_connections(site: Site) -> None:
    keep = site.router.forward_port(9, site.red, protocol="udp", on="eth1")
    rule = site.router.masquerade("eth1")
    client, server = datagrams(site.red, 4), datagrams(site.far, 4, 53)
    client.sendto(b"one", (str(site.far.ip4), 53))
    assert server.recvfrom(9)[1][0] == str(site.router.interfaces["eth1"].ip4)
    rule.remove(flush=True)
    client.sendto(b"two", (str(site.far.ip4), 53))
    assert server.recvfrom(9)[1][0] == str(site.red.ip4)
    assert keep in site.router.nat.rules


def test_a_host_with_a_stateful_firewall_has_connections_too(site: Site) -> None:
    site.far.nft("table inet f { chain c { type filter hook input priority 0; ct state established accept; }; }")
    assert site.router.ping(site.far.ip4)
    [found] = site.far.connections
    assert found.original.destination == site.far.ip4
