"""Every cause that an explanation can name, planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from conversation import address_of, listen
from explaining import Chain, at, chain_in, why_no_datagram, why_no_ping, why_not_open

from pytest_netns import Bridge, Host, Lab, Link, Namespace, Process, eventually
from pytest_netns.explain.checks import full_neighbour_table
from pytest_netns.explain.explain import explain
from pytest_netns.explain.observation.observe import observe
from pytest_netns.explain.questions import Question, ping_question
from pytest_netns.kernel.netlink.neighbour_table import neighbour_tables

versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host, Link]:
    """``red`` and ``blue`` on one link."""
    red, blue = lab.host("red"), lab.host("blue")
    return red, blue, lab.connect(red, blue, "192.168.15.0/24")


@pytest.fixture
def chain(lab: Lab) -> Chain:
    return chain_in(lab)


@pytest.fixture
def lan(lab: Lab) -> tuple[Bridge, Host, Host]:
    """``red`` and ``blue`` on a bridge."""
    bridge = lab.bridge("br0", "10.9.0.0/24")
    return bridge, bridge.host("red"), bridge.host("blue")


# ----------------------------------------------------------------------- links

Break = Callable[[Link], None]


@versions
@pytest.mark.parametrize(
    ("cut", "node"),
    [(lambda link: link.down(), "red"), (lambda link: link.a.down(), "red"), (lambda link: link.b.down(), "blue")],
    ids=["both", "near", "far"],
)
def test_a_link_that_is_down(pair: tuple[Host, Host, Link], version: int, cut: Break, node: str) -> None:
    red, blue, link = pair
    target = at(blue, version)
    cut(link)
    found = why_no_ping(red, target)
    assert found.cause == f"interface 'eth0' of '{node}' is down (ip link set eth0 up)"
    assert found.node == node
    assert found.observed == f"nothing left 'red' for {target}"


@versions
def test_a_link_between_two_routers_that_is_down_at_the_far_end(chain: Chain, version: int) -> None:
    chain.links[1].b.down()
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause == "interface 'eth0' of 'r2' is down (ip link set eth0 up)"
    assert found.node == "r2"


@versions
def test_a_link_between_two_routers_that_is_down_at_the_near_end(chain: Chain, version: int) -> None:
    chain.links[1].a.down()
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause == "interface 'eth1' of 'r1' is down (ip link set eth1 up)"
    assert found.node == "r1"


def test_a_link_that_was_removed(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    blue.lab.connect(blue, blue.lab.host("other"), "192.168.16.0/24")
    link.remove()
    found = why_no_ping(red, "192.168.16.1")
    assert found.cause == "'red' has no IPv4 address"


# ----------------------------------------------------------- addresses, routes


@versions
def test_a_source_without_an_address(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=([], ["10.0.0.2/24", "fd00:1::2/64"]))
    found = why_no_ping(red, at(blue, version))
    assert found.cause == f"'red' has no IPv{version} address"
    assert found.node == "red"


@versions
def test_a_source_without_a_route(chain: Chain, version: int) -> None:
    target = at(chain.blue, version)
    chain.red.remove_route(
        next(r.destination for r in chain.red.routes() if address_of(chain.blue, version) in r.destination)
    )
    found = why_no_ping(chain.red, target)
    assert found.cause == f"'red' has no route to {target}"
    assert found.node == "red"
    assert any(line.startswith(f"red: ip route get {target}: ") for line in found.evidence)


@versions
def test_a_router_without_a_route(chain: Chain, version: int) -> None:
    target = at(chain.blue, version)
    chain.r1.remove_route(
        next(r.destination for r in chain.r1.routes() if address_of(chain.blue, version) in r.destination)
    )
    found = why_no_ping(chain.red, target)
    assert found.cause == f"'r1' has no route to {target}"
    assert found.node == "r1"
    assert "the request left red:eth0 and was last seen when it arrived at r1:eth0" in found.observed


@versions
@pytest.mark.parametrize("name", ["blue", "r2"])
def test_no_route_back(chain: Chain, version: int, name: str) -> None:
    node = chain.lab[name]
    assert isinstance(node, Host)
    source = address_of(chain.red, version)
    node.remove_route(next(r.destination for r in node.routes() if source in r.destination))
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert (
        found.cause
        == f"the request reaches 'blue', and its reply does not come back: '{name}' has no route to {source}"
    )
    assert found.node == name


@pytest.mark.parametrize(
    ("mine", "theirs"), [("10.0.1.1/24", "10.0.2.2/24"), ("fd00:1::1/64", "fd00:2::2/64")], ids=["4", "6"]
)
def test_addresses_in_different_subnets(lab: Lab, mine: str, theirs: str) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=(mine, theirs))
    target = theirs.partition("/")[0]
    found = why_no_ping(red, target)
    assert found.cause == (
        f"'red' ({mine}) and 'blue' ({theirs}) are on one link but in different subnets, and 'red' has no route to "
        f"{target}"
    )
    assert found.node == "red"


def test_addresses_in_different_subnets_on_a_bridge(lan: tuple[Bridge, Host, Host]) -> None:
    _, red, blue = lan
    blue.interface("eth0").remove_address("10.9.0.2/24")
    blue.add_address("10.10.0.2/24")
    found = why_no_ping(red, "10.10.0.2")
    assert found.cause is not None
    assert "'red' (10.9.0.1/24) and 'blue' (10.10.0.2/24) are on one link but in different subnets" in found.cause


def test_a_prefix_that_only_the_destination_has_too_narrow(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=("10.0.0.1/16", "10.0.5.2/24"))
    found = why_no_ping(red, blue)
    assert found.cause is not None
    assert found.cause.startswith("the request reaches 'blue', and its reply does not come back: 'blue' (10.0.5.2/24)")
    assert "different subnets" in found.cause
    assert found.node == "blue"


@versions
@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
@pytest.mark.parametrize("name", ["red", "r1"])
def test_a_route_that_refuses(chain: Chain, version: int, kind: str, name: str) -> None:
    target = address_of(chain.blue, version)
    node = chain.lab[name]
    assert isinstance(node, Host)
    node.add_route(f"{target}/{target.max_prefixlen}", kind=kind)
    found = why_no_ping(chain.red, target)
    assert found.cause is not None
    assert found.cause.startswith(f"'{name}' has a {kind} route for {target}: ")
    assert found.node == name


@versions
def test_a_route_that_refuses_the_reply(chain: Chain, version: int) -> None:
    source = address_of(chain.red, version)
    chain.r2.add_route(f"{source}/{source.max_prefixlen}", kind="blackhole")
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause is not None
    assert f"its reply does not come back: 'r2' has a blackhole route for {source}" in found.cause
    assert found.node == "r2"


# ------------------------------------------------------------------ neighbours


@pytest.mark.parametrize(
    ("target", "protocol"), [("192.168.15.77", "ARP"), ("fd00:15::77", "neighbour discovery")], ids=["4", "6"]
)
def test_an_address_that_nobody_has(lab: Lab, target: str, protocol: str) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=(["192.168.15.1/24", "fd00:15::1/64"], ["192.168.15.2/24", "fd00:15::2/64"]))
    found = why_no_ping(red, target)
    assert found.cause == (
        f"{protocol} on red:eth0 for {target}, the destination, is unanswered: nobody in the lab has that address"
    )
    assert found.node == "red"


@pytest.mark.parametrize(("hop", "version"), [("10.0.0.9", 4), ("fd00::9", 6)])
def test_a_next_hop_that_nobody_has(lab: Lab, hop: str, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=(["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"]))
    red.add_route("default", hop)
    found = why_no_ping(red, "203.0.113.1" if version == 4 else "2001:db8::1")
    assert found.cause is not None
    assert f"on red:eth0 for {hop}, the next hop, is unanswered: nobody in the lab has that address" in found.cause


@versions
def test_an_address_on_another_link_than_the_route_says(chain: Chain, version: int) -> None:
    target = address_of(chain.blue, version)
    chain.red.add_route(f"{target}/{target.max_prefixlen}", interface="eth0")
    found = why_no_ping(chain.red, target)
    assert found.cause is not None
    assert found.cause.endswith("is unanswered: 'blue' has it, but is not on that link (blue:eth0)")
    assert found.node == "red"


@versions
def test_two_nodes_that_are_not_connected(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, lab.host("other"))
    lab.connect(blue, lab.host("another"))
    found = why_no_ping(red, at(blue, version))
    assert found.cause == "'red' and 'blue' are not connected: there is no chain of links between them"


def test_two_nodes_of_one_subnet_that_are_not_connected(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    for host, neighbour, address in ((red, "other", "10.0.0.1/24"), (blue, "another", "10.0.0.2/24")):
        lab.connect(host, lab.host(neighbour), subnet=False)
        host.add_address(address)
    found = why_no_ping(red, "10.0.0.2")
    assert found.cause == "'red' and 'blue' are not connected: there is no chain of links between them"


@versions
def test_a_duplicate_address(lan: tuple[Bridge, Host, Host], version: int) -> None:
    bridge, red, blue = lan
    twin = bridge.host("twin")
    address = next(a for a in blue.addresses() if a.version == version and not a.is_link_local)
    twin.interface("eth0").add_address(address)
    blue.sysctl["net.ipv4.icmp_echo_ignore_all" if version == 4 else "net.ipv6.icmp.echo_ignore_all"] = 1
    twin.sysctl["net.ipv4.icmp_echo_ignore_all" if version == 4 else "net.ipv6.icmp.echo_ignore_all"] = 1
    found = why_no_ping(red, address.ip)
    assert found.cause == (
        f"duplicate address: blue:eth0 ({blue.mac}) and twin:eth0 ({twin.mac}) have the same one on one link"
    )


# ------------------------------------------------------------------ forwarding


@versions
def test_a_router_that_does_not_forward(chain: Chain, version: int) -> None:
    name = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    chain.r2.sysctl[name] = 0
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause == f"'r2' does not forward IPv{version}: {name} is 0"
    assert found.node == "r2"
    assert f"r2: sysctl {name} = 0" in found.evidence


def test_a_host_as_router(lab: Lab) -> None:
    red, middle, blue = lab.host("red"), lab.host("middle"), lab.host("blue")
    lab.connect(red, middle)
    lab.connect(middle, blue)
    red.default_route(middle)
    blue.default_route(middle)
    assert why_no_ping(red, blue).cause == "'middle' does not forward IPv4: net.ipv4.ip_forward is 0"


def test_rp_filter_on_a_router(chain: Chain) -> None:
    chain.r1.sysctl["net.ipv4.conf.eth0.rp_filter"] = 1
    source = chain.red.ip4
    chain.r1.add_route(f"{source}/32", chain.r2)
    found = why_no_ping(chain.red, chain.blue)
    assert found.cause is not None
    assert found.cause.startswith(f"rp_filter=1 on r1:eth0 drops packets from {source}: its route back is ")
    assert found.node == "r1"
    assert "r1: sysctl net.ipv4.conf.eth0.rp_filter = 1" in found.evidence


def test_rp_filter_at_the_destination(chain: Chain) -> None:
    chain.lab.connect(chain.blue, chain.lab.host("decoy"), "172.16.0.0/24")
    chain.blue.sysctl["net.ipv4.conf.all.rp_filter"] = 1
    source = chain.red.ip4
    chain.blue.add_route(f"{source}/32", interface="eth1")
    found = why_no_ping(chain.red, chain.blue)
    assert found.cause is not None
    assert found.cause.startswith(f"rp_filter=1 on blue:eth0 drops packets from {source}")
    assert found.node == "blue"


@versions
def test_a_time_to_live_that_is_too_small(chain: Chain, version: int) -> None:
    found = why_no_ping(chain.red, at(chain.blue, version), ttl=2)
    assert found.cause == "the time to live of 2 is used up at 'r2', after red -> r1 -> r2"
    assert found.node == "r2"
    assert "the error left r2:eth0" in found.observed


@versions
@pytest.mark.parametrize("ttl", [64, 9, 255])
def test_a_routing_loop(chain: Chain, version: int, ttl: int) -> None:
    target = address_of(chain.blue, version)
    chain.r2.replace_route(f"{target}/{target.max_prefixlen}", chain.r1)
    found = why_no_ping(chain.red, target, ttl=ttl)
    assert found.cause in ("routing loop: r1 -> r2 -> r1", "routing loop: r2 -> r1 -> r2")
    assert found.node in ("r1", "r2")


@versions
def test_a_routing_loop_on_the_way_back(chain: Chain, version: int) -> None:
    source = address_of(chain.red, version)
    chain.r1.replace_route(f"{source}/{source.max_prefixlen}", chain.r2)
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause is not None
    assert found.cause.endswith(("routing loop: r1 -> r2 -> r1", "routing loop: r2 -> r1 -> r2"))
    assert found.cause.startswith("the request reaches 'blue', and its reply does not come back")


# ------------------------------------------------------------------------- mtu


@versions
def test_an_mtu_of_a_router_that_is_too_small(chain: Chain, version: int) -> None:
    chain.r1.interface("eth1").mtu = 1300
    chain.r2.interface("eth0").mtu = 1300
    found = why_no_ping(chain.red, at(chain.blue, version), size=1400, df=True)
    size = 1400 + (28 if version == 4 else 48)
    assert found.cause == (
        f"the packet has {size} bytes and may not be fragmented, and the mtu of 'eth1' of 'r1' is 1300"
    )
    assert found.node == "r1"


def test_an_mtu_of_the_source_that_is_too_small(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    found = why_no_ping(red, blue, size=1600, df=True)
    assert found.cause == (
        "the packet has 1628 bytes and may not be fragmented, and the mtu of 'eth0' of 'red' is 1500"
    )


@versions
@pytest.mark.netns_requires("nft")
def test_a_large_ping_that_may_be_fragmented_is_not_blamed_on_the_mtu(chain: Chain, version: int) -> None:
    chain.blue.nft(
        "table inet t { chain input { type filter hook input priority 0; policy drop; icmpv6 type 135-136 accept; }; }"
    )
    found = why_no_ping(chain.red, at(chain.blue, version), size=3000)
    assert found.cause is not None
    assert "inet t input" in found.cause
    chain.blue.nft("flush ruleset")
    chain.blue.sysctl["net.ipv4.icmp_echo_ignore_all" if version == 4 else "net.ipv6.icmp.echo_ignore_all"] = 1
    found = why_no_ping(chain.red, at(chain.blue, version), size=3000)
    assert found.cause is not None
    assert found.cause.startswith("'blue' ignores echo requests")


@versions
def test_a_far_end_that_takes_less_than_the_near_end_sends(pair: tuple[Host, Host, Link], version: int) -> None:
    red, blue, link = pair
    link.b.mtu = 1300
    found = why_no_ping(red, at(blue, version), size=1400)
    assert found.cause is not None
    assert "mtu" in found.cause
    assert "'blue'" in found.cause
    assert found.node == "blue"


# ------------------------------------------------------------------ the bridge


@versions
def test_a_port_that_is_detached(lan: tuple[Bridge, Host, Host], version: int) -> None:
    bridge, red, blue = lan
    bridge.detach(blue)
    found = why_no_ping(red, at(blue, version))
    assert found.cause == "port 'blue' is detached from bridge 'br0'"
    assert found.node == "br0"


@versions
def test_the_port_of_the_source_that_is_detached(lan: tuple[Bridge, Host, Host], version: int) -> None:
    bridge, red, blue = lan
    bridge.detach(red)
    found = why_no_ping(red, at(blue, version))
    assert found.cause == "port 'red' is detached from bridge 'br0'"
    assert found.node == "br0"


@versions
def test_a_port_that_is_down(lan: tuple[Bridge, Host, Host], version: int) -> None:
    bridge, red, blue = lan
    bridge.interface("blue").down()
    found = why_no_ping(red, at(blue, version))
    assert found.cause == "port 'blue' of bridge 'br0' is down (ip link set blue up)"
    assert found.node == "br0"


@versions
@pytest.mark.netns_requires("program:ip")
def test_a_port_that_spanning_tree_holds_back(lan: tuple[Bridge, Host, Host], version: int) -> None:
    bridge, red, blue = lan
    target = at(blue, version)
    bridge.run(["ip", "link", "set", "br0", "type", "bridge", "stp_state", "1"])
    port = bridge.interface("blue")
    port.down()
    port.up()  # it listens for 15 s now
    eventually(lambda: port.state.port_state == "listening")
    found = why_no_ping(red, target)
    assert found.cause == "port 'blue' of bridge 'br0' is listening, not forwarding (spanning tree, IEEE 802.1D)"
    assert found.node == "br0"


@versions
def test_a_bridge_that_is_down(lan: tuple[Bridge, Host, Host], version: int) -> None:
    bridge, red, blue = lan
    bridge.device.down()
    found = why_no_ping(red, at(blue, version))
    assert found.cause is not None
    assert found.cause.startswith("bridge 'br0' is down")
    assert found.node == "br0"


def test_a_host_behind_a_bridge_whose_interface_is_down(lan: tuple[Bridge, Host, Host]) -> None:
    _, red, blue = lan
    blue.interface("eth0").down()
    found = why_no_ping(red, "10.9.0.2")
    assert found.cause == "interface 'eth0' of 'blue' is down (ip link set eth0 up)"
    assert found.node == "blue"


@versions
def test_a_trunk_that_is_down(lab: Lab, version: int) -> None:
    left = lab.bridge("left", "10.9.0.0/24")
    right = lab.bridge("right", left)
    trunk = lab.connect(left, right)
    red, blue = left.host("red"), right.host("blue")
    target = at(blue, version)
    assert red.ping(target)
    trunk.b.down()
    found = why_no_ping(red, target)
    assert found.cause == "port 'left' of bridge 'right' is down (ip link set left up)"
    assert found.node == "right"


@versions
def test_a_port_behind_a_trunk_that_is_detached(lab: Lab, version: int) -> None:
    left = lab.bridge("left", "10.9.0.0/24")
    right = lab.bridge("right", left)
    lab.connect(left, right)
    red, blue = left.host("red"), right.host("blue")
    right.detach(blue)
    found = why_no_ping(red, at(blue, version))
    assert found.cause == "port 'blue' is detached from bridge 'right'"
    assert found.node == "right"


def test_two_bridges_without_a_trunk(lab: Lab) -> None:
    left = lab.bridge("left", "10.9.0.0/24")
    right = lab.bridge("right", left)
    red, blue = left.host("red"), right.host("blue")
    found = why_no_ping(red, blue)
    assert found.cause == "'red' and 'blue' are not connected: there is no chain of links between them"


@versions
@pytest.mark.netns_requires("nft")
def test_a_rule_of_a_bridge(lan: tuple[Bridge, Host, Host], version: int) -> None:
    bridge, red, blue = lan
    kind = "ip protocol icmp" if version == 4 else "icmpv6 type echo-request"
    bridge.nft(f"table bridge fw {{ chain guard {{ type filter hook forward priority 0; {kind} drop; }}; }}")
    found = why_no_ping(red, at(blue, version))
    assert found.cause == f"a netfilter rule on 'br0' drops the request: bridge fw guard: {kind} drop"
    assert found.node == "br0"


# -------------------------------------------------------------------- netfilter


def _filter(hook: str, rule: str, policy: str = "accept") -> str:
    return f"table inet fw {{ chain {hook} {{ type filter hook {hook} priority 0; policy {policy}; {rule}; }}; }}"


@versions
@pytest.mark.parametrize(
    ("name", "hook"), [("red", "output"), ("r1", "forward"), ("blue", "input"), ("blue", "output"), ("red", "input")]
)
@pytest.mark.netns_requires("nft")
def test_a_rule_that_drops(chain: Chain, version: int, name: str, hook: str) -> None:
    kind = {
        (4, False): "icmp type echo-request",
        (4, True): "icmp type echo-reply",
        (6, False): "icmpv6 type echo-request",
        (6, True): "icmpv6 type echo-reply",
    }[version, (name, hook) in (("blue", "output"), ("red", "input"))]
    chain.lab[name].nft(_filter(hook, f"{kind} drop"))
    found = why_no_ping(chain.red, at(chain.blue, version))
    what = "reply" if "reply" in kind else "request"
    assert found.cause == f"a netfilter rule on '{name}' drops the {what}: inet fw {hook}: {kind} drop"
    assert found.node == name


@versions
@pytest.mark.netns_requires("nft")
def test_a_policy_that_drops(chain: Chain, version: int) -> None:
    chain.r2.nft(_filter("forward", "tcp dport 80 accept", "drop"))
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause == "a netfilter rule on 'r2' drops the request: inet fw forward: policy drop"


@versions
@pytest.mark.parametrize("counter", ["counter packets 0 bytes 0 ", ""], ids=["counted", "uncounted"])
@pytest.mark.netns_requires("nft")
def test_a_rule_that_drops_tcp_in_a_chain_of_its_own(chain: Chain, version: int, counter: str) -> None:
    server = listen(chain.blue, 80)
    chain.r1.nft(
        "table inet fw { chain web { tcp dport 80 " + counter + "drop; }; "
        "chain forward { type filter hook forward priority 0; jump web; }; }"
    )
    found = why_not_open(chain.red, at(chain.blue, version), 80)
    assert found.cause is not None
    assert found.cause.startswith("a netfilter rule on 'r1' drops the request: inet fw web: tcp dport 80 ")
    assert found.cause.endswith("drop")
    server.close()


@pytest.mark.netns_requires("nft")
def test_a_rule_that_rejects(chain: Chain) -> None:
    server = listen(chain.blue, 80)
    chain.r1.nft(_filter("forward", "tcp dport 80 reject with icmp port-unreachable"))
    found = why_not_open(chain.red, chain.blue, 80)
    assert found.cause is not None
    assert found.cause.startswith("a netfilter rule on 'r1' ")
    assert "inet fw forward: tcp dport 80 reject" in found.cause
    assert found.node == "r1"
    server.close()


@pytest.mark.netns_requires("nft")
def test_a_rule_of_ip_family_that_drops_udp(chain: Chain) -> None:
    chain.blue.nft("table ip fw { chain input { type filter hook input priority 0; udp dport 53 drop; }; }")
    found = why_no_datagram(chain.red, chain.blue, 53)
    assert found.cause == "a netfilter rule on 'blue' drops the request: ip fw input: udp dport 53 drop"


@pytest.mark.netns_requires("nft")
def test_a_rule_against_arp(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    blue.nft("table arp fw { chain input { type filter hook input priority 0; arp operation request drop; }; }")
    found = why_no_ping(red, blue)
    assert found.cause == "a netfilter rule on 'blue' drops ARP: arp fw input: arp operation request drop"


@pytest.mark.netns_requires("nft")
def test_a_rule_against_neighbour_discovery_stops_tcp(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    server = listen(blue, 80)
    blue.nft(_filter("input", "icmpv6 type nd-neighbor-solicit drop"))
    found = why_not_open(red, blue.ip6, 80)
    assert (
        found.cause
        == "a netfilter rule on 'blue' drops neighbour discovery: inet fw input: icmpv6 type nd-neighbor-solicit drop"
    )
    server.close()


def test_a_neighbour_that_does_not_answer(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    target = blue.ip4
    blue.sysctl["net.ipv4.conf.all.arp_ignore"] = 8
    found = why_no_ping(red, target)
    assert (found.node, found.cause) == (
        "blue",
        f"'blue' does not answer ARP for {target} on 'eth0': arp_ignore is 8",
    )


@pytest.mark.netns_requires("nft")
def test_a_rule_at_the_ingress_of_a_device(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    blue.nft(
        'table netdev fw { chain gate { type filter hook ingress device "eth0" priority 0; ip protocol icmp drop; }; }'
    )
    found = why_no_ping(red, blue)
    assert found.cause == "a netfilter rule on 'blue' drops the request: netdev fw gate: ip protocol icmp drop"


@pytest.mark.netns_requires("nft")
def test_what_is_dropped_of_others_is_not_blamed(chain: Chain) -> None:
    red, blue = chain.red, chain.blue
    blue.nft(_filter("input", "tcp dport 9 drop"))

    def again(timeout: float) -> object:
        assert red.tcp(blue, 9, timeout=0.02).state == "filtered"  # somebody else, at the same time
        return red.tcp(blue, 80, timeout=timeout)

    found = explain(chain.lab, Question(red, blue.ip4, "tcp", again, port=80, closed=True))
    assert found.cause == "nothing listens on tcp port 80 of 'blue' (listening: nothing does on any port)"


# ------------------------------------------------------------------- processes


@versions
def test_nothing_listens_on_the_port(chain: Chain, version: int) -> None:
    servers = listen(chain.blue, 8080), listen(chain.blue, 22, address="127.0.0.1")
    found = why_not_open(chain.red, at(chain.blue, version), 80)
    assert found.cause == ("nothing listens on tcp port 80 of 'blue' (listening: tcp 127.0.0.1:22, tcp [::]:8080)")
    assert found.node == "blue"
    for server in servers:
        server.close()


def test_nothing_listens_at_all(chain: Chain) -> None:
    assert why_not_open(chain.red, chain.blue, 80).cause == (
        "nothing listens on tcp port 80 of 'blue' (listening: nothing does on any port)"
    )
    assert why_no_datagram(chain.red, chain.blue, 53).cause == (
        "nothing listens on udp port 53 of 'blue' (listening: nothing does on any port)"
    )


@pytest.mark.parametrize(("address", "version"), [("127.0.0.1", 4), ("::1", 6)])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_that_is_bound_to_another_address(chain: Chain, address: str, version: int, protocol: str) -> None:
    server = listen(chain.blue, 53, protocol, address)
    target = at(chain.blue, version)
    found = (why_not_open if protocol == "tcp" else why_no_datagram)(chain.red, target, 53)
    assert found.cause == f"the server on {protocol} port 53 of 'blue' is bound to {address} only, not to {target}"
    assert found.node == "blue"
    server.close()


def test_a_server_of_the_other_family_only(chain: Chain) -> None:
    server = listen(chain.blue, 80, address="0.0.0.0")
    target = at(chain.blue, 6)
    found = why_not_open(chain.red, target, 80)
    assert found.cause == f"the server on tcp port 80 of 'blue' is bound to 0.0.0.0 only, not to {target}"
    server.close()


def test_an_ipv6_server_that_takes_no_ipv4(chain: Chain) -> None:
    server = chain.blue.socket(10, 1)
    server.setsockopt(41, 26, 1)  # IPV6_V6ONLY
    server.bind(("::", 80))
    server.listen()
    found = why_not_open(chain.red, at(chain.blue, 4), 80)
    assert found.cause is not None
    assert found.cause.startswith("the server on tcp port 80 of 'blue' is bound to :: only, not to ")
    server.close()


def test_a_process_that_is_dead(chain: Chain) -> None:
    process = chain.blue.spawn(["sh", "-c", "echo out of memory; exit 3"])
    process.wait()
    found = why_not_open(chain.red, chain.blue, 80)
    assert found.cause == "nothing listens on tcp port 80 of 'blue'; its process 'sh' is dead (exit status 3)"
    assert any("out of memory" in line for line in found.evidence)


def test_a_process_that_was_killed(chain: Chain) -> None:
    process: Process = chain.blue.spawn(["sleep", "1000"])
    process.kill()
    found = why_no_datagram(chain.red, chain.blue, 53)
    assert found.cause is not None
    assert "its process 'sleep' is dead (" in found.cause


@versions
def test_a_host_that_ignores_echo_requests(chain: Chain, version: int) -> None:
    name = "net.ipv4.icmp_echo_ignore_all" if version == 4 else "net.ipv6.icmp.echo_ignore_all"
    chain.blue.sysctl[name] = 1
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause == f"'blue' ignores echo requests: {name} is 1"
    assert found.node == "blue"


# ------------------------------------------------------------------------- nat


@versions
@pytest.mark.netns_requires("nft")
def test_a_request_through_masquerade_is_followed_to_who_drops_it(chain: Chain, version: int) -> None:
    chain.r1.masquerade("eth1")
    kind = "icmp" if version == 4 else "icmpv6"
    chain.blue.nft(_filter("input", f"{kind} type echo-request drop"))
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause == f"a netfilter rule on 'blue' drops the request: inet fw input: {kind} type echo-request drop"


@versions
@pytest.mark.netns_requires("nft")
def test_the_reply_to_a_masqueraded_request_needs_a_way_to_the_router(chain: Chain, version: int) -> None:
    chain.r1.masquerade("eth1")
    outer = address_of(chain.r1.interface("eth1"), version)
    chain.blue.add_route(f"{outer}/{outer.max_prefixlen}", kind="blackhole")
    found = why_no_ping(chain.red, at(chain.blue, version))
    assert found.cause is not None
    assert f"its reply does not come back: 'blue' has a blackhole route for {outer}" in found.cause


@versions
@pytest.mark.netns_requires("nft")
def test_a_forwarded_port_with_nobody_behind_it(chain: Chain, version: int) -> None:
    chain.r1.forward_port(80, chain.blue, 8080)
    found = why_not_open(chain.red, at(chain.r1, version), 80)
    assert found.cause == "nothing listens on tcp port 8080 of 'blue' (listening: nothing does on any port)"
    assert found.node == "blue"


@versions
@pytest.mark.netns_requires("nft")
def test_a_forwarded_port_to_a_host_that_is_down(chain: Chain, version: int) -> None:
    chain.r1.forward_port(80, chain.blue, 8080)
    chain.links[2].b.down()
    found = why_not_open(chain.red, at(chain.r1, version), 80)
    assert found.cause == "interface 'eth0' of 'blue' is down (ip link set eth0 up)"
    assert found.node == "blue"


# -------------------------------------------------------- shared, adopted nodes


@pytest.mark.parametrize("asker", ["web", "sidecar"])
@pytest.mark.netns_requires("nft")
def test_a_sidecar_asks(lab: Lab, asker: str) -> None:
    bridge = lab.bridge("br0")
    web = lab.host("web", bridge)
    lab.host("sidecar", shares=web)
    blue = bridge.host("blue")
    blue.nft(_filter("input", "icmp type echo-request drop"))
    found = why_no_ping(lab[asker], blue)
    assert found.cause == "a netfilter rule on 'blue' drops the request: inet fw input: icmp type echo-request drop"
    assert f"the request left {asker}:eth0" in found.observed


@pytest.mark.parametrize("asked", ["web", "sidecar"])
def test_a_sidecar_is_asked(lab: Lab, asked: str) -> None:
    bridge = lab.bridge("br0")
    red, web = bridge.host("red"), lab.host("web", bridge)
    lab.host("sidecar", shares=web)
    found = why_not_open(red, lab[asked], 80)
    assert found.cause == "nothing listens on tcp port 80 of 'web' (listening: nothing does on any port)"


def test_the_dead_process_of_a_sidecar(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red, web = bridge.host("red"), lab.host("web", bridge)
    sidecar = lab.host("sidecar", shares=web)
    sidecar.spawn(["false"]).wait()
    found = why_not_open(red, web, 80)
    assert found.cause is not None
    assert "process 'false' is dead (exit status 1)" in found.cause


@pytest.mark.netns_requires("nft")
def test_an_adopted_namespace(lab: Lab, netns: Namespace) -> None:
    red, foreign = lab.host("red"), lab.adopt(netns, "foreign")
    lab.connect(red, foreign)
    foreign.nft(_filter("input", "icmp type echo-request drop"))
    found = why_no_ping(red, foreign)
    assert found.cause == "a netfilter rule on 'foreign' drops the request: inet fw input: icmp type echo-request drop"
    foreign.nft("flush ruleset")
    foreign.interface("eth0").down()
    assert why_no_ping(red, foreign).cause == "interface 'eth0' of 'foreign' is down (ip link set eth0 up)"


# --------------------------------------------------------------------- unknown


@pytest.mark.netns_requires("program:iptables-legacy")
def test_what_it_cannot_name_is_narrowed_down(pair: tuple[Host, Host, Link], monkeypatch: pytest.MonkeyPatch) -> None:
    red, blue, _ = pair
    blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
    monkeypatch.setattr("pytest_netns.explain.explain.CHECKS", [])
    found = why_no_ping(red, blue)
    assert found.cause is None
    assert found.node is None
    assert "was last seen when it arrived at blue:eth0" in found.observed
    text = str(found)
    assert "cause: not found; ruled out:" in text
    assert "way there: red -> blue; links, ports, routes, neighbours are in order" in text
    assert "netfilter: no nftables rule dropped it" in text
    assert "way back: blue -> red" in text
    assert "sockets, tc filters, XDP programs and counters where it ended" in text


def test_a_server_that_does_not_answer(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    server = listen(blue, 53, "udp")
    found = why_no_datagram(red, blue, 53)
    assert found.cause is not None
    assert found.cause == (
        "the datagram arrives at 'blue', and the server on udp port 53 does not read: 1664 bytes wait in its "
        "receive queue"
    )
    server.close()


@pytest.mark.netns_requires("program:ip")
def test_a_wrong_entry_in_the_neighbour_table(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    red.run(["ip", "neighbour", "replace", "192.168.15.2", "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
    found = why_no_ping(red, blue)
    assert found.cause == (
        "'red' sends to the wrong MAC address: its neighbour table has 02:00:00:00:00:99 (PERMANENT) for 192.168.15.2, "
        f"and blue:eth0 has {blue.mac}"
    )
    assert found.node == "red"


def test_what_works_by_now(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.down()
    failed = red.ping(blue, timeout=0.05)
    link.up()
    found = explain(red.lab, ping_question(red, failed, {}))
    assert found.cause == "it works now: asked again, it was answered at once"


# --------------------------------------------------------------------------- tunnels


@pytest.fixture
def overlay(chain: Chain) -> Chain:
    """``red`` and ``blue`` have a VXLAN in common, over both routers."""
    chain.red.add_vxlan("vx0", 42, remote=chain.blue, address="10.42.0.1/24")
    chain.blue.add_vxlan("vx0", 42, remote=chain.red, address="10.42.0.2/24")
    assert chain.red.ping("10.42.0.2")
    return chain


@pytest.mark.netns_requires("vxlan")
@pytest.mark.netns_requires("nft")
def test_a_fault_on_the_way_of_a_tunnel(overlay: Chain) -> None:
    overlay.lab.partition(overlay.r1, overlay.r2)
    found = why_no_ping(overlay.red, "10.42.0.2")
    assert found.cause == "a fault of the test is in force: partition r1 | r2; red:vx0 leads over it"
    assert found.node == "r2"


@pytest.mark.netns_requires("vxlan")
@pytest.mark.parametrize("neighbours_known", [True, False])
@pytest.mark.netns_requires("nft", "program:ip")
def test_a_rule_that_drops_the_packets_of_a_tunnel(overlay: Chain, neighbours_known: bool) -> None:
    overlay.r1.block(protocol="udp", port=4789)
    if not neighbours_known:
        overlay.red.run(["ip", "neighbour", "flush", "dev", "vx0"])
    found = why_no_ping(overlay.red, "10.42.0.2")
    assert found.cause is not None
    assert found.cause.startswith("a netfilter rule on 'r1' drops what red:vx0 carries: inet ")
    assert found.node == "r1"


@pytest.mark.netns_requires("vxlan")
@pytest.mark.netns_requires("nft")
def test_packets_of_a_tunnel_with_several_ends_are_not_said_to_be_let_through(chain: Chain) -> None:
    for one, other, address in ((chain.red, chain.blue, "10.42.0.1/24"), (chain.blue, chain.red, "10.42.0.2/24")):
        one.add_vxlan("vx0", 42, address=address).add_remote(other)
    assert chain.red.ping("10.42.0.2")
    chain.r1.block(protocol="udp", port=4789)
    found = why_no_ping(chain.red, "10.42.0.2")
    assert found.cause is None
    assert "in force: 'r1' drops packets protocol udp to port 4789" in str(found)
    assert "no nftables rule dropped it; the packets in which red:vx0 carries it were not looked at" in str(found)


def test_a_router_that_has_crashed(chain: Chain) -> None:
    chain.r2.crash()
    found = why_no_ping(chain.red, chain.blue)
    assert found.cause == "a fault of the test is in force: 'r2' has crashed"
    assert found.node == "r2"


def test_an_mtu_that_takes_ipv6_away(chain: Chain) -> None:
    there = at(chain.blue, 6)
    chain.links[1].set_mtu(1279)
    found = why_no_ping(chain.red, there)
    assert found.cause == "r1:eth1 has no IPv6: its mtu is 1279, and IPv6 needs 1280 bytes (RFC 8200 section 5)"
    assert found.node == "r1"


# ------------------------------------------------------------ neighbour table


@versions
@pytest.mark.netns_requires("program:ip")
def test_a_neighbour_table_without_room(pair: tuple[Host, Host, Link], version: int) -> None:
    red, blue, _ = pair
    question = silenced(red, blue, version)
    seen = observe(red.lab, question)
    for node in (red, blue):
        node.run(["ip", f"-{version}", "neighbour", "flush", "all"])
    assert full_neighbour_table.check(seen) is None  # the kernel has refused nothing
    found = full_neighbour_table.check(replace(seen, refusals=2))
    assert found is not None
    assert found.node == "red"
    assert found.cause.startswith(f"'red' has no entry for its neighbour {at(blue, version)} because there was no room")
    assert f"of at most {neighbour_tables(red.rtnl)[version].limit} entries" in found.cause
    assert "table_fulls has grown by 2" in str(found.evidence)
    assert any('neighbours="known"' in cure for cure in found.cures)


@versions
@pytest.mark.netns_requires("program:ip")
def test_no_room_at_the_node_that_replies(pair: tuple[Host, Host, Link], version: int) -> None:
    red, blue, _ = pair
    question = silenced(red, blue, version)
    seen = observe(red.lab, question)
    blue.run(["ip", f"-{version}", "neighbour", "flush", "all"])
    found = full_neighbour_table.check(replace(seen, refusals=1))
    assert found is not None
    assert found.node == "blue"
    assert at(red, version) in found.cause


@pytest.mark.netns_requires("nft")
def test_what_others_were_refused_is_no_cause(pair: tuple[Host, Host, Link]) -> None:
    red, blue, _ = pair
    question = silenced(red, blue, 4)
    seen = observe(red.lab, question)
    assert full_neighbour_table.check(replace(seen, refusals=5)) is None
    assert full_neighbour_table.check(replace(seen, refusals=5, answered=True)) is None


def silenced(red: Host, blue: Host, version: int) -> Question:
    """A ping that is resolved both ways, and not answered."""
    target = address_of(blue, version)
    assert red.ping(target)
    protocol = "icmp" if version == 4 else "icmpv6"
    blue.nft(
        f"table inet silence {{ chain c {{ type filter hook input priority 0; {protocol} type echo-request drop; }}; }}"
    )
    return ping_question(red, red.ping(target, timeout=0.05), {})
