"""Bridges that look at VLAN tags (IEEE 802.1Q)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pytest_netns import Bridge, Host, Lab, TopologyError, UnsupportedError
from pytest_netns.kernel.features import features
from pytest_netns.kernel.features.features import Feature, feature
from pytest_netns.kernel.netlink.bridge_vlan import Vlan, bridge_vlan, decode_vlans
from pytest_netns.kernel.netlink.socket import attribute, attributes
from pytest_netns.lab import switch as switch_module

QUICK = 0.5


def needs(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def mark(test: Callable[..., None]) -> Callable[..., None]:
        marked: Callable[..., None] = pytest.mark.kernel(pytest.mark.netns_requires("vlan_filtering", *names)(test))
        return marked

    return mark


def switch(lab: Lab, *names: str) -> tuple[Bridge, list[Host]]:
    bridge = lab.bridge("sw", "192.168.15.0/24", vlan_filtering=True)
    return bridge, [bridge.host(name) for name in names]


@needs()
def test_all_ports_begin_in_one_vlan(lab: Lab) -> None:
    bridge, (red, blue) = switch(lab, "red", "blue")
    assert red.ping(blue, timeout=QUICK)
    everybody = Vlan(1, pvid=True, untagged=True)
    assert bridge.vlans() == {"sw": (everybody,), "red": (everybody,), "blue": (everybody,)}


@needs()
def test_access_ports_of_two_vlans_are_apart(lab: Lab) -> None:
    bridge, (red, blue, green) = switch(lab, "red", "blue", "green")
    bridge.access(red, 10)
    bridge.access("blue", 20)
    bridge.access(green.interface("eth0"), 10)
    assert red.ping(green, timeout=QUICK)
    assert not red.ping(blue, timeout=0.1)
    assert bridge.vlans()["red"] == (Vlan(10, pvid=True, untagged=True),)
    bridge.access(bridge.ports["blue"], 10)
    assert red.ping(blue, timeout=3)  # the kernel repeats the ARP request that was lost before after a second


@needs("vlan")
def test_a_trunk_carries_tags_to_a_router(lab: Lab) -> None:
    """A router on a stick: one cable, an interface a VLAN."""
    bridge = lab.bridge("sw", False, vlan_filtering=True)
    router = lab.router("router")
    lab.connect(router, bridge)
    bridge.trunk(router, [10, 20])
    hosts = []
    for vid in (10, 20):
        router.add_vlan(f"eth0.{vid}", vid, address=f"10.{vid}.0.254/24")
        host = lab.host(f"h{vid}", bridge)
        host.add_address(f"10.{vid}.0.1/24")
        host.default_route(f"10.{vid}.0.254")
        bridge.access(host, vid)
        hosts.append(host)
    assert bridge.vlans()["router"] == (Vlan(10), Vlan(20))
    assert hosts[0].ping(hosts[1], timeout=QUICK)
    assert hosts[0].trace(hosts[1]).hops[0].address == router.interface("eth0.10").ip4
    bridge.unset_vlan(router, 20)
    assert not hosts[0].ping(hosts[1], timeout=0.1)
    with pytest.raises(TopologyError, match="bridge 'sw': port 'router' is not in VLAN 20; it is in: 10"):
        bridge.unset_vlan(router, 20)


@needs()
def test_a_trunk_between_bridges_with_a_native_vlan(lab: Lab) -> None:
    one = lab.bridge("one", "192.168.15.0/24", vlan_filtering=True)
    two = lab.bridge("two", one, vlan_filtering=True)
    lab.connect(one, two)
    hosts = {
        f"{bridge.name}{vid}": (bridge.host(f"{bridge.name}{vid}"), vid) for bridge in (one, two) for vid in (5, 6)
    }
    for bridge, other in ((one, two), (two, one)):
        bridge.trunk(other, [6], native=5)
    for name, (host, vid) in hosts.items():
        (one if name.startswith("one") else two).access(host, vid)
    assert one.vlans()["two"] == (Vlan(5, pvid=True, untagged=True), Vlan(6))
    assert hosts["one5"][0].ping(hosts["two5"][0], timeout=QUICK)
    assert hosts["one6"][0].ping(hosts["two6"][0], timeout=QUICK)
    assert not hosts["one5"][0].ping(hosts["two6"][0], timeout=0.1)


@needs()
def test_the_bridges_own_device_is_in_vlans_too(lab: Lab) -> None:
    bridge, (red,) = switch(lab, "red")
    bridge.add_address("192.168.15.200/24")
    assert red.ping("192.168.15.200", timeout=QUICK)
    bridge.access(red, 10)
    assert not red.ping("192.168.15.200", timeout=0.1)
    bridge.set_vlan(bridge, 10, pvid=True, untagged=True)
    assert red.ping("192.168.15.200", timeout=QUICK)
    bridge.unset_vlan(bridge, 10)
    assert not red.ping("192.168.15.200", timeout=0.1)


@needs()
def test_bad_values_are_refused(lab: Lab) -> None:
    bridge, (red, blue) = switch(lab, "red", "blue")
    before = bridge.vlans()
    for ask, match in (
        (lambda: bridge.set_vlan(red, 0), "vid is 0; it can be 1 to 4094"),
        (lambda: bridge.trunk(red, [10, 4095]), "vid is 4095"),
        (lambda: bridge.access("green", 10), "bridge 'sw': no 'green'; ports: red, blue"),
        (lambda: bridge.access(lab.host("loner"), 10), "no 'loner'"),
    ):
        with pytest.raises(TopologyError, match=match):
            ask()
    lab.connect(blue, bridge)
    with pytest.raises(TopologyError, match="2 ports lead to 'blue': blue, blue-"):
        bridge.access(blue, 10)
    assert {name: before[name] for name in before} == {name: bridge.vlans()[name] for name in before}


def test_without_filtering_there_are_no_vlans(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red = bridge.host("red")
    with pytest.raises(TopologyError, match="bridge 'br0' has no VLAN filtering: create it with vlan_filtering=True"):
        bridge.access(red, 10)


def test_a_kernel_without_it_says_so(lab: Lab) -> None:
    if feature("vlan_filtering").present:
        pytest.skip("this kernel has it")
    with pytest.raises(UnsupportedError, match=r"bridge 'sw' with vlan_filtering: .*CONFIG_BRIDGE_VLAN_FILTERING=y"):
        lab.bridge("sw", "192.168.15.0/24", vlan_filtering=True)
    assert len(lab) == 0
    lab.bridge("sw", "192.168.15.0/24")


def test_a_kernel_that_ignores_the_request_is_found_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_module.linkinfo, "encode_options", lambda _kind, _options: b"")
    monkeypatch.setattr(switch_module, "BRIDGE_VLAN_FILTERING", 9999)
    monkeypatch.setattr(features, "feature", lambda name: Feature(name, False, "not here"))
    with pytest.raises(UnsupportedError, match="bridge 'sw' with vlan_filtering: not here"):
        lab.bridge("sw", vlan_filtering=True)
    assert len(lab) == 0


# ------------------------------------------------------------------- the messages


def test_a_request_reads_as_its_command() -> None:
    """Numbers of <linux/if_bridge.h>."""
    request = bridge_vlan(7, "red", 10, pvid=True, untagged=True)
    assert (request.type, request.operation) == (19, "bridge vlan add dev red vid 10 pvid untagged")
    assert attributes(attributes(request.body, 16)[26]) == {0: b"\1\0", 2: struct.pack("=HH", 6, 10)}
    own = bridge_vlan(7, "sw", 10, own=True, delete=True)
    assert (own.type, own.operation) == (17, "bridge vlan delete dev sw vid 10 self")


def test_vlans_are_decoded_one_by_one() -> None:
    infos = b"".join(attribute(2, struct.pack("=HH", flags, vid)) for flags, vid in ((6, 1), (0, 10)))
    header = b"\x07" + bytes(15)  # AF_BRIDGE
    body = header + attribute(3, b"red\0") + attribute(26, attribute(0, b"\0\0") + infos)
    assert decode_vlans(body) == ("red", (Vlan(1, pvid=True, untagged=True), Vlan(10)))
    assert decode_vlans(header + attribute(3, b"red\0")) == ("red", ())
