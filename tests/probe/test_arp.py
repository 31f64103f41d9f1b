from __future__ import annotations

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP
from slowness import patient

from pytest_netns import Bridge, Host, Lab, TopologyError


def test_the_owner_of_an_address_answers_with_its_mac(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    link_local = right.addresses()[-1].ip
    for destination in (right, right.ip4, right.ip6, link_local, right.interfaces["eth0"]):
        result = left.arp(destination)
        assert result
        assert result.mac == right.mac
        assert result.interface == "eth0"
        assert result.rtt is not None
        assert right.mac in repr(result)


def test_the_answer_is_a_scapy_packet(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    reply = left.arp(right.ip4).reply
    assert reply is not None
    assert (reply["ARP"].op, reply["ARP"].psrc) == (2, str(right.ip4))
    reply = left.arp(right.ip6).reply
    assert reply is not None
    assert reply["ICMPv6 Neighbor Discovery - Neighbor Advertisement"].tgt == str(right.ip6)


def test_nobody_answers_for_a_free_address(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    for address in (right.ip4 + 50, right.ip6 + 50):
        result = left.arp(address, timeout=0.1)
        assert not result
        assert (result.mac, result.rtt, result.reply, result.error) == (None, None, None, None)
        assert "no answer" in repr(result)


@pytest.mark.netns_requires("program:ip")
def test_the_kernels_own_cache_is_neither_used_nor_changed(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    assert left.arp(right.ip4)
    assert [n for n in left.neighbours() if n.address.version == 4] == []
    left.run(["ip", "neighbour", "add", str(right.ip4), "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
    assert left.arp(right.ip4).mac == right.mac


def test_a_down_interface_is_what_the_kernel_says(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    address = right.ip4
    left.interfaces["eth0"].down()
    result = left.arp(address)
    assert not result
    assert result.error is not None
    assert "Network is down" in repr(result)


def test_the_interface_on_the_link_of_the_address_is_asked(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue)
    lab.connect(red, green)
    assert (red.arp(blue).interface, red.arp(green).interface) == ("eth0", "eth1")
    assert red.arp(green.ip6).mac == green.mac


def test_an_address_on_no_link_is_refused_and_the_links_are_listed(lab: Lab) -> None:
    red = lab.host("red")
    lab.connect(red, lab.host("blue"))
    lab.connect(red, lab.host("green"))
    with pytest.raises(TopologyError, match=r"'red' has no interface on the .*; its interfaces: eth0: 10.* eth1: "):
        red.arp("198.51.100.1")


def test_a_host_without_an_address_can_ask(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red, blue = lab.host("red"), bridge.host("blue")
    lab.connect(red, bridge, subnet=False)
    assert red.arp(blue.ip4).mac == blue.mac


def test_the_bridge_is_asked_through_its_own_device(bridge: Bridge) -> None:
    red = bridge.host("red")
    bridge.add_address(f"{red.ip4 + 76}/24")
    assert red.arp(bridge).mac == bridge.mac
    assert bridge.arp(red).mac == red.mac


def test_only_an_answer_about_the_address_counts(veth_pair: tuple[Host, Host]) -> None:
    from pytest_netns.probe.arp import _answer

    left, right = veth_pair
    for address in (right.ip4, right.ip6):
        reply = left.arp(address).reply
        assert reply is not None
        frame = bytes(reply)
        assert _answer(frame, address.packed) == right.mac
        assert _answer(frame, (address + 1).packed) is None
        for size in range(14, len(frame)):
            assert _answer(frame[:size], address.packed) in (None, right.mac)


@pytest.fixture
def doubled(bridge: Bridge) -> tuple[Host, Host, Host]:
    """``red``, and two hosts that both have 10.77.0.7 and fd77::7, by somebody's mistake."""
    red, one, two = bridge.host("red"), bridge.host("one"), bridge.host("two")
    for host in (one, two):
        host.run(["ip", "address", "add", "10.77.0.7/24", "dev", "eth0"])
        host.run(["ip", "address", "add", "fd77::7/64", "dev", "eth0", "nodad"])
    return red, one, two


@pytest.mark.parametrize("address", ["10.77.0.7", "fd77::7"])
@pytest.mark.netns_requires("program:ip")
def test_duplicate_address_detection_finds_everybody_who_has_it(doubled: tuple[Host, Host, Host], address: str) -> None:
    red, one, two = doubled
    result = red.arp(address, dad=True, timeout=patient(0.3))
    assert result
    assert sorted(result.macs) == sorted([one.mac, two.mac])
    assert result.mac == result.macs[0]
    assert repr(result).endswith(f": DUPLICATE, {result.macs[0]} and {result.macs[1]}>")
    assert len(red.arp(address).macs) == 1  # without it the first answer is enough


@pytest.mark.parametrize("version", [4, 6])
def test_duplicate_address_detection_asks_as_one_who_has_no_address_yet(
    veth_pair: tuple[Host, Host], version: int
) -> None:
    left, right = veth_pair
    address = right.ip4 if version == 4 else right.ip6
    with right.capture("eth0", ARP if version == 4 else ICMPv6ND_NS) as capture:
        result = left.arp(address, dad=True, timeout=patient(0.05))
    assert result.macs == (right.mac,)
    asked = [packet for packet in capture.packets if packet.src == left.mac]
    assert asked
    for packet in asked:
        if version == 4:
            assert (packet[ARP].psrc, packet[ARP].pdst) == ("0.0.0.0", str(address))
        else:
            assert (packet[IPv6].src, packet[ICMPv6ND_NS].tgt) == ("::", str(address))
            assert not packet.haslayer(ICMPv6NDOptSrcLLAddr)  # RFC 4861 4.3


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.netns_requires("program:ip")
def test_an_address_of_ones_own_is_no_duplicate_unless_another_has_it(
    veth_pair: tuple[Host, Host], version: int
) -> None:
    left, right = veth_pair
    own = left.ip4 if version == 4 else left.ip6
    assert not left.arp(own, dad=True, timeout=0.05)
    prefix = 24 if version == 4 else 64
    right.run(["ip", "address", "add", f"{own}/{prefix}", "dev", "eth0", *(["nodad"] if version == 6 else [])])
    assert left.arp(own, dad=True, timeout=patient(0.05)).macs == (right.mac,)
