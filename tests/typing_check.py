"""The public names as users write them, for type checkers alone: nobody runs this file.

mypy and pyright read it in ``tox -e typing``. ``assert_type`` says what an editor must know; a line with
``type: ignore`` must be an error, because both complain of one that is not needed.
"""

from __future__ import annotations

import asyncio
import re
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from subprocess import CompletedProcess
from typing import Literal, assert_type

from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from scapy.plist import PacketList, SndRcvList

import pytest_netns
from pytest_netns import (
    ActiveImpairment,
    ArpResult,
    Block,
    Bond,
    Bridge,
    Capture,
    CommandError,
    Crash,
    Destination,
    Device,
    DnsResult,
    Explanation,
    Fault,
    Frame,
    Freeze,
    Host,
    Impairment,
    Interface,
    KernelError,
    Lab,
    LabFactory,
    Link,
    LossResult,
    Master,
    Namespace,
    NamespaceFactory,
    NetnsError,
    Node,
    Partition,
    PathMtuResult,
    PingMatrix,
    PingResult,
    ProbeFailure,
    Process,
    Router,
    RttStatistics,
    Schedule,
    Source,
    Tap,
    TcpResult,
    ThroughputResult,
    TraceResult,
    Tun,
    UdpResult,
    Vrf,
    Vxlan,
    WaitTimeout,
    WireGuard,
    assert_arp,
    assert_blocked,
    assert_loss,
    assert_no_arp,
    assert_no_ping,
    assert_no_udp,
    assert_not_path,
    assert_path,
    assert_ping,
    assert_rate,
    assert_rtt,
    assert_tcp_closed,
    assert_tcp_filtered,
    assert_tcp_not_open,
    assert_tcp_open,
    assert_udp,
    describe,
    enter_sandbox,
    eventually,
    presets,
    ready,
    why,
)

Address = IPv4Address | IPv6Address
AddressWithPrefix = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


# ------------------------------------------------------------------- fixtures


def test_namespaces(netns: Namespace, netns_factory: NamespaceFactory) -> None:
    assert_type(netns_factory(), Namespace)
    assert_type(netns_factory("red"), Namespace)
    assert_type(netns_factory(name=None), Namespace)
    netns_factory(1)  # type: ignore[arg-type]


def test_labs(lab: Lab, lab_factory: LabFactory, bridge: Bridge, veth_pair: tuple[Host, Host]) -> None:
    assert_type(lab_factory(), Lab)
    assert_type(lab_factory("backbone", ipv4="10.0.0.0/8", ipv6=None, isolate={"mount", "pid"}), Lab)
    assert_type(lab_factory(sysctls={"net.ipv4.ip_forward": 1}), Lab)
    assert_type(lab_factory(impairments="relay"), Lab)
    lab_factory(impairments="tc")  # type: ignore[arg-type]
    assert_type(lab_factory(neighbours="known", offload=False), Lab)
    lab_factory(neighbours="static")  # type: ignore[arg-type]
    lab_factory(ip4="10.0.0.0/8")  # type: ignore[call-arg]
    lab_factory(isolate={"disk"})  # type: ignore[arg-type]
    left, right = veth_pair
    assert_type(left, Host)
    assert_type(right, Host)
    assert_type(bridge.host("red"), Host)
    assert_type(bridge.host("green", offload=False), Host)


def test_without_fixtures() -> None:
    enter_sandbox()
    with Lab("mine", ipv6=None) as lab:
        assert_type(lab, Lab)
    with Namespace("red", sysctls={"net.ipv4.ip_forward": "1"}) as ns:
        assert_type(ns, Namespace)
    Lab(ipv4=8)  # type: ignore[arg-type]


# ------------------------------------------------------------------ namespace


def one(number: int, *, text: str) -> list[str]:
    return [text] * number


def test_what_runs_inside(netns: Namespace) -> None:
    with netns as inside:
        assert_type(inside, Namespace)
    assert_type(netns.name, str)
    assert_type(netns.fd, int)
    assert_type(netns.inode, int)
    assert_type(netns.path, str)
    assert_type(netns.closed, bool)
    assert_type(netns.publish("red"), str)
    assert_type(netns.call(one, 3, text="x"), list[str])
    netns.call(one, "3", text="x")  # type: ignore[arg-type]
    netns.call(one, 3)  # type: ignore[call-arg]
    assert_type(netns.socket(socket.AF_INET6, socket.SOCK_DGRAM), socket.socket)
    done = netns.run(["ip", "route"], check=False, timeout=1, input="", env={"A": "b"}, cwd="/")
    assert_type(done, CompletedProcess[str])
    assert_type(done.stdout.splitlines()[0], str)
    assert_type(Namespace.attach(1), Namespace)
    assert_type(Namespace.attach("/proc/1/ns/net", "init"), Namespace)


def test_processes(netns: Namespace) -> None:
    process = netns.spawn(["dnsmasq", "-k"], ready=8080, timeout=5)
    assert_type(process, Process)
    netns.spawn(["x"], ready=ready.listening(53, "udp"))
    netns.spawn(["x"], ready=ready.output(re.compile("up")))
    netns.spawn(["x"], ready=ready.path("/run/x"))
    netns.spawn(["x"], ready=lambda: True)
    netns.spawn(["x"], may_end=True, expect_exit=0)
    netns.spawn(["x"], expect_exit="0")  # type: ignore[arg-type]
    netns.spawn(["x"], ready="8080")  # type: ignore[arg-type]
    ready.listening(53, "sctp")  # type: ignore[arg-type]
    with process as running:
        assert_type(running, Process)
    assert_type(process.pid, int)
    assert_type(process.output, str)
    assert_type(process.returncode, int | None)
    assert_type(process.wait(timeout=1), int)
    assert_type(process.terminate(), int)
    assert_type(process.kill(), int)
    process.wait_until(ready.output("converged"), timeout=3)
    assert_type(netns.processes, list[Process])


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())


async def talk(left: Host, right: Host) -> None:
    async with await right.start_server(answer, right, 7) as server:
        assert_type(server, asyncio.Server)
        reader, writer = await left.open_connection(right.ip4, 7)
        assert_type(reader, asyncio.StreamReader)
        assert_type(writer, asyncio.StreamWriter)
        await left.open_connection("blue", 7)
        await left.open_connection(7, 7)  # type: ignore[arg-type]


def test_views(netns: Namespace) -> None:
    netns.sysctl["net.ipv4.ip_forward"] = 1
    assert_type(netns.sysctl["net.ipv4.ip_forward"], str)
    netns.sysctl["net.ipv4.ip_forward"] = None  # type: ignore[assignment]
    eth0 = netns.interfaces["eth0"]
    assert_type(eth0, Interface)
    assert_type(netns.interface("eth0"), Interface)
    assert_type(netns.addresses(), list[AddressWithPrefix])
    route = netns.routes()[0]
    assert_type(route.destination, Network)
    assert_type(route.gateway, Address | None)
    assert_type(netns.route_to("10.0.0.1").interface, str | None)
    assert_type(netns.neighbours()[0].mac, str | None)
    assert_type(netns.nft("list ruleset"), str)
    assert_type(netns.nft_ruleset(), list[dict[str, object]])
    assert_type(netns.iproute, IPRoute)
    assert_type(eth0.name, str)
    assert_type(eth0.index, int)
    assert_type(eth0.mac, str)
    assert_type(eth0.node.name, str)
    assert_type(eth0.ip4, IPv4Address | None)
    assert_type(eth0.ip6, IPv6Address | None)
    assert_type(eth0.addresses, list[AddressWithPrefix])
    assert_type(eth0.is_up, bool)
    assert_type(eth0.mtu, int)
    eth0.mtu = 1400
    eth0.mac = "02:00:00:00:00:01"  # type: ignore[misc]


# ------------------------------------------------------------------------ lab


def test_building(lab: Lab) -> None:
    lan = lab.bridge("lan", "10.1.0.0/24")
    assert_type(lan, Bridge)
    lab.bridge("dark", False)
    lab.bridge("both", ["10.2.0.0/24", "fd01::/64"])
    lab.bridge("far", lan)
    lab.bridge("bad", True)  # type: ignore[arg-type]
    red = lab.host("red", lan, address="10.1.0.7", isolate={"mount"})
    assert_type(red, Host)
    lab.host("blue", "lan")  # type: ignore[arg-type]
    router = lab.router("router", lan, lab.bridge("wan"))
    assert_type(router, Router)
    link = lab.connect(red, router, addresses=("10.3.0.1/24", ["10.3.0.2/24"]), mtu=1400, names=("up", "down"))
    assert_type(link, Link)
    lab.connect(red, "blue")  # type: ignore[arg-type]
    assert_type(lab["red"], Node)
    assert_type([node.name for node in lab], list[str])
    assert_type(len(lab), int)
    assert_type(lab.links, tuple[Link, ...])
    assert_type(lab.adopt(Namespace.attach("box"), "box"), Host)
    assert_type(lab.ping_all(timeout=2), PingMatrix)
    assert_type(why(lab.ping_all()), Explanation)
    assert_type(why(lab.ping_all()).cures, list[str])
    assert_type(lab.ping_all()["red", "blue"], PingResult)
    lab.autoroute()
    lab.dns["www.example.com"] = red
    lab.dns["mail.example.com"] = ["10.1.0.9", IPv6Address("fd00::9")]
    lab.dns["www.example.org"] = 9  # type: ignore[assignment]
    assert_type(lab.dns["www.example.com"], list[Address])


def test_parts_of_a_lab(lab: Lab, bridge: Bridge, veth_pair: tuple[Host, Host]) -> None:
    red, blue = veth_pair
    link = lab.connect(red, blue)
    link.down()
    link.up()
    assert_type(link.a, Interface)
    assert_type(link.b.mac, str)
    assert_type(link.is_up, bool)
    assert_type(link.end(red), Interface)
    link.remove()
    assert_type(bridge.attach(red, address="10.0.0.9"), Interface)
    with bridge.detach(red) as unplugged:
        print(unplugged.in_force)
    assert_type(bridge.subnet, Network)
    assert_type(bridge.ports, dict[str, Interface])
    assert_type(bridge.fdb()[0].mac, str)
    assert_type(bridge.port(red), Interface)
    assert_type(bridge.vlans()["red"][0].vid, int)
    assert_type(bridge.port_states, dict[str, str])
    bridge.trunk("red", range(2, 5), native=1)
    bridge.access(red, 2)
    bridge.access(red, "2")  # type: ignore[arg-type]
    assert_type(red.ip, Address)
    assert_type(red.ip4, IPv4Address)
    assert_type(red.ip6, IPv6Address)
    assert_type(red.mac, str)
    assert_type(red.lab.name, str)
    assert_type(describe(Lab()), str)
    assert_type(red.links, list[Link])


def test_routes_and_nat(lab: Lab, veth_pair: tuple[Host, Host]) -> None:
    red, blue = veth_pair
    router = lab.router("router")
    red.default_route(via=router)
    red.add_route("10.9.0.0/16", via=router, metric=10)
    red.add_route(IPv4Network("10.8.0.0/16"), kind="blackhole")
    red.replace_route(blue, "10.0.0.1", interface="eth0")
    red.remove_route("default")
    red.add_route(10, via=router)  # type: ignore[arg-type]
    lab["red"].default_route(via=router)  # type: ignore[attr-defined]  # a bridge has no routes
    node = lab["red"]
    assert isinstance(node, Host)
    node.default_route(via=router)
    rule = router.masquerade("eth1")
    assert_type(rule.counter.packets, int)
    rule.remove()
    forwarded = router.forward_port(80, blue, 8080, protocol="udp", on="eth1")
    forwarded.change(to=red, to_port=81)
    router.forward_port(80, blue, protocol="sctp")  # type: ignore[arg-type]


# --------------------------------------------------------------------- probes


def test_probes(lab: Lab, veth_pair: tuple[Host, Host], bridge: Bridge) -> None:
    red, blue = veth_pair
    ping = red.ping(blue, count=3, interval=0.1, timeout=1, size=56, ttl=64, df=True)
    assert_type(ping, PingResult)
    assert_type(ping.sent, int)
    assert_type(ping.loss, float)
    assert_type(ping.rtts, tuple[float, ...])
    assert_type(ping.ttl, int | None)
    assert_type(ping.address, Address)
    assert_type(ping.replies, list[Packet])
    if ping.error is not None:
        assert_type(ping.error.text, str)
        assert_type(ping.error.sender, Address | None)
    red.ping("10.0.0.1")
    red.ping(blue.interfaces["eth0"])
    red.ping(lab["blue"])
    red.ping(7)  # type: ignore[arg-type]
    red.ping(blue, 3)  # type: ignore[call-arg]
    red.ping(blue, counts=3)  # type: ignore[call-arg]
    arp = red.arp(blue, dad=True)
    assert_type(arp, ArpResult)
    assert_type(arp.mac, str | None)
    assert_type(arp.macs, tuple[str, ...])
    tcp = red.tcp(blue, 80)
    assert_type(tcp, TcpResult)
    assert_type(
        tcp.state,
        Literal["open", "closed", "filtered", "unreachable", "answered-elsewhere", "bad-checksum", "inconclusive"],
    )
    udp = red.udp(blue, 53, b"?")
    assert_type(udp, UdpResult)
    assert_type(
        udp.state,
        Literal["answered", "closed", "unreachable", "silent", "answered-elsewhere", "bad-checksum", "inconclusive"],
    )
    assert_type(udp.reply, bytes)
    red.udp(blue, 53, "?")  # type: ignore[arg-type]
    dns = red.dns(blue, "www.example.com", "AAAA")
    assert_type(dns, DnsResult)
    assert_type(dns.rcode, str | None)
    assert_type(dns.answers, tuple[str, ...])
    trace = red.trace(blue, method="udp", max_hops=3)
    assert_type(trace, TraceResult)
    assert_type(trace.path, list[str])
    assert_type([hop.address for hop in trace.hops], list[Address | None])
    red.trace(blue, method="gre")  # type: ignore[arg-type]
    assert_type(red.path_mtu(blue), PathMtuResult)
    assert_type(red.path_mtu(blue).mtu, int | None)
    assert_type(red.send(IP(dst="10.0.0.1") / ICMP()), int)
    assert_type(red.sr(IP(dst="10.0.0.1") / ICMP(), "eth0"), tuple[SndRcvList, PacketList])
    assert_type(red.sr1(IP(dst="10.0.0.1") / ICMP(), timeout=1), Packet | None)
    bridge.ping(red)
    assert_type(ping.rtt, RttStatistics | None)
    if ping.rtt is not None:
        assert_type(ping.rtt.median, float)


def test_measurements(lab: Lab, veth_pair: tuple[Host, Host]) -> None:
    red, blue = veth_pair
    result = lab.throughput(red, blue, seconds=0.5, protocol="udp", rate="10mbit", omit=0.1)
    assert_type(result, ThroughputResult)
    assert_type(result.protocol, Literal["tcp", "udp"])
    assert_type(result.rate, float)
    assert_type(result.wire_rate, float)
    assert_type(result.bytes, int)
    assert_type(result.samples, tuple[float, ...])
    assert_type(result.error, str | None)
    lab.throughput(red, "10.0.0.1")  # type: ignore[arg-type]  # somebody must receive
    lab.throughput(red, blue, protocol="sctp")  # type: ignore[arg-type]
    lost = lab.loss(red, blue.interfaces["eth0"], count=100, size=64, per_second=500)
    assert_type(lost, LossResult)
    assert_type(lost.loss, float)
    assert_type(lost.lost, int)
    assert_type(assert_rate(red, blue, "10mbit", tolerance=0.1, protocol="udp"), ThroughputResult)
    assert_type(assert_rtt(red, blue, 0.04, tolerance="5ms"), PingResult)
    assert_type(assert_loss(red, blue, "5%", count=500), LossResult)
    assert_rate(red, "10.0.0.1", "10mbit")  # type: ignore[arg-type]
    assert_rtt(red, blue)  # type: ignore[call-arg]


def is_echo(packet: Packet) -> bool:
    return ICMP in packet


def test_captures(lab: Lab, veth_pair: tuple[Host, Host]) -> None:
    red, blue = veth_pair
    with red.capture("eth0", filter="icmp", chatter=True) as capture:
        assert_type(capture, Capture)
        red.ping(blue)
        assert_type(capture.expect(IP(dst="10.0.0.1") / ICMP(), timeout=1), Packet)
        capture.expect(ARP)
        capture.expect(is_echo)
        capture.expect("icmp")  # type: ignore[arg-type]
        capture.expect_none(ARP, within=0.1)
        capture.expect_none(ARP)  # type: ignore[call-arg]
    assert_type(capture.packets, list[Packet])
    assert_type(capture.frames, list[Frame])
    assert_type(capture.frames[0].packet, Packet)
    assert_type(capture.frames[0].outgoing, bool)
    assert_type(capture.drops, int)
    assert_type(capture.ladder(most=10), str)
    assert_type(capture.save("x.pcapng", comment="x"), int)
    assert_type(lab.capture(ARP), Capture)
    assert_type(lab.links[0].capture(), Capture)
    red.capture(7)  # type: ignore[arg-type]


# ---------------------------------------------------------------- impairments


def slow(link: Link, how: Impairment) -> ActiveImpairment | None:
    link.impair(how)
    return link.impairment


def test_impairments(lab: Lab, veth_pair: tuple[Host, Host]) -> None:
    red, blue = veth_pair
    link = lab.links[0]
    assert_type(slow(link, presets.LTE), ActiveImpairment | None)
    link.impair(presets.DSL, toward=red, loss="1%")
    link.impair(delay="20ms", jitter=0.002, rate="10mbit", seed=7, engine="netem", toward=link.a)
    link.impair(Impairment(delay=0.02).but(reorder="5%", duplicate=0.01))
    link.impair("LTE")  # type: ignore[arg-type]
    link.impair(delays="20ms")  # type: ignore[call-arg]
    link.impair(delay="20ms", engine="tc")  # type: ignore[arg-type]
    link.impair(delay="20ms", toward="red")  # type: ignore[arg-type]
    with link.impaired(presets.WIFI_BAD, loss="10%") as impaired:
        assert_type(impaired, Link)
    link.heal(toward=blue)
    active = link.a.impair(corrupt="1%")
    assert_type(active, ActiveImpairment)
    assert_type(active.delay, float)
    assert_type(active.rate, int | None)
    assert_type(active.engine, str)
    assert_type(active.counters.lost, int)
    with link.b.impaired(delay="5ms") as one_way:
        assert_type(one_way, ActiveImpairment)
    assert_type(link.b.impairment, ActiveImpairment | None)
    assert_type(presets.SATELLITE_GEO, Impairment)
    presets.FOUR_G  # type: ignore[attr-defined]  # noqa: B018


# --------------------------------------------------------------------- faults


def test_faults(lab: Lab, veth_pair: tuple[Host, Host], bridge: Bridge) -> None:
    red, blue = veth_pair
    link = lab.links[0]
    with link.down() as cut:
        assert_type(cut, Fault)
    with link.set_mtu(1280), link.black_hole(1000):
        link.flap(3, period=0.2)
    with red.block(src=blue, dst="10.0.0.0/8", protocol="tcp", port=80, reject=True) as block:
        assert_type(block, Block)
        assert_type(block.packets, int)
    red.block(source=blue)  # type: ignore[call-arg]
    red.unblock()
    with red.freeze() as freeze:
        assert_type(freeze, Freeze)
    red.thaw()
    with blue.crash() as crash:
        assert_type(crash, Crash)
        assert_type(blue.crashed, Crash | None)
    blue.restart()
    with lab.partition(red, [blue, bridge], one_way=True) as partition:
        assert_type(partition, Partition)
        assert_type(partition.packets, int)
    lab.partition("red", blue)  # type: ignore[arg-type]
    lab.heal()
    faults: list[Fault] = [block, freeze, crash, partition]
    assert_type(faults[0].in_force, bool)
    faults[0].undo()
    with lab.schedule([(0.5, link.down), (1, link.up)]) as schedule:
        assert_type(schedule, Schedule)
        schedule.wait(timeout=2)
    assert_type(schedule.log[0].began, float)
    lab.schedule([link.down])  # type: ignore[list-item]
    bridge.crash()  # type: ignore[attr-defined]  # a bridge runs nothing


# -------------------------------------------------------------------- devices


def test_devices(veth_pair: tuple[Host, Host]) -> None:
    red, blue = veth_pair
    vlan = red.add_vlan("vlan7", 7, link=blue, protocol="802.1ad", address=["10.7.0.1/24", "fd07::1/64"])
    assert_type(vlan, Device)
    assert_type(vlan.lower, Interface | None)
    assert_type(vlan.kind, str)
    vlan.remove()
    assert_type(red.devices, list[Device])
    red.add_vlan("vlan8", "8")  # type: ignore[arg-type]
    red.add_macvlan("mv0", mode="l2")  # type: ignore[arg-type]
    assert_type(red.add_dummy("dummy0", up=False), Device)
    bond = red.add_bond("bond0", "eth0", red.interface("eth1"), mode="802.3ad", miimon=0.05)
    assert_type(bond, Bond)
    assert_type(bond.members, list[Interface])
    assert_type(bond.active, Interface | None)
    inner = red.add_bridge("br0", blue)
    assert_type(inner, Master)
    assert_type(inner.members, list[Interface])
    assert_type(red.add_vrf("vrf0", table=10), Vrf)
    red.add_vrf("vrf1")  # type: ignore[call-arg]
    vxlan = red.add_vxlan("vx0", 42, remote=blue)
    assert_type(vxlan, Vxlan)
    vxlan.add_remote("10.0.0.3")
    assert_type(red.add_gre("gre1", remote=blue, key=1), Device)
    far, near = blue.add_wireguard("wg0", address="10.9.0.2/24"), red.add_wireguard("wg0", address="10.9.0.1/24")
    assert_type(near, WireGuard)
    near.add_peer(far)
    near.add_peer(far.public_key, endpoint=(blue, 51820), allowed_ips=IPv4Network("10.9.0.0/24"), keepalive=5)
    assert_type(near.peers[0].last_handshake, float | None)


def test_taps(netns: Namespace, veth_pair: tuple[Host, Host]) -> None:
    red, _ = veth_pair
    tap = red.add_tap("tap0", address="10.5.0.1/24")
    assert_type(tap, Tap)
    assert_type(tap.send(Ether() / IP(src="10.5.0.2", dst="10.5.0.1") / ICMP()), int)
    tap.send(b"\0" * 60)
    tap.send("frame")  # type: ignore[arg-type]
    assert_type(tap.recv(timeout=0.1), Packet | None)
    assert_type(tap.expect(ARP, timeout=1), Packet)
    assert_type(tap.peer_mac, str)
    assert_type(list(tap), list[Packet])
    tun = red.add_tun("tun0", chatter=True)
    assert_type(tun, Tun)
    assert_type(tun.recv(), Packet | None)
    assert_type(tun.fileno(), int)
    netns.add_tap("tap0")  # type: ignore[attr-defined]  # of hosts of a lab alone


# ----------------------------------------------------------------- assertions


def reach(source: Node, destination: Destination) -> PingResult:
    return assert_ping(source, destination)


def reach_from(node: Node, destination: Destination, source: Source) -> PingResult:
    return assert_ping(node, destination, source=source)


def test_assertions(lab: Lab, veth_pair: tuple[Host, Host]) -> None:
    red, blue = veth_pair
    reach(red, blue)
    reach(lab["red"], "10.0.0.1")
    reach(red, IPv4Interface("10.0.0.1/24"))
    assert_type(assert_ping(red, blue, within=5, count=3, df=True), PingResult)
    reach_from(red, blue, red.interfaces["eth0"])
    reach_from(red, blue, "10.0.0.1")
    assert_type(assert_no_ping(red, blue, timeout=0.1), PingResult)
    assert_type(assert_no_ping(red, blue, by=red, within=1), PingResult)
    assert_type(assert_blocked(red, blue, by=blue, port=80, protocol="tcp"), Explanation)
    assert_type(assert_arp(red, blue, dad=True), ArpResult)
    assert_type(assert_no_arp(red, blue), ArpResult)
    assert_type(assert_tcp_open(red, blue, 80, within=5, timeout=1), TcpResult)
    assert_type(assert_tcp_not_open(red, blue, 80), TcpResult)
    assert_type(assert_tcp_closed(red, blue, 80), TcpResult)
    assert_type(assert_tcp_filtered(red, blue, 80), TcpResult)
    assert_type(assert_udp(red, blue, 53, b"?", ttl=3), UdpResult)
    assert_type(assert_no_udp(red, blue, 53), UdpResult)
    assert_type(assert_path(red, blue, [lab["router"], "10.0.0.1"], method="tcp"), TraceResult)
    assert_type(assert_not_path(red, blue, ["router"]), TraceResult)
    assert_type(eventually(lambda: red.tcp(blue, 80), within=5), TcpResult)
    assert_ping(red, blue, counts=3)  # type: ignore[call-arg]
    assert_tcp_open(red, blue, "80")  # type: ignore[arg-type]
    assert_path(red, blue, [], method="gre")  # type: ignore[arg-type]
    assert_ping("red", blue)  # type: ignore[arg-type]


# --------------------------------------------------------------------- errors


def test_errors(netns: Namespace) -> None:
    try:
        netns.run(["false"])
    except CommandError as error:
        assert_type(error.argv, list[str])
        assert_type(error.returncode, int | None)
        assert_type(error.stderr, str)
    except KernelError as error:
        assert_type(error.errno, int)
        assert_type(error.operation, str)
        assert_type(error.node, str)
    except WaitTimeout as error:
        timeout: TimeoutError = error
        netns_error: NetnsError = error
        print(timeout, netns_error)
    except ProbeFailure as failure:
        assertion: AssertionError = failure
        not_ours: NetnsError = failure  # type: ignore[assignment]
        print(assertion, not_ours)


def test_names_that_do_not_exist() -> None:
    pytest_netns.Labb  # type: ignore[attr-defined]  # noqa: B018
