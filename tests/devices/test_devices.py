"""Devices of every kind: two hosts talk through it, a bad value is refused and leaves nothing, it can be removed."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_interface

import pytest

from pytest_netns import (
    Host,
    Interface,
    KernelError,
    Lab,
    Link,
    Namespace,
    ProbeFailure,
    TopologyError,
    UnsupportedError,
    assert_ping,
)
from pytest_netns.devices import kinds
from pytest_netns.devices.builder import Device
from pytest_netns.kernel import tun_driver
from pytest_netns.kernel.features.features import DEVICES, Feature, feature
from pytest_netns.kernel.netlink import linkinfo
from pytest_netns.kernel.netlink.socket import attributes
from pytest_netns.kernel.netlink.tables import decode_link

QUICK = 0.5


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host]:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    return red, blue


def needs(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For the lane with a full kernel; elsewhere skipped where the kernel lacks it."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        marked: Callable[..., None] = pytest.mark.kernel(pytest.mark.netns_requires(*names)(test))
        return marked

    return mark


# ------------------------------------------------------------------ by themselves


@needs("dummy")
def test_a_dummy_is_a_place_for_addresses(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    dummy = red.add_dummy("lo1", address=["10.9.0.1/32", "fd09::1/128"], mtu=9000)
    assert (dummy.kind, dummy.mtu, dummy.is_up) == ("dummy", 9000, True)
    blue.add_route("10.9.0.1", red)
    assert blue.ping("10.9.0.1", timeout=QUICK)
    dummy.down()
    assert not dummy.is_up
    dummy.up()
    dummy.wait_up()
    dummy.remove()
    assert "lo1" not in red.interfaces


@pytest.mark.netns_requires("ifb")
def test_an_ifb(pair: tuple[Host, Host]) -> None:
    red, _ = pair
    ifb = red.add_ifb("in0")
    assert (ifb.kind, ifb.is_up) == ("ifb", True)
    ifb.remove()
    assert list(red.interfaces) == ["lo", "eth0"]


def test_a_bridge_inside_a_host_forwards_between_its_members(lab: Lab) -> None:
    middle, red, blue = lab.host("middle"), lab.host("red"), lab.host("blue")
    links = [lab.connect(host, middle, subnet=False) for host in (red, blue)]
    bridge = middle.add_bridge("br0", red, links[1].b, address="10.3.0.254/24")
    red.add_address("10.3.0.1/24")
    blue.add_address("10.3.0.2/24")
    assert [member.name for member in bridge.members] == ["eth0", "eth1"]
    assert red.ping("10.3.0.2", timeout=QUICK)
    assert red.ping("10.3.0.254", timeout=QUICK)
    bridge.remove_member("eth1")
    assert not red.ping("10.3.0.2", timeout=0.1)
    with pytest.raises(TopologyError, match=r"'eth1' of 'middle'> is not a member of .*; members: eth0"):
        bridge.remove_member("eth1")
    bridge.remove()
    assert list(middle.interfaces) == ["lo", "eth0", "eth1"]


# --------------------------------------------------------------------- on a link


@needs("vlan")
def test_vlans_of_one_link_are_apart(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    for vid in (10, 20):
        red.add_vlan(f"eth0.{vid}", vid, address=f"10.{vid}.0.1/24")
        blue.add_vlan(f"v{vid}", vid, link=red, address=f"10.{vid}.0.2/24")
    assert red.ping("10.10.0.2", timeout=QUICK)
    assert red.ping("10.20.0.2", timeout=QUICK)
    link = red.links[0]
    with link.capture("vlan 10") as capture:
        assert red.ping("10.10.0.2", timeout=QUICK)
        assert not red.ping("10.10.0.9", timeout=0.1)
    assert any(frame.packet.haslayer("Dot1Q") and frame.packet["Dot1Q"].vlan == 10 for frame in capture.frames)
    blue.interface("v10").down()
    assert not red.ping("10.10.0.2", timeout=0.1)
    assert red.ping("10.20.0.2", timeout=QUICK)


@needs("vlan")
def test_qinq_carries_two_tags(pair: tuple[Host, Host]) -> None:
    red, _ = pair
    for number, host in enumerate(pair, 1):
        outer = host.add_vlan("outer", 100, protocol="802.1ad")
        inner = host.add_vlan("inner", 7, link=outer, address=f"10.7.0.{number}/24")
        assert (inner.kind, inner.mac) == ("vlan", host.interface("eth0").mac)
    with red.links[0].capture() as capture:
        assert red.ping("10.7.0.2", timeout=QUICK)
    echo = next(frame for frame in capture.frames if frame.packet.haslayer("ICMP"))
    assert echo.data[12:14] == b"\x88\xa8"
    assert int.from_bytes(echo.data[14:16], "big") & 0xFFF == 100
    assert echo.data[16:18] == b"\x81\x00"
    assert int.from_bytes(echo.data[18:20], "big") & 0xFFF == 7


@pytest.mark.netns_requires("macvlan", "macvtap")
def test_a_macvlan_is_a_further_station_on_the_link(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    one = red.add_macvlan("mv0", address="192.168.15.77/24", mac="02:00:5e:00:00:77")
    two = red.add_macvtap("mt0", link="eth0", mode="bridge", address="192.168.15.78/24")
    assert blue.arp("192.168.15.77").macs
    assert blue.ping(one.ip4, timeout=QUICK)
    assert blue.ping(two.ip4, timeout=QUICK)
    assert one.mac == "02:00:5e:00:00:77"
    assert len({one.mac, two.mac, red.interface("eth0").mac}) == 3
    assert (one.kind, two.kind) == ("macvlan", "macvtap")
    one.remove()
    two.remove()
    assert list(red.interfaces) == ["lo", "eth0"]
    assert not blue.ping("192.168.15.77", timeout=0.1)


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
@needs("ipvlan")
def test_an_ipvlan_shares_the_mac_address(pair: tuple[Host, Host], mode: str) -> None:
    red, blue = pair
    device = red.add_ipvlan("iv0", mode=mode, address="192.168.15.90/24")
    assert device.mac == red.interface("eth0").mac
    if mode == "l2":
        assert blue.ping("192.168.15.90", timeout=QUICK)
        assert blue.arp("192.168.15.90").mac == red.interface("eth0").mac
    else:  # no ARP passes: both have to know where the other is
        blue.iproute.neigh("add", dst="192.168.15.90", lladdr=device.mac, ifindex=blue.interface("eth0").index)
        for name in ("eth0", "iv0"):
            index = red.interface(name).index
            red.iproute.neigh("replace", dst="192.168.15.2", lladdr=blue.mac, ifindex=index, state="permanent")
        assert blue.ping("192.168.15.90", timeout=QUICK)


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan", "vlan"])
@pytest.mark.kernel
def test_a_container_gets_a_device_on_the_link_of_its_host(pair: tuple[Host, Host], kind: str) -> None:
    if not (found := feature(kind)).present:
        pytest.skip(found.reason)
    red, blue = pair
    container = red.lab.host("container")
    more = {"vlan": {"vid": 9}}.get(kind, {})
    device = getattr(container, f"add_{kind}")("eth0", link=red.interface("eth0"), address="192.168.15.99/24", **more)
    assert device.node is container
    assert "eth0" in container.interfaces
    assert list(red.interfaces) == ["lo", "eth0"]
    if kind == "vlan":
        blue.add_vlan("v9", 9, address="192.168.16.2/24")
        device.add_address("192.168.16.99/24")
        assert blue.ping("192.168.16.99", timeout=QUICK)
    else:
        assert blue.ping("192.168.15.99", timeout=QUICK)
        assert not red.ping("192.168.15.99", timeout=0.1)  # as the kernel has it
    with pytest.raises(KernelError, match=rf"'ip link add eth0 type {kind}' in namespace 'container': File exists"):
        getattr(container, f"add_{kind}")(
            "eth0", link=red.interface("eth0"), **{**more, **({"vid": 8} if more else {})}
        )
    assert set(container.interfaces) == {"lo", "eth0"}
    device.remove()
    assert list(container.interfaces) == ["lo"]


# ------------------------------------------------------------------ with members


def two_links(lab: Lab) -> tuple[Host, Host, list[Link]]:
    red, blue = lab.host("red"), lab.host("blue")
    return red, blue, [lab.connect(red, blue, subnet=False) for _ in range(2)]


@needs("bond")
def test_a_bond_survives_a_failing_member(lab: Lab) -> None:
    red, blue, links = two_links(lab)
    one = red.add_bond("bond0", *(link.a for link in links), miimon=0.02, address="10.5.0.1/24")
    two = blue.add_bond("bond0", "eth0", "eth1", miimon=0.02, address="10.5.0.2/24")
    assert one.mode == "active-backup"
    assert [member.name for member in one.members] == ["eth0", "eth1"]
    assert red.ping(two, timeout=QUICK)
    active = one.active
    assert active is not None
    (failing,) = [link for link in links if link.a == active]
    (other,) = [link for link in links if link.a != active]
    two.active = failing.b
    failing.down()
    assert any(red.ping(two, timeout=0.1) for _ in range(30))
    assert one.active == other.a
    one.remove()
    assert "bond0" not in red.interfaces
    assert [link.a.state.master for link in links] == [0, 0]


@needs("bond")
def test_a_bond_in_balance_mode_takes_members_later(lab: Lab) -> None:
    red, blue, links = two_links(lab)
    one = red.add_bond("bond0", mode="balance-rr", address="10.5.0.1/24")
    assert one.members == []
    for link in links:
        one.add_member(link.a)
    blue.add_bond("bond0", "eth0", "eth1", mode="balance-rr", address="10.5.0.2/24")
    one.wait_up()
    assert red.ping("10.5.0.2", count=4, timeout=QUICK)
    one.remove_member(links[0].a)
    assert one.members == [links[1].a]


@needs("bond")
def test_a_refused_bond_leaves_its_members_up(lab: Lab) -> None:
    red, _, links = two_links(lab)
    with pytest.raises(TopologyError, match="mode is 'fast'; it can be 'balance-rr', 'active-backup'"):
        red.add_bond("bond0", links[0].a, mode="fast")  # type: ignore[arg-type]
    with pytest.raises(KernelError, match="mtu"):
        red.add_bond("bond0", links[0].a, links[1].a, mtu=70000)
    assert [link.a.is_up for link in links] == [True, True]
    assert list(red.interfaces) == ["lo", "eth0", "eth1"]
    red.add_bond("bond0", links[0].a)
    with pytest.raises(TopologyError, match="'eth0' of 'red'> has a master already"):
        red.add_bond("bond1", links[0].a)


@needs("vrf")
@pytest.mark.netns_requires("libpcap")
def test_two_vrfs_route_the_same_addresses_apart(lab: Lab) -> None:
    """Two customers with one address plan, behind one router."""
    router = lab.router("router")
    asked = {}
    for name, table in (("red", 10), ("blue", 20)):
        client, server = lab.host(f"{name}-client"), lab.host(f"{name}-server")
        inner = lab.connect(client, router, subnet=False, names=("eth0", f"{name}-in"))
        outer = lab.connect(server, router, subnet=False, names=("eth0", f"{name}-out"))
        for number, link in enumerate((inner, outer), 1):  # by hand: a lab gives no address twice
            link.a.add_address(f"10.{number}.0.1/24")
            link.b.add_address(f"10.{number}.0.254/24")
        vrf = router.add_vrf(name, inner.b, table=table)
        vrf.add_member(server)
        assert vrf.table == table
        assert [member.name for member in vrf.members] == [f"{name}-in", f"{name}-out"]
        assert {str(route.destination) for route in router.routes(table=table)} >= {"10.1.0.0/24", "10.2.0.0/24"}
        client.default_route(via="10.1.0.254")
        server.default_route(via="10.2.0.254")
        asked[name] = client, server
    for name, (client, server) in asked.items():
        other = asked["blue" if name == "red" else "red"][1]
        with server.capture(filter="icmp") as here, other.capture(filter="icmp") as there:
            assert client.ping("10.2.0.1", timeout=QUICK)
        assert len(here) >= 2
        assert len(there) == 0


# ----------------------------------------------------------------------- tunnels


@pytest.mark.netns_requires("vxlan")
@pytest.mark.netns_requires("libpcap")
def test_vxlan_carries_ethernet(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    one = red.add_vxlan("vx0", vni=42, remote=blue, address=["10.42.0.1/24", "fd42::1/64"])
    two = blue.add_vxlan(
        "vx0", vni=42, remote=red.interface("eth0"), local=blue, address=["10.42.0.2/24", "fd42::2/64"]
    )
    assert (one.kind, one.mtu) == ("vxlan", 1450)
    with red.capture("eth0", "udp port 4789") as capture:
        assert red.ping(two.ip4, size=1400, df=True, timeout=QUICK)
        assert red.ping(two.ip6, timeout=QUICK)
    assert len(capture) >= 4
    assert red.arp("10.42.0.2").mac == two.mac
    one.remove()
    assert one.removed
    one.remove()
    assert not red.ping("10.42.0.2", timeout=0.1)
    assert red.devices == []


@pytest.mark.netns_requires("vxlan")
def test_vxlan_over_ipv6_and_with_an_identifier_of_another(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    assert red.add_vxlan("vx6", 1, remote=blue.ip6, port=8472, address="10.6.0.1/24").mtu == 1430
    blue.add_vxlan("vx6", 1, remote=red.ip6, port=8472, address="10.6.0.2/24")
    assert red.ping("10.6.0.2", timeout=QUICK)
    red.add_vxlan("vx7", 7, remote=blue, address="10.7.0.1/24")
    blue.add_vxlan("vx8", 8, remote=red, address="10.7.0.2/24")
    assert not red.ping("10.7.0.2", timeout=0.1)


@pytest.mark.netns_requires("vxlan")
def test_vxlan_with_three_ends(lab: Lab) -> None:
    bridge = lab.bridge("underlay", "192.168.15.0/24")
    hosts = [bridge.host(name) for name in ("red", "green", "blue")]
    devices = [host.add_vxlan("vx0", 5, address=f"10.5.0.{n}/24") for n, host in enumerate(hosts, 1)]
    for device in devices:
        for other in hosts:
            if other is not device.node:
                device.add_remote(other)
    for host in hosts:
        for device in devices:
            if device.node is not host:
                assert host.ping(device, timeout=QUICK)
    devices[0].remove_remote(hosts[1])
    left = {str(row.get_attr("NDA_DST")) for row in hosts[0].iproute.fdb("dump", ifindex=devices[0].index)}
    assert left - {"None"} >= {"192.168.15.3"}
    devices[0].remove()
    devices[0] = hosts[0].add_vxlan("vx0", 5, address="10.5.0.1/24")
    with pytest.raises(KernelError, match=r"bridge fdb delete 00:00:00:00:00:00 dev vx0 dst 192.168.15.2"):
        devices[0].remove_remote(hosts[1])
    with pytest.raises(TopologyError, match="mac is 'x'"):
        devices[0].add_remote(hosts[1], mac="x")


@pytest.mark.parametrize("kind", ["geneve", "gretap", "gre", "ipip"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.kernel
def test_tunnels_over_both_families(pair: tuple[Host, Host], kind: str, version: int) -> None:
    made_as = {"gretap": "ip6gretap", "gre": "ip6gre", "ipip": "ip6tnl"}.get(kind, kind) if version == 6 else kind
    if not (found := feature(made_as)).present:
        pytest.skip(found.reason)
    devices = []
    for number, (host, other) in enumerate((pair, pair[::-1]), 1):
        remote = other.ip4 if version == 4 else other.ip6
        local = {} if kind == "geneve" else {"local": host.ip4 if version == 4 else host.ip6}
        more = {"geneve": {"vni": 3}, "gre": {"key": 9}}.get(kind, {})
        add = getattr(host, f"add_{kind}")
        devices.append(add("t0", remote=remote, address=f"10.4.0.{number}/24", **local, **more))
    assert [device.kind for device in devices] == [made_as, made_as]
    assert 1300 < devices[0].mtu < 1500
    with pair[0].capture("eth0") as capture:
        assert pair[0].ping("10.4.0.2", timeout=QUICK)
    outer = [frame for frame in capture.frames if frame.data[12:14] == (b"\x08\x00" if version == 4 else b"\x86\xdd")]
    assert len(outer) >= 2
    assert pair[0].ping(devices[1], size=devices[0].mtu - 28, df=True, timeout=QUICK)
    devices[0].remove()
    assert list(pair[0].interfaces) == ["lo", "eth0"]


@needs("sit")
def test_sit_carries_ipv6_over_ipv4(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    red.add_sit("six", remote=blue, address="fd66::1/64")
    blue.add_sit("six", remote=red, address="fd66::2/64")
    assert red.ping("fd66::2", timeout=QUICK)
    with pytest.raises(TopologyError, match="its ends are IPv4 addresses"):
        red.add_sit("six6", remote=blue.ip6)


@needs("gre")
def test_gre_keys_tell_tunnels_apart(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    for key in (1, 2):
        red.add_gre(f"g{key}", remote=blue, key=key, address=f"10.{key}.0.1/24")
        blue.add_gre(f"g{key}", remote=red, key=key, address=f"10.{key}.0.2/24")
    for key in (1, 2):
        assert red.ping(f"10.{key}.0.2", timeout=QUICK)
    blue.interface("g2").down()
    assert red.ping("10.1.0.2", timeout=QUICK)
    assert not red.ping("10.2.0.2", timeout=0.1)


@pytest.mark.netns_requires("vxlan")
def test_autoroute_and_explanations_know_tunnels(lab: Lab) -> None:
    left, right = lab.router("left"), lab.router("right")
    lab.connect(left, right, "192.168.15.0/24")
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(left, red, "10.1.0.0/24")
    lab.connect(right, blue, "10.2.0.0/24")
    left.add_vxlan("vx0", 1, remote=right, address="10.42.0.1/24")
    right.add_vxlan("vx0", 1, remote=left, address="10.42.0.2/24")
    lab.autoroute()
    assert red.ping("10.42.0.2", timeout=QUICK)
    left.replace_route("10.2.0.0/24", via="10.42.0.2")
    right.replace_route("10.1.0.0/24", via="10.42.0.1")
    assert red.ping(blue, timeout=QUICK)
    assert red.trace(blue).hops[1].address == ip_address("10.42.0.2")


@pytest.mark.netns_requires("vxlan")
def test_no_tunnel_ends_within_another_unless_asked_for(lab: Lab) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router, "10.1.0.0/24")
    lab.connect(router, blue, "10.2.0.0/24")
    lab.autoroute()
    for number, (host, other) in enumerate(((red, blue), (blue, red)), 1):
        host.add_vxlan("vx0", 1, remote=other, address=f"10.42.0.{number}/24")
    assert red.add_vxlan("vx1", 2, remote=blue).remote == ip_address("10.2.0.2")
    nested = red.add_vxlan("vx2", 3, remote=blue.interface("vx0"))
    assert (nested.remote, nested.mtu) == (ip_address("10.42.0.2"), 1400)


@pytest.mark.netns_requires("vxlan")
def test_an_explanation_looks_below_a_tunnel(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    red.add_vxlan("vx0", 1, remote=blue, address="10.42.0.1/24")
    far = blue.add_vxlan("vx0", 1, remote=red, address="10.42.0.2/24")
    blue.interface("eth0").down()
    with pytest.raises(
        ProbeFailure,
        match=r"red:vx0 \(vxlan\) leads to 192.168.15.2: interface 'eth0' of 'blue' is down",
    ):
        assert_ping(red, "10.42.0.2", timeout=0.1)
    blue.interface("eth0").up()
    far.down()
    with pytest.raises(ProbeFailure, match=r"interface 'vx0' of 'blue' is down"):
        assert_ping(red, "10.42.0.2", timeout=0.1)
    far.remove()
    with pytest.raises(ProbeFailure, match=r"unanswered: nobody in the lab has that address"):
        assert_ping(red, "10.42.0.2", timeout=0.1)


@pytest.mark.netns_requires("macvlan")
def test_an_explanation_looks_below_a_macvlan(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    red.add_macvlan("mv0", address="10.42.0.1/24")
    blue.add_macvlan("mv0", address="10.42.0.2/24")
    assert_ping(red, "10.42.0.2")
    blue.interface("eth0").down()
    with pytest.raises(
        ProbeFailure, match=r"red:mv0 \(macvlan\) lies upon red:eth0: interface 'eth0' of 'blue' is down"
    ):
        assert_ping(red, "10.42.0.2", timeout=0.1)


# ------------------------------------------------------------------ refused values


@pytest.mark.netns_requires("vxlan", "macvlan")
@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda h: h.add_vxlan("vx0", 1 << 24), r"vni is 16777216; it can be 0 to 16777215"),
        (lambda h: h.add_vxlan("vx0", 1, port=0), r"port is 0; it can be 1 to 65535"),
        (lambda h: h.add_vxlan("vx0", 1, remote="nobody"), r"vxlan 'vx0' of 'red': remote: 'nobody' is not an address"),
        (lambda h: h.add_vxlan("vx0", 1, remote="192.168.15.2", local="fd00::1"), r"are of two families"),
        (lambda h: h.add_vxlan("vx0", 1, local="192.168.15.99"), r"local 192.168.15.99 is not an address of 'red'"),
        (lambda h: h.add_vxlan("vx0", 1, address="10.0.0.1"), r"'10.0.0.1' lacks its prefix length"),
        (lambda h: h.add_vxlan("vx0", 1, mtu="big"), r"mtu is 'big'"),
        (lambda h: h.add_vxlan("a name", 1), r"'a name' cannot be an interface's name"),
        (lambda h: h.add_vxlan("x" * 16, 1), r"1 to 15 bytes"),
        (lambda h: h.add_vlan("v", 4095), r"vid is 4095; it can be 1 to 4094"),
        (lambda h: h.add_vlan("v", 1, protocol="802.1X"), r"protocol is '802.1X'; it can be '802.1Q', '802.1ad'"),
        (lambda h: h.add_vlan("v", 1, link="eth9"), r"vlan 'v' of 'red': .*no interface 'eth9'"),
        (lambda h: h.add_gre("g", remote="192.168.15.2", key=-1), r"gre 'g' of 'red': key is -1; it can be 0 to"),
        (lambda h: h.add_sit("s", remote="fd00::7"), r"sit 's' of 'red': .*IPv4 addresses.*given: remote fd00::7"),
        (lambda h: h.add_bridge("b", mtu=1279, address="fd00:1::1/64"), r"an mtu of 1279 it can have no IPv6 address"),
        (lambda h: h.add_vlan("v", 1, link=7), r"7 is no interface; expected a name, an interface or a node"),
        (lambda h: h.add_macvlan("m", mac="2:0"), r"mac is '2:0'"),
        (lambda h: h.add_macvlan("m", link=h), r"has no link to 'red'"),
        (lambda h: h.add_vrf("v", table=0), r"table is 0; it can be 1 to"),
        (lambda h: h.add_bond("b", miimon=-1), r"miimon is -1"),
        (lambda h: h.add_wireguard("w", private_key="abc"), r"'abc' is not a key"),
        (lambda h: h.add_wireguard("w", listen_port=70000), r"wireguard .w. of .red.: listen_port is 70000"),
    ],
)
def test_a_bad_value_is_refused_and_leaves_nothing(
    pair: tuple[Host, Host], ask: Callable[[Host], object], match: str
) -> None:
    red, _ = pair
    with pytest.raises(TopologyError, match=match):
        ask(red)
    assert list(red.interfaces) == ["lo", "eth0"]
    assert red.devices == []


@pytest.mark.netns_requires("vxlan")
def test_what_the_kernel_refuses_leaves_nothing(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    with pytest.raises(KernelError, match="ip address add"):
        red.add_vxlan("vx0", 1, remote=blue, address=["10.0.9.1/24", "10.0.9.1/24"])
    assert list(red.interfaces) == ["lo", "eth0"]
    red.add_vxlan("vx0", 1, remote=blue)  # the name is free again
    with pytest.raises(KernelError, match=r"'ip link add vx1 type vxlan id 1.*File exists"):
        red.add_vxlan("vx1", 1, remote=blue)
    assert [device.name for device in red.devices] == ["vx0"]


@pytest.mark.parametrize("kind", ["bridge", "ifb", "macvlan", "tap", "tun"])
def test_a_name_that_is_taken_is_refused_in_the_same_words_by_every_kind(pair: tuple[Host, Host], kind: str) -> None:
    if not (found := feature(kind)).present:
        pytest.skip(found.reason)
    red, _ = pair
    said = rf"'ip link add eth0 type {kind}' in namespace 'red': File exists \(EEXIST\): 'red' has an interface 'eth0'"
    with pytest.raises(KernelError, match=said):
        getattr(red, f"add_{kind}")("eth0")
    assert list(red.interfaces) == ["lo", "eth0"]
    assert red.devices == []


@pytest.mark.netns_requires("vxlan")
def test_names_are_free_again_after_a_refusal_and_a_removal(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    with pytest.raises(KernelError):
        red.add_vxlan("eth1", 1, address=["10.0.9.1/24", "10.0.9.1/24"])
    assert red.lab.connect(red, blue).a.name == "eth1"
    red.add_vxlan("eth2", 1).remove()
    assert red.lab.connect(red, blue).a.name == "eth2"


def test_an_interface_of_another_is_refused(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    with pytest.raises(TopologyError, match=r"'eth0' of 'blue'> is not an interface of 'red'"):
        red.add_vxlan("vx", 1, link=blue.interface("eth0"))
    with Lab() as other:
        stranger = other.host("stranger")
        other.connect(stranger, other.host("peer"))
        with pytest.raises(TopologyError, match="it is a node of another lab"):
            red.add_macvlan("m", link=stranger.interface("eth0"))


@pytest.mark.netns_requires("macvlan")
def test_a_device_goes_with_its_link(pair: tuple[Host, Host]) -> None:
    red, _ = pair
    device = red.add_macvlan("mv0")
    red.links[0].remove()
    with pytest.raises(TopologyError, match="was removed"):
        _ = device.state
    device.remove()
    assert red.devices == []


def test_without_the_kind_the_module_is_named(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel without it: what the kernel says of a kind that nobody has."""
    red, _ = pair
    monkeypatch.setitem(DEVICES, "nothing", "some_module")
    monkeypatch.setattr(linkinfo, "OPTIONS", {**linkinfo.OPTIONS, "nothing": {}})
    from pytest_netns.devices.builder import DeviceBuilder, DeviceSpec

    with pytest.raises(
        UnsupportedError,
        match=r"'ip link add n0 type nothing' in namespace 'red': this kernel lacks devices of kind 'nothing'; "
        r"try as root: modprobe some_module",
    ):
        DeviceBuilder(red, "nothing", DeviceSpec("n0")).build(Device)
    assert list(red.interfaces) == ["lo", "eth0"]
    assert red.devices == []


@pytest.mark.netns_requires("vxlan")
def test_names_and_mac_addresses_are_the_same_at_each_run() -> None:
    def build() -> str:
        with Lab() as lab:
            return lab.host("red").add_vxlan("vx0", 1).mac

    assert build() == build()


@pytest.mark.netns_requires("vxlan")
def test_a_device_of_a_closed_host_is_refused(lab: Lab) -> None:
    red = lab.host("red")
    red.close()
    with pytest.raises(TopologyError, match="it is closed"):
        red.add_vxlan("vx0", 1)


# ------------------------------------------------------------------- the encoding


def test_the_table_of_kinds_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = kinds.table(ask=False)
    assert {row.kind for row in rows} == {*linkinfo.OPTIONS, "tun", "tap"}
    for row in rows:
        assert callable(getattr(Host, row.method)), row
        assert row.module == {**DEVICES, "tun": "tun", "tap": "tun"}[row.kind]
        assert row.present is None
    methods = {name for name in dir(Host) if name.startswith("add_")} - {"add_address", "add_route"}
    assert {row.method for row in rows} == methods
    monkeypatch.setattr(kinds, "feature", lambda name: Feature(name, name == "vlan"))
    assert [row.kind for row in kinds.table() if row.present] == ["vlan"]


def decoded(kind: str, **options: linkinfo.Value) -> dict[int, bytes]:
    return attributes(linkinfo.encode_options(kind, options))


def test_options_are_encoded_as_the_kernel_has_them() -> None:
    """Numbers and byte orders of <linux/if_link.h> and <linux/if_tunnel.h>."""
    assert decoded("vlan", protocol="802.1ad", vid=100) == {5: b"\x88\xa8", 1: b"\x64\x00"}
    four, six = ip_address("10.0.0.1"), ip_address("fd00::1")
    assert decoded("vxlan", vni=1, remote=four, port=4789) == {1: b"\1\0\0\0", 2: four.packed, 15: b"\x12\xb5"}
    assert decoded("vxlan", remote=six, local=six) == {16: six.packed, 17: six.packed}
    assert decoded("geneve", remote=six) == {7: six.packed}
    assert decoded("gre", remote=six, _oflags=0x2000, _okey=9) == {7: six.packed, 3: b"\x20\0", 5: b"\0\0\0\x09"}
    assert decoded("ipip", remote=four, ttl=9) == {3: four.packed, 4: b"\x09"}


def test_a_request_reads_as_its_command() -> None:
    born = linkinfo.LinkSpec("vlan", "v10", 1000, {"vid": 10}, mtu=1400, link=(7, "eth0"))
    request = linkinfo.device(born)
    assert request.operation == "ip link add link eth0 v10 type vlan id 10"
    state = decode_link(request.body)
    assert (state.index, state.name, state.mtu, state.kind) == (1000, "v10", 1400, "vlan")


def test_ports_of_other_masters_have_no_state_of_a_bridge() -> None:
    """A VRF's member carries its table where a bridge's port carries its state."""
    from pytest_netns.kernel.netlink.socket import attribute

    def link(slave_kind: bytes) -> bytes:
        info = attribute(4, slave_kind) + attribute(5, attribute(1, b"\3\0\0\0"))
        return bytes(16) + attribute(10, b"\7\0\0\0") + attribute(18, info)

    assert decode_link(link(b"bridge\0")).port_state == "forwarding"
    assert decode_link(link(b"vrf\0")).port_state == ""


def test_every_interface_tells_its_kind(netns: Namespace, pair: tuple[Host, Host]) -> None:
    red, _ = pair
    assert red.interface("eth0").kind == "veth"
    assert netns.interface("lo").kind == ""
    assert isinstance(red.interface("eth0"), Interface)
    assert ip_interface("192.168.15.1/24") in red.interface("eth0").addresses


def test_a_tun_is_there_exactly_if_its_device_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    feature.cache_clear()
    monkeypatch.setattr(tun_driver, "PATH", "/nonexistent")
    assert feature("tun").reason == "/nonexistent: No such file or directory; to get it: modprobe tun"
    feature.cache_clear()
