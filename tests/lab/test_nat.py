from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from conversation import Address, Call, address_of, listen, seen_as, settled_routes

from pytest_netns import Host, KernelError, Lab, Router, TopologyError
from pytest_netns.kernel.features.features import feature

pytestmark = pytest.mark.netns_requires("nft")

versions = pytest.mark.parametrize("version", [4, 6])
protocols = pytest.mark.parametrize("protocol", ["tcp", "udp"])


@dataclass(frozen=True)
class Site:
    """``red``, ``blue`` and ``old`` (IPv4 only) behind a router; ``far`` outside, which has no route to them."""

    lab: Lab
    router: Router
    red: Host
    blue: Host
    old: Host
    far: Host

    def inner(self, version: int) -> Address:
        """The router's address on the LAN."""
        return address_of(self.router.interfaces["eth0"], version)

    def outer(self, version: int) -> Address:
        """The router's address outside."""
        return address_of(self.router.interfaces["eth1"], version)

    def picture(self) -> object:
        """All that a rule could have changed."""
        return (self.router.nft_ruleset(), self.router.nat.rules, settled_routes(self.router))


@pytest.fixture
def site(lab: Lab) -> Site:
    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "203.0.113.0/24")
    router = lab.router("router", lan, wan)
    red, blue, old = lan.host("red"), lan.host("blue"), lab.host("old")
    lab.connect(old, lan, addresses=("10.1.0.99", []))
    for host in (red, blue, old):
        host.default_route(router)
    return Site(lab, router, red, blue, old, wan.host("far"))


def settle(router: Router) -> None:
    """Wait until the kernel has really dropped the rules that were removed: a leaving nft program waits for that."""
    if feature("program:nft").present:
        router.run(["nft", "list", "tables"])


# ------------------------------------------------------------ masquerade


@versions
@protocols
def test_masquerade_gives_what_leaves_the_address_of_the_router(site: Site, version: int, protocol: str) -> None:
    server = listen(site.far, 7, protocol)
    target = address_of(site.far, version)
    assert not site.red.ping(target, timeout=0.2)  # far has no way back
    site.router.masquerade("eth1")
    assert seen_as(site.red, target, 7, server) == site.outer(version)
    assert seen_as(site.blue, target, 7, server) == site.outer(version)
    answer = site.red.ping(target)
    assert answer
    assert answer.ttl == 63


@pytest.mark.parametrize("how", ["name", "interface", "bridge", "neighbour"])
def test_the_interface_can_be_named_in_four_ways(site: Site, how: str) -> None:
    cable = site.lab.connect(site.router, site.lab.host("cabled"), "198.51.100.0/24")
    rule = site.router.masquerade(
        {
            "name": "eth1",
            "interface": site.router.interfaces["eth1"],
            "bridge": site.lab["wan"],
            "neighbour": site.lab["cabled"],
        }[how]
    )
    if how == "neighbour":
        assert rule.out == cable.a
        assert site.red.ping(cable.b.ip4)
    else:
        assert rule.out == site.router.interfaces["eth1"]
        assert site.red.ping(site.far.ip4)
    assert repr(rule) == f"<masquerade on router.{rule.out.name}>" or str(rule.out) in repr(rule)


@versions
def test_masquerade_leaves_alone_what_goes_the_other_way(site: Site, version: int) -> None:
    site.router.masquerade("eth1")
    site.far.default_route(site.router)
    server = listen(site.red, 7)
    assert seen_as(site.far, address_of(site.red, version), 7, server) == address_of(site.far, version)
    assert seen_as(site.blue, address_of(site.red, version), 7, server) == address_of(site.blue, version)


def test_the_counter_of_a_masquerade_counts_connections(site: Site) -> None:
    rule = site.router.masquerade("eth1")
    assert (rule.counter.packets, rule.counter.bytes) == (0, 0)
    server = listen(site.far, 7)
    for _ in range(3):
        seen_as(site.red, site.far.ip4, 7, server)
    assert rule.counter.packets == 3
    seen_as(site.red, site.far.ip6, 7, server)
    assert rule.counter.packets == 4
    assert rule.counter.bytes > 4 * 40


@versions
def test_a_removed_masquerade_is_gone_and_established_connections_go_on(site: Site, version: int) -> None:
    rule = site.router.masquerade("eth1")
    server = listen(site.far, 7)
    call = Call(site.red, address_of(site.far, version), 7, server)
    rule.remove()
    settle(site.router)
    call.talk()
    assert site.router.nat.rules == ()
    site.far.default_route(site.router)
    assert seen_as(site.red, address_of(site.far, version), 7, server) == address_of(site.red, version)
    call.talk()
    call.end()


# ------------------------------------------------------------ forwarded ports


@versions
@protocols
def test_a_forwarded_port_is_reached_from_outside(site: Site, version: int, protocol: str) -> None:
    server = listen(site.blue, 80, protocol)
    site.router.forward_port(8080, site.blue, 80, protocol=protocol)  # type: ignore[arg-type]
    assert seen_as(site.far, site.outer(version), 8080, server) == address_of(site.far, version)


@versions
@protocols
def test_a_forwarded_port_is_reached_from_the_lan_itself(site: Site, version: int, protocol: str) -> None:
    server = listen(site.blue, 80, protocol)
    site.router.forward_port(8080, site.blue, 80, protocol=protocol)  # type: ignore[arg-type]
    for address in (site.outer(version), site.inner(version)):
        assert seen_as(site.red, address, 8080, server) == site.inner(version)


@versions
@protocols
def test_a_forwarded_port_is_reached_by_the_server_itself(site: Site, version: int, protocol: str) -> None:
    server = listen(site.blue, 80, protocol)
    site.router.forward_port(8080, site.blue, 80, protocol=protocol)  # type: ignore[arg-type]
    assert seen_as(site.blue, site.outer(version), 8080, server) == site.inner(version)


@versions
@protocols
def test_a_forwarded_port_is_reached_from_the_router(site: Site, version: int, protocol: str) -> None:
    server = listen(site.blue, 80, protocol)
    site.router.forward_port(8080, site.blue, 80, protocol=protocol)  # type: ignore[arg-type]
    for address in (site.outer(version), site.inner(version)):
        seen_as(site.router, address, 8080, server)


@versions
def test_loopback_of_the_router_is_its_own(site: Site, version: int) -> None:
    site.router.forward_port(8080, site.blue, 80)
    loopback = {4: "127.0.0.1", 6: "::1"}[version]
    own = listen(site.router, 8080, address=loopback)
    call = Call(site.router, type(site.outer(version))(loopback), 8080, own)  # type: ignore[arg-type]
    assert str(call.peer) == loopback
    call.end()


@versions
def test_without_another_port_it_is_the_same_one(site: Site, version: int) -> None:
    server = listen(site.blue, 80)
    site.router.forward_port(80, site.blue)
    seen_as(site.far, site.outer(version), 80, server)


def test_other_ports_and_the_other_protocol_are_not_forwarded(site: Site) -> None:
    listen(site.blue, 80)
    listen(site.blue, 81)
    site.router.forward_port(80, site.blue, protocol="udp")
    site.router.forward_port(81, site.blue)
    for version in (4, 6):
        assert site.far.tcp(site.outer(version), 80).state == "closed"
        assert site.far.tcp(site.outer(version), 81).state == "open"


@versions
def test_on_an_interface_only_its_addresses_count(site: Site, version: int) -> None:
    listen(site.blue, 80)
    site.router.forward_port(8080, site.blue, 80, on="eth1")
    assert site.far.tcp(site.outer(version), 8080).state == "open"
    assert site.red.tcp(site.outer(version), 8080).state == "open"
    assert site.red.tcp(site.inner(version), 8080).state == "closed"
    assert site.router.tcp(site.inner(version), 8080).state == "closed"


def test_one_port_leads_to_two_servers_by_the_interface_that_is_asked(site: Site) -> None:
    second = site.lab.connect(site.router, site.lab.host("elsewhere"), "198.51.100.0/24")
    listeners = {host.name: listen(host, 80) for host in (site.red, site.blue)}
    site.router.forward_port(80, site.blue, on=site.lab["wan"])
    site.router.forward_port(80, site.red, on=second.a)
    seen_as(site.far, site.outer(4), 80, listeners["blue"])
    seen_as(site.lab["elsewhere"], second.a.ip4, 80, listeners["red"])


def test_forwarding_to_an_address_is_for_its_family(site: Site) -> None:
    server = listen(site.blue, 80)
    site.router.forward_port(8080, str(site.blue.ip4), 80)
    seen_as(site.far, site.outer(4), 8080, server)
    assert site.far.tcp(site.outer(6), 8080).state == "closed"


def test_a_target_of_one_family_is_forwarded_to_in_that_family(site: Site) -> None:
    server = listen(site.old, 80)
    site.router.forward_port(8080, site.old, 80)
    seen_as(site.far, site.outer(4), 8080, server)
    assert site.far.tcp(site.outer(6), 8080).state == "closed"


def test_a_target_behind_another_router_is_behind_this_one_too(site: Site) -> None:
    inner = site.lab.router("inner")
    site.lab["lan"].attach(inner)  # type: ignore[attr-defined]
    deep = site.lab.host("deep")
    site.lab.connect(inner, deep, "192.0.2.0/24")
    deep.default_route(inner)
    inner.default_route(site.router)
    with pytest.raises(TopologyError, match=r"'deep' .* is not behind it"):
        site.router.forward_port(80, deep)
    site.router.add_route(deep, inner)
    server = listen(deep, 80)
    site.router.forward_port(80, deep)
    for version in (4, 6):
        assert seen_as(site.far, site.outer(version), 80, server) == address_of(site.far, version)
    seen_as(site.router, site.outer(4), 80, server)


def test_the_counter_of_a_forwarded_port_counts_connections_from_everywhere(site: Site) -> None:
    rule = site.router.forward_port(8080, site.blue, 80)
    server = listen(site.blue, 80)
    assert rule.counter.packets == 0
    seen_as(site.far, site.outer(4), 8080, server)
    seen_as(site.far, site.outer(6), 8080, server)
    seen_as(site.red, site.outer(4), 8080, server)
    seen_as(site.router, site.outer(4), 8080, server)
    assert rule.counter.packets == 4


# ------------------------------------------------------------ changes during a test


@versions
def test_a_changed_target_gets_new_connections_and_established_ones_stay(site: Site, version: int) -> None:
    blue, red = listen(site.blue, 80), listen(site.red, 80)
    rule = site.router.forward_port(8080, site.blue, 80)
    old = Call(site.far, site.outer(version), 8080, blue)
    rule.change(to=site.red)
    new = Call(site.far, site.outer(version), 8080, red)
    old.talk()
    new.talk()
    assert rule.counter.packets == 2  # counters stay
    assert "to 10.1.0.2" in repr(rule)
    for call in (old, new):
        call.end()


def test_a_changed_port_gets_new_connections(site: Site) -> None:
    rule = site.router.forward_port(8080, site.blue, 80)
    other = listen(site.blue, 81)
    assert site.far.tcp(site.outer(4), 8080).state == "closed"
    rule.change(to_port=81)
    seen_as(site.far, site.outer(4), 8080, other)
    seen_as(site.red, site.outer(6), 8080, other)


@versions
def test_a_removed_forwarding_is_gone_and_established_connections_go_on(site: Site, version: int) -> None:
    server = listen(site.blue, 80)
    rule = site.router.forward_port(8080, site.blue, 80)
    calls = [Call(client, site.outer(version), 8080, server) for client in (site.far, site.red)]
    rule.remove()
    settle(site.router)
    for client in (site.far, site.red, site.router):
        assert client.tcp(site.outer(version), 8080).state == "closed"
    for call in calls:
        call.talk()
        call.end()


def test_a_removed_rule_leaves_the_others_and_their_counters(site: Site) -> None:
    server = listen(site.blue, 80)
    first = site.router.forward_port(8080, site.blue, 80)
    second = site.router.forward_port(8081, site.blue, 80)
    third = site.router.masquerade("eth1")
    seen_as(site.far, site.outer(4), 8081, server)
    first.remove()
    assert site.router.nat.rules == (second, third)
    assert second.counter.packets == 1
    seen_as(site.far, site.outer(4), 8081, server)
    assert second.counter.packets == 2
    assert site.red.ping(site.far.ip4)


def test_a_removed_port_can_be_forwarded_anew(site: Site) -> None:
    server = listen(site.red, 80)
    site.router.forward_port(8080, site.blue, 80).remove()
    rule = site.router.forward_port(8080, site.red, 80)
    seen_as(site.far, site.outer(4), 8080, server)
    assert rule.counter.packets == 1


def test_a_rule_that_was_removed_cannot_be_used(site: Site) -> None:
    rule = site.router.forward_port(8080, site.blue, 80)
    rule.remove()
    before = site.picture()
    for use in (rule.remove, lambda: rule.counter, lambda: rule.change(to=site.red)):
        with pytest.raises(TopologyError, match=r"<forward tcp port 8080 to .* was removed"):
            use()
    assert site.picture() == before


def test_rules_of_the_user_are_not_touched(site: Site) -> None:
    site.router.nft("table inet mine { chain c { type filter hook forward priority 0; counter; }; }")
    mine = site.router.nft("list table inet mine")
    rule = site.router.masquerade("eth1")
    site.router.forward_port(8080, site.blue, 80)
    rule.remove()
    assert site.router.nft("list table inet mine") == mine


def test_a_flushed_ruleset_is_said_to_be_flushed(site: Site) -> None:
    rule = site.router.masquerade("eth1")
    site.router.nft("flush ruleset")
    with pytest.raises(TopologyError, match=r"the counter of <masquerade on .*> is gone; was the ruleset flushed\?"):
        _ = rule.counter


def test_after_a_flush_the_next_rule_brings_back_the_others(site: Site) -> None:
    server = listen(site.blue, 80)
    rule = site.router.forward_port(8080, site.blue, 80)
    site.router.nft("flush ruleset")
    site.router.masquerade("eth1")
    seen_as(site.far, site.outer(4), 8080, server)
    assert rule.counter.packets == 1
    site.router.nft("flush ruleset")
    rule.remove()
    assert site.far.tcp(site.outer(4), 8080).state == "closed"


# ------------------------------------------------------------ mistakes

MISTAKES: list[tuple[type[Exception], str, Callable[[Site], object]]] = [
    (TopologyError, r"out='eth9' is no interface of it; it has: eth0, eth1", lambda s: s.router.masquerade("eth9")),
    (TopologyError, r"out='red' is no interface of it", lambda s: s.router.masquerade(s.red)),
    (TopologyError, r"out='eth0' is no interface of it", lambda s: s.router.masquerade(s.red.interfaces["eth0"])),
    (TopologyError, r"on='eth9' is no interface of it", lambda s: s.router.forward_port(80, s.blue, on="eth9")),
    (TopologyError, r"'lone' \(no address\) is not behind it", lambda s: s.router.forward_port(80, s.lab.host("lone"))),
    (TopologyError, r"198.51.100.9.* not behind it; networks", lambda s: s.router.forward_port(80, "198.51.100.9")),
    (TopologyError, r"to='blue' is neither a node nor", lambda s: s.router.forward_port(80, "blue")),
    (TopologyError, r"cannot forward a port to itself", lambda s: s.router.forward_port(80, s.router)),
    (TopologyError, r"on the side of 'eth1'", lambda s: s.router.forward_port(80, s.far, on="eth1")),
    (
        TopologyError,
        r"<forward udp port 53 to .*> exists already",
        lambda s: s.router.forward_port(53, s.red, protocol="udp"),
    ),
    (ValueError, r"port is 0; it can be 1 to 65535", lambda s: s.router.forward_port(0, s.blue)),
    (ValueError, r"port is 65536", lambda s: s.router.forward_port(80, s.blue, 65536)),
    (ValueError, r"port is '80'", lambda s: s.router.forward_port("80", s.blue)),  # type: ignore[arg-type]
    (ValueError, r"port is True", lambda s: s.router.forward_port(80, s.blue, True)),
    (ValueError, r"protocol is 'sctp'", lambda s: s.router.forward_port(80, s.blue, protocol="sctp")),  # type: ignore[arg-type]
    (TopologyError, r"not behind it", lambda s: s.router.nat.rules[0].change(to="198.51.100.9")),  # type: ignore[attr-defined]
    (ValueError, r"port is -1", lambda s: s.router.nat.rules[0].change(to_port=-1)),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(
    ("kind", "words", "mistake"), MISTAKES, ids=[f"{i}-{words}" for i, (_, words, _) in enumerate(MISTAKES)]
)
def test_a_mistake_is_an_error_and_changes_no_rule(
    site: Site, kind: type[Exception], words: str, mistake: Callable[[Site], object]
) -> None:
    server = listen(site.blue, 53, "udp")
    site.router.forward_port(53, site.blue, protocol="udp")
    before = site.picture()
    with pytest.raises(kind, match=words):
        mistake(site)
    assert site.picture() == before
    seen_as(site.far, site.outer(4), 53, server)
    site.router.masquerade("eth1")
    assert site.red.ping(site.far)


def test_a_family_that_the_interface_does_not_have_is_a_mistake(site: Site) -> None:
    site.lab.connect(site.router, site.lab.host("four"), addresses=("198.51.100.1/24", "198.51.100.2/24"))
    with pytest.raises(TopologyError, match="'eth2' has no address of the family of fd00:"):
        site.router.forward_port(80, site.blue.ip6, on="eth2")
    assert site.router.nft_ruleset() == []


def test_without_forwarding_nothing_passes_and_the_kernel_says_why(site: Site) -> None:
    with site.red.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        site.red.remove_route("default")
        site.router.masquerade("eth1")
        with pytest.raises(OSError, match="Network is unreachable"):
            sock.connect((str(site.far.ip4), 9))
    with pytest.raises(KernelError, match="Network is unreachable"):
        site.red.route_to(site.far.ip4)
