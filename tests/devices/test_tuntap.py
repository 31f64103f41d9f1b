"""TUN and TAP: the test reads and writes the packets of an interface itself."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from pytest_netns import Host, KernelError, Lab, NetnsError, ProbeFailure, TopologyError, UnsupportedError
from pytest_netns.devices.tuntap import Tap, Tun
from pytest_netns.kernel import tun_driver
from pytest_netns.kernel.features.features import feature

pytestmark = pytest.mark.netns_requires("tun")


@pytest.fixture
def red(lab: Lab) -> Host:
    return lab.host("red")


@pytest.fixture
def tun(red: Host) -> Tun:
    return red.add_tun("tun0", address=["10.8.0.1/24", "fd08::1/64"])


@pytest.fixture
def tap(red: Host) -> Tap:
    return red.add_tap("tap0", address="10.9.0.1/24")


def echo(source: str = "10.8.0.2", destination: str = "10.8.0.1", number: int = 7) -> Packet:
    return IP(src=source, dst=destination) / ICMP(id=number)


def test_what_is_sent_arrives_and_what_answers_is_received(tun: Tun) -> None:
    assert tun.send(echo()) == 1
    reply = tun.recv()
    assert isinstance(reply, IP)
    assert (reply.src, reply.dst, reply[ICMP].type, reply[ICMP].id) == ("10.8.0.1", "10.8.0.2", 0, 7)
    assert reply.sniffed_on == "red:tun0"
    assert tun.recv(timeout=0) is None


def test_ipv6_too(tun: Tun) -> None:
    tun.send(IPv6(src="fd08::2", dst="fd08::1") / ICMPv6EchoRequest(id=9))
    assert tun.expect(ICMPv6EchoReply)[ICMPv6EchoReply].id == 9


def test_bytes_and_several_at_once(tun: Tun) -> None:
    assert tun.send(bytes(echo(number=1))) == 1
    assert tun.send(IP(src="10.8.0.2", dst="10.8.0.1", ttl=[7, 8]) / ICMP(id=2)) == 2
    assert [tun.expect(ICMP)[ICMP].id for _ in range(3)] == [1, 2, 2]


def test_iteration_gives_what_waits(tun: Tun) -> None:
    for number in range(3):
        tun.send(echo(number=number))
    assert [packet[ICMP].id for packet in tun] == [0, 1, 2]
    assert list(tun) == []


def test_the_kernels_own_traffic_is_received(tun: Tun, red: Host) -> None:
    with red.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", ("10.8.0.9", 53))
    packet = tun.expect(UDP(dport=53))
    assert bytes(packet[UDP].payload) == b"hello"


def test_expect_leaves_the_others_and_says_what_came(tun: Tun) -> None:
    for number in (1, 2):
        tun.send(echo(number=number))
    assert tun.expect(ICMP(id=2))[ICMP].id == 2
    with pytest.raises(ProbeFailure, match=r"from red:tun0 within 0.05 s, got none; 1 others came:\n.*echo-reply"):
        tun.expect(UDP, timeout=0.05)
    waiting = tun.recv()
    assert waiting is not None
    assert waiting[ICMP].id == 1
    with pytest.raises(ProbeFailure, match="got none; nothing came"):
        tun.expect(UDP, timeout=0)


def test_a_tap_carries_frames_and_the_test_answers_arp(tap: Tap) -> None:
    tap.send(Ether() / ARP(psrc="10.9.0.2", pdst="10.9.0.1"))
    answer = tap.expect(ARP(op=2))
    assert (answer.src, answer[ARP].hwsrc, answer[ARP].hwdst) == (tap.mac, tap.mac, tap.peer_mac)
    tap.send(Ether() / echo("10.9.0.2", "10.9.0.1"))
    reply = tap.expect(ICMP)
    assert (reply[Ether].dst, reply[IP].dst) == (tap.peer_mac, "10.9.0.2")
    tap.send(Ether() / echo("10.9.0.3", "10.9.0.1"))
    asked = tap.expect(ARP(op=1))
    assert asked[ARP].pdst == "10.9.0.3"
    tap.send(Ether() / ARP(op=2, psrc="10.9.0.3", pdst="10.9.0.1"))
    assert tap.expect(ICMP)[IP].dst == "10.9.0.3"


def test_a_tap_can_be_a_bridges_member(lab: Lab) -> None:
    """As a virtual machine is connected."""
    host, blue = lab.host("host"), lab.host("blue")
    lab.connect(host, blue, addresses=((), "10.3.0.2/24"))
    tap = host.add_tap("vm0")
    host.add_bridge("br0", tap, blue)
    tap.send(Ether() / ARP(psrc="10.3.0.1", pdst="10.3.0.2"))
    assert tap.expect(ARP(op=2))[ARP].hwsrc == blue.mac


def test_chatter_is_left_out_unless_asked_for(red: Host) -> None:
    quiet, loud = red.add_tap("q0", address="fd01::1/64"), red.add_tap("l0", chatter=True, address="fd02::1/64")
    for prefix in ("fd01", "fd02"):
        with red.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (f"{prefix}::2", 9))
    assert loud.expect(ICMPv6ND_NS)[ICMPv6ND_NS].tgt == "fd02::2"
    assert quiet.recv(0.05) is None
    with pytest.raises(TopologyError, match=r"left out of .* as chatter; make it with chatter=True"):
        quiet.expect(ICMPv6ND_NS)


def test_it_works_with_selectors_and_asyncio(tun: Tun) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(tun, selectors.EVENT_READ)
        assert selector.select(0) == []
        tun.send(echo(number=1))
        assert len(selector.select(1)) == 1
        assert tun.recv(0) is not None

    async def receive() -> Packet | None:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_reader(tun, arrived.set)
        tun.send(echo(number=2))
        await asyncio.wait_for(arrived.wait(), 1)
        loop.remove_reader(tun)
        return tun.recv(0)

    packet = asyncio.run(receive())
    assert packet is not None
    assert packet[ICMP].id == 2


def test_nothing_is_filled_in_from_the_machine(tun: Tun, tap: Tap) -> None:
    for packet, match in (
        (IP(dst="10.8.0.1") / ICMP(), r"IP\(src=...\) is not set"),
        (IPv6(src="fd08::2") / ICMPv6EchoRequest(), r"IPv6\(dst=...\) is not set"),
        (
            Ether() / IP(src="10.8.0.2", dst="10.8.0.1"),
            "a tun carries IP packets; for Ethernet frames there is add_tap",
        ),
    ):
        with pytest.raises(TopologyError, match=match):
            tun.send(packet)
    for packet, match in (
        (IP(src="10.9.0.2", dst="10.9.0.1"), "a tap carries Ethernet frames"),
        (Ether() / ARP(pdst="10.9.0.1"), r"ARP\(psrc=...\) is not set"),
        (Ether() / IP(dst="10.9.0.1"), r"IP\(src=...\) is not set"),
    ):
        with pytest.raises(TopologyError, match=match):
            tap.send(packet)
    with pytest.raises(TypeError, match="expected a scapy packet or bytes"):
        tun.send("hello")  # type: ignore[arg-type]
    assert tun.send(IP(src=ip_address("10.8.0.2"), dst=ip_address("10.8.0.1")) / ICMP()) == 1


def test_down_is_refused_by_name(tun: Tun) -> None:
    tun.down()
    with pytest.raises(KernelError, match=r"'send IP / ICMP .* by tun0' in namespace 'red': .*: the device is down"):
        tun.send(echo())
    tun.up()
    tun.wait_up()
    tun.send(echo())
    assert tun.recv() is not None


def test_remove_takes_it_away_and_closes_the_descriptor(red: Host, tun: Tun, tap: Tap) -> None:
    descriptor = tun.fileno()
    tun.remove()
    tun.remove()
    assert list(red.interfaces) == ["lo", "tap0"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(NetnsError, match=r"'tun0' .* was removed"):
        tun.recv()
    again = red.add_tun("tun0", address="10.8.0.1/24")
    again.send(echo())
    assert again.recv() is not None


def test_closing_its_host_closes_the_descriptor(lab: Lab) -> None:
    host = lab.host("short")
    tun = host.add_tun("tun0")
    host.close()
    with pytest.raises(NetnsError, match="was removed"):
        tun.fileno()


def test_names_numbers_and_settings(red: Host) -> None:
    tap = red.add_tap("tap0", mac="02:00:5e:00:00:01", mtu=9000, up=False)
    assert (tap.mac, tap.mtu, tap.is_up, tap.kind) == ("02:00:5e:00:00:01", 9000, False, "tap")
    tun = red.add_tun("tun0", mtu=1280)
    assert (tun.mtu, tun.is_up, tun.kind, tun.addresses) == (1280, True, "tun", [])
    assert red.interface("tun0").index == tun.index >= 1000


def test_what_the_kernel_refuses_leaves_nothing(red: Host) -> None:
    red.add_tun("tun0")
    with pytest.raises(KernelError, match="mtu"):
        red.add_tap("tap0", mtu=20)
    red.add_tap("tap0").remove()
    assert list(red.interfaces) == ["lo", "tun0"]


def test_what_tun_itself_refuses_is_told_in_the_words_of_ip(red: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun_driver, "_TUNSETIFF", 0)
    with pytest.raises(KernelError, match=r"'ip tuntap add tun0 mode tun' in namespace 'red': "):
        red.add_tun("tun0")
    assert list(red.interfaces) == ["lo"]


def test_without_its_device_the_module_is_named(red: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    feature.cache_clear()
    monkeypatch.setattr(tun_driver, "PATH", "/nonexistent")
    with pytest.raises(UnsupportedError, match=r"'ip tuntap add tun0 mode tun' .* modprobe tun"):
        red.add_tun("tun0")
    feature.cache_clear()
    assert red.devices == []


def test_two_labs_may_use_one_name(lab: Lab) -> None:
    with Lab("other") as other:
        taps = [each.host("h").add_tap("tap0", address="10.9.0.1/24") for each in (lab, other)]
        taps[0].send(Ether() / ARP(psrc="10.9.0.2", pdst="10.9.0.1"))
        assert taps[0].recv() is not None
        assert taps[1].recv(0.02) is None
