"""What explanations look at before they speak: each fault is planted, and named with its node."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from explaining import Chain, at, chain_in
from stopping import stop

from pytest_netns import Bridge, Explanation, Host, Lab, eventually, ready, why
from pytest_netns.lab.nodes import Node

SHORT = 0.1


@dataclass(frozen=True)
class Lan:
    """``red``, ``blue`` and ``green`` on one switch."""

    lab: Lab
    sw: Bridge
    red: Host
    blue: Host
    green: Host


@pytest.fixture
def chain(lab: Lab) -> Chain:
    return chain_in(lab)


@pytest.fixture
def lan(lab: Lab) -> Lan:
    sw = lab.bridge("sw")
    return Lan(lab, sw, sw.host("red"), sw.host("blue"), sw.host("green"))


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def ip(node: Node, version: int, *words: str) -> None:
    """ip(8) there."""
    node.run(["ip", f"-{version}", *" ".join(words).split()])


def serve(node: Node, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A server for both families, which answers nothing by itself."""
    server = node.socket(socket.AF_INET6, kind)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        server.listen()
    return server


def named(found: Explanation, node: str, words: str) -> None:
    """The explanation names the node and the cause, and no check of ours has failed."""
    assert found.node == node, str(found)
    assert found.cause is not None
    assert re.search(words, found.cause), str(found)
    assert "a check of ours failed" not in str(found)


# ------------------------------------------------------------------ routing


@pytest.mark.netns_requires("program:ip")
def test_an_ip_rule_for_the_source(chain: Chain, version: int) -> None:
    source = at(chain.red, version)
    ip(chain.r2, version, f"rule add from {source} blackhole pref 77")
    found = why(chain.red.ping(at(chain.blue, version), timeout=SHORT))
    named(found, "r2", rf"ip rule \(77: from {source}/\d+ blackhole\)")


@pytest.mark.netns_requires("program:ip")
def test_an_ip_rule_that_leads_to_another_table(chain: Chain, version: int) -> None:
    ip(chain.r1, version, "rule add iif eth0 lookup 50 pref 77")
    ip(chain.r1, version, "route add unreachable default table 50")
    found = why(chain.red.ping(at(chain.blue, version), timeout=SHORT))
    named(found, "r1", r"77: from all iif eth0 lookup 50.*unreachable default")


@pytest.mark.netns_requires("nft")
def test_a_mark_that_leads_to_another_table(chain: Chain) -> None:
    chain.r1.nft("table ip m { chain c { type filter hook prerouting priority mangle; meta mark set 0x5; }; }")
    ip(chain.r1, 4, "rule add fwmark 5 prohibit pref 77")
    found = why(chain.red.ping(chain.blue, timeout=SHORT))
    named(found, "r1", r"marks 10\.0\.0\.1 -> 10\.0\.2\.2 with 0x5.*fwmark 0x5 prohibit")


@pytest.mark.netns_requires("program:ip")
def test_an_address_that_the_local_table_has_lost(chain: Chain) -> None:
    target = at(chain.blue, 4)
    assert chain.red.ping(chain.blue)
    ip(chain.blue, 4, f"route del local {target} dev eth0 table local")
    named(why(chain.red.ping(target, timeout=SHORT)), "blue", "local table")


def test_forwarding_that_is_off_on_one_interface_only(chain: Chain) -> None:
    chain.r2.sysctl["net/ipv4/conf/eth1/forwarding"] = 0
    found = why(chain.red.ping(chain.blue, timeout=SHORT))
    named(found, "r2", r"comes in at 'eth1': net\.ipv4\.conf\.eth1\.forwarding is 0")


@pytest.mark.netns_requires("program:ip")
def test_the_source_takes_the_reply_for_a_spoofed_one(chain: Chain) -> None:
    target = at(chain.blue, 4)
    chain.lab.connect(chain.blue, chain.red)
    for name in ("all", "eth1"):
        chain.red.sysctl[f"net/ipv4/conf/{name}/rp_filter"] = 1
    address = next(a.ip for a in chain.red.interface("eth1").addresses if a.version == 4)
    ip(chain.blue, 4, f"route replace {chain.red.ip4}/32 via {address}")
    named(why(chain.red.ping(target, timeout=SHORT)), "red", "rp_filter")


@pytest.mark.netns_requires("program:ip")
def test_a_martian(chain: Chain) -> None:
    ip(chain.r1, 4, f"address add {chain.red.ip4}/32 dev lo")
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r1", "martian: the source .* is its own address")


def test_a_broadcast_address(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=("10.5.0.1/29", "10.5.0.7/24"))
    named(why(red.ping("10.5.0.7", timeout=SHORT)), "red", "broadcast address.*10.5.0.1/29")


@pytest.mark.netns_requires("program:ip")
def test_a_prefix_that_is_too_wide(chain: Chain) -> None:
    mine = chain.red.ip4
    ip(chain.red, 4, f"address del {mine}/24 dev eth0")
    ip(chain.red, 4, f"address add {mine}/8 dev eth0")
    named(why(chain.red.ping(chain.blue.ip4, timeout=SHORT)), "red", "prefix is too wide: 10.0.0.1/8")


def test_ipv6_that_is_switched_off_on_one_interface(chain: Chain) -> None:
    chain.r2.sysctl["net/ipv6/conf/eth1/disable_ipv6"] = 1
    named(why(chain.red.ping(chain.blue.ip6, timeout=SHORT)), "r2", "IPv6 is disabled on r2:eth1")


@pytest.mark.netns_requires("program:ip")
def test_a_dead_leg_of_a_multipath_route_though_it_works_now(lab: Lab) -> None:
    red, up, dead, blue = lab.host("red"), lab.router("up"), lab.router("dead"), lab.host("blue")
    for router in (up, dead):
        lab.connect(red, router)
    for router in (up, dead):
        lab.connect(router, blue)
    lab.autoroute()
    dead.sysctl["net.ipv4.ip_forward"] = 0
    red.sysctl["net.ipv4.fib_multipath_hash_policy"] = 1
    hops = " ".join(f"nexthop via {r.interface('eth0').ip4}" for r in (up, dead))
    ip(red, 4, f"route replace {blue.interface('eth0').addresses[0].network} {hops}")
    server = serve(blue, 80)
    target = str(blue.ip4)
    for _ in range(64):
        result = red.tcp(target, 80, timeout=SHORT)
        if not result:
            break
    found = why(result)
    server.close()
    named(found, "dead", "forward")


# -------------------------------------------------------------------- links


def _port(lan: Lan, port: str, *words: str) -> None:
    lan.sw.run(["bridge", "link", "set", "dev", port, *words])


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda lan: _port(lan, "blue", "bcast_flood", "off"), "'blue' of bridge 'sw' gets no broadcasts"),
        (lambda lan: [_port(lan, p, "isolated", "on") for p in ("red", "blue")], "'red' and 'blue' .* both isolated"),
        (lambda lan: lan.sw.run(["ip", "link", "set", "blue", "mtu", "900"]), "port 'blue' of bridge 'sw' has mtu 900"),
    ],
    ids=["broadcast", "isolated", "mtu"],
)
@pytest.mark.netns_requires("program:bridge", "program:ip")
def test_a_port_of_a_bridge(lan: Lan, plant: Callable[[Lan], object], words: str) -> None:
    plant(lan)
    named(why(lan.red.ping(lan.blue, size=1000, timeout=SHORT)), "sw", words)


@pytest.mark.netns_requires("program:ip")
def test_a_port_without_multicasts(lan: Lan) -> None:
    lan.sw.run(["ip", "link", "set", lan.sw.device.name, "type", "bridge", "mcast_snooping", "0"])
    _port(lan, "blue", "mcast_flood", "off")
    named(why(lan.red.ping(lan.blue.ip6, timeout=SHORT)), "sw", "'blue' of bridge 'sw' gets no multicasts")


@pytest.mark.netns_requires("program:bridge")
def test_a_locked_port(lan: Lan) -> None:
    _port(lan, "blue", "learning", "off", "locked", "on")
    lan.sw.run(["bridge", "fdb", "del", lan.blue.mac, "dev", "blue", "master"], check=False)
    named(why(lan.red.ping(lan.blue, timeout=SHORT)), "sw", "port 'blue' of bridge 'sw' is locked")


@pytest.mark.netns_requires("program:bridge")
def test_a_forwarding_entry_that_leads_to_the_wrong_port(lan: Lan) -> None:
    lan.sw.run(["bridge", "fdb", "replace", lan.blue.mac, "dev", "green", "master", "sticky", "static"])
    found = why(lan.red.ping(lan.blue, timeout=SHORT))
    named(found, "sw", rf"forwarding database .* leads {lan.blue.mac} to port 'green'")


@pytest.mark.netns_requires("program:ip", "program:bridge")
def test_two_with_one_mac_address(lan: Lan) -> None:
    assert lan.red.ping(lan.blue)
    _port(lan, "blue", "learning", "off")  # hosts speak unasked, too (router solicitations, MLD), and blue must not now
    lan.green.run(["ip", "link", "set", "eth0", "address", lan.blue.mac])
    lan.green.ping("10.0.0.99", timeout=0.01)
    eventually(
        lambda: (
            [each.port for each in lan.sw.fdb() if each.mac == lan.blue.mac and each.state != "permanent"] == ["green"]
        )
    )
    found = why(lan.red.ping(lan.blue, timeout=SHORT))
    named(found, "green", "green:eth0 has the same MAC address as blue:eth0")


@pytest.mark.netns_requires("program:ip")
def test_arp_that_is_off(lan: Lan) -> None:
    lan.blue.run(["ip", "link", "set", "eth0", "arp", "off"])
    named(why(lan.red.ping(lan.blue, timeout=SHORT)), "blue", "NOARP")


def test_an_address_that_arp_ignores(lan: Lan) -> None:
    lan.blue.add_address("10.0.0.200/32", "lo")
    lan.blue.sysctl["net.ipv4.conf.eth0.arp_ignore"] = 1
    named(why(lan.red.ping("10.0.0.200", timeout=SHORT)), "blue", "arp_ignore is 1, and the address is on lo")


@pytest.mark.netns_requires("program:ip")
def test_arp_that_is_answered_by_the_right_interface_only(lab: Lab) -> None:
    red, blue, aside = lab.host("red"), lab.host("blue"), lab.host("aside")
    lab.connect(red, blue, "10.1.0.0/24")
    lab.connect(blue, aside, "10.2.0.0/24")
    ip(blue, 4, "route add 10.1.0.1/32 dev eth1")
    blue.sysctl["net.ipv4.conf.eth0.arp_filter"] = 1
    named(why(red.ping("10.1.0.2", timeout=SHORT)), "blue", "arp_filter is 1")


@pytest.mark.netns_requires("program:ip")
def test_an_address_that_is_tentative(lan: Lan) -> None:
    lan.blue.sysctl["net/ipv6/conf/eth0/accept_dad"] = 1
    lan.blue.sysctl["net/ipv6/conf/eth0/dad_transmits"] = 600
    ip(lan.blue, 6, "address add fd00::77/64 dev eth0")
    named(why(lan.red.ping("fd00::77", timeout=SHORT)), "blue", "fd00::77: the address is tentative")


def test_a_private_macvlan(lab: Lab) -> None:
    one, two, box = lab.host("one"), lab.host("two"), lab.host("box")
    lab.connect(box, lab.host("up"))
    for number, host in enumerate((one, two), 1):
        host.add_macvlan("mv0", link=box.interface("eth0"), mode="private", address=f"10.8.0.{number}/24")
    named(why(one.ping("10.8.0.2", timeout=SHORT)), "two", "macvlan in mode private")


# ------------------------------------------------------------------ tunnels


def test_two_vxlans_with_different_numbers(chain: Chain) -> None:
    chain.red.add_vxlan("vx0", 42, remote=chain.blue, address="10.42.0.1/24")
    chain.blue.add_vxlan("vx0", 43, remote=chain.red, address="10.42.0.2/24")
    named(why(chain.red.ping("10.42.0.2", timeout=SHORT)), "blue", "VNI 43.*has 42")


def test_two_vxlans_with_different_ports(chain: Chain) -> None:
    chain.red.add_vxlan("vx0", 42, remote=chain.blue, address="10.42.0.1/24")
    chain.blue.add_vxlan("vx0", 42, remote=chain.red, port=8472, address="10.42.0.2/24")
    named(why(chain.red.ping("10.42.0.2", timeout=SHORT)), "blue", "UDP port 8472.*has 4789")


def test_a_vxlan_that_leads_elsewhere(chain: Chain) -> None:
    chain.red.add_vxlan("vx0", 42, remote=chain.blue, address="10.42.0.1/24")
    wrong = chain.r1.interface("eth1").ip4
    chain.blue.add_vxlan("vx0", 42, remote=wrong, learning=False, address="10.42.0.2/24")
    named(why(chain.red.ping("10.42.0.2", timeout=SHORT)), "blue", f"leads to remote {wrong}")


@pytest.mark.netns_requires("program:wireguard-go", "tun")
def test_a_wireguard_peer_with_another_key(chain: Chain) -> None:
    one, two, three = (
        host.add_wireguard("wg0", address=f"10.50.0.{number}/24")
        for number, host in enumerate((chain.red, chain.blue, chain.r1), 1)
    )
    one.add_peer(two)
    two.add_peer(three)
    named(why(chain.red.ping("10.50.0.2", timeout=SHORT)), "blue", "does not know red:wg0 by its public key")


@pytest.mark.netns_requires("program:wireguard-go", "tun")
def test_a_wireguard_peer_for_other_addresses(chain: Chain) -> None:
    one, two = (
        host.add_wireguard("wg0", address=f"10.50.0.{number}/24")
        for number, host in enumerate((chain.red, chain.blue), 1)
    )
    one.add_peer(two, allowed_ips=["10.50.0.9/32"])
    two.add_peer(one)
    named(why(chain.red.ping("10.50.0.2", timeout=SHORT)), "red", "no peer's allowed_ips has it")


@pytest.mark.netns_requires("tun")
@pytest.mark.netns_requires("program:ip")
def test_a_tun_whose_program_does_nothing(chain: Chain) -> None:
    chain.r1.add_tun("tun0", address="10.77.0.1/24")
    ip(chain.r1, 4, f"route replace {chain.blue.ip4}/32 dev tun0")
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r1", "'tun0', a tun device, and the program")


# ------------------------------------------------------------------ sockets


def test_a_server_that_is_bound_to_another_device(chain: Chain) -> None:
    chain.lab.connect(chain.blue, chain.lab.host("aside"))
    server = chain.blue.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1")
    server.bind(("0.0.0.0", 8000))
    server.listen()
    named(why(chain.red.tcp(chain.blue, 8000, timeout=SHORT)), "blue", "bound to the device 'eth1'")


def test_a_server_that_is_stopped(chain: Chain) -> None:
    code = "import signal, socket as s; u = s.socket(s.AF_INET, s.SOCK_DGRAM); u.bind(('', 5300)); signal.pause()"
    process = chain.blue.spawn([sys.executable, "-c", code], ready=ready.listening(5300, "udp"))
    stop(process.pid)
    found = why(chain.red.udp(chain.blue, 5300, b"hello", timeout=SHORT))
    os.kill(process.pid, signal.SIGCONT)
    named(found, "blue", rf"\({process.pid}\) of 'blue' that has udp port 5300 is stopped")


def test_a_socket_that_is_connected_to_somebody_else(lan: Lan) -> None:
    server = lan.blue.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((str(lan.blue.ip4), 5300))
    server.connect((str(lan.green.ip4), 9))
    found = why(lan.red.udp(lan.blue, 5300, b"hello", timeout=SHORT))
    named(found, "blue", f"connected to {lan.green.ip4} port 9")


def test_a_full_receive_queue(chain: Chain) -> None:
    server = serve(chain.blue, 5300, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
    for _ in range(9):
        chain.r2.udp(chain.blue, 5300, b"x" * 900, timeout=0.01)
    found = why(chain.red.udp(chain.blue, 5300, b"x" * 900, timeout=SHORT))
    named(found, "blue", "receive queue of the socket is full")


def test_a_signature_that_is_missing(chain: Chain) -> None:
    server = chain.blue.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("0.0.0.0", 179))
    server.listen()
    peer = struct.pack("=HH4s", socket.AF_INET, 0, chain.red.ip4.packed).ljust(128, b"\0")
    server.setsockopt(socket.IPPROTO_TCP, 14, peer + struct.pack("=BBHi", 0, 0, 6, 0) + b"secret".ljust(80, b"\0"))
    named(why(chain.red.tcp(chain.blue, 179, timeout=SHORT)), "blue", "TCP-MD5 signature is expected")


def test_a_backlog_that_is_full(chain: Chain) -> None:
    server = chain.blue.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("0.0.0.0", 80))
    server.listen(0)
    chain.blue.sysctl["net.ipv4.tcp_syncookies"] = 0
    kept = []
    for _ in range(3):
        client = chain.r2.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        client.connect_ex((str(chain.blue.ip4), 80))
        kept.append(client)
    found = why(chain.red.tcp(chain.blue, 80, timeout=SHORT))
    named(found, "blue", r"accept queue \(backlog\) of a listener is full")


# ------------------------------------------------- filters other than nftables


@pytest.mark.skipif(os.geteuid() != 0, reason="whether there are rules of iptables-legacy is told to root only")
@pytest.mark.netns_requires("program:iptables-legacy")
def test_a_policy_of_iptables_legacy(chain: Chain) -> None:
    chain.r2.run(["iptables-legacy", "-P", "FORWARD", "DROP"])
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r2", "iptables -t filter: policy DROP of FORWARD")


@pytest.mark.netns_requires("program:tc")
def test_a_filter_at_ingress(chain: Chain) -> None:
    assert chain.red.ping(chain.blue)
    chain.r1.run(["tc", "qdisc", "add", "dev", "eth0", "ingress"])
    chain.r1.run(
        ["tc", "filter", "add", "dev", "eth0", "parent", "ffff:", "protocol", "ip", "bpf", "da", "bytecode"]
        + ["1,6 0 0 2"]
    )
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r1", "tc filter at ingress of 'eth0' of 'r1'")


@pytest.mark.netns_requires("program:tc")
def test_a_filter_at_egress(chain: Chain) -> None:
    assert chain.red.ping(chain.blue)
    chain.r1.run(["tc", "qdisc", "add", "dev", "eth1", "clsact"])
    chain.r1.run(
        ["tc", "filter", "add", "dev", "eth1", "egress", "protocol", "ip", "bpf", "da", "bytecode"] + ["1,6 0 0 2"]
    )
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r1", "tc filter at egress of 'eth1' of 'r1'")


@pytest.mark.netns_requires("nft")
def test_a_rule_that_sends_packets_elsewhere(chain: Chain) -> None:
    chain.r1.nft(
        "table netdev t { chain c { type filter hook ingress device eth0 priority 0; ip protocol icmp fwd to eth1; }; }"
    )
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r1", "takes the request out of its way: netdev t c")


@pytest.mark.netns_requires("nft")
def test_a_time_to_live_that_is_rewritten(chain: Chain) -> None:
    chain.r1.nft('table ip t { chain c { type filter hook postrouting priority 0; oifname "eth1" ip ttl set 1; }; }')
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r1", "time to live .* from 64 to 1")


# -------------------------------------------------------------- translation


@pytest.mark.netns_requires("nft")
def test_a_source_that_nobody_has(chain: Chain) -> None:
    chain.r1.nft(
        'table ip n { chain c { type nat hook postrouting priority 100; oifname "eth1" snat to 192.0.2.1; }; }'
    )
    named(why(chain.red.ping(chain.blue, timeout=SHORT)), "r1", r"translates the source .* to 192\.0\.2\.1 \(snat\)")


@pytest.mark.netns_requires("nft")
def test_a_translation_to_loopback(chain: Chain) -> None:
    chain.blue.nft(
        "table ip n { chain c { type nat hook prerouting priority -100; tcp dport 8080 dnat to 127.0.0.1:80; }; }"
    )
    named(why(chain.red.tcp(chain.blue, 8080, timeout=SHORT)), "blue", "martian.*route_localnet is 0")


@pytest.fixture
def office(lab: Lab) -> tuple[Host, Host, Node, Host]:
    """``red`` and ``blue`` behind a router, and ``out`` outside."""
    inside, outside = lab.bridge("inside", "10.1.0.0/24"), lab.bridge("outside", "203.0.113.0/24")
    red, blue, out = inside.host("red"), inside.host("blue"), outside.host("out")
    router = lab.router("router", inside, outside)
    for host in (red, blue):
        host.default_route(via=router)
    return red, blue, router, out


@pytest.mark.netns_requires("nft")
def test_a_reply_that_goes_past_the_translator(office: tuple[Host, Host, Node, Host]) -> None:
    red, blue, router, _ = office
    server = serve(blue, 80)
    router.nft(
        f"table ip n {{ chain c {{ type nat hook prerouting priority -100; tcp dport 8080 dnat to {blue.ip4}:80; }}; }}"
    )
    found = why(red.tcp(str(router.interface("eth1").ip4), 8080, timeout=SHORT))
    server.close()
    named(found, "router", "hairpin NAT")


@pytest.mark.netns_requires("nft")
def test_a_forwarded_port_for_another_interface(office: tuple[Host, Host, Node, Host]) -> None:
    _, blue, router, out = office
    rule = f'iifname "eth0" tcp dport 8080 dnat to {blue.ip4}:80'
    router.nft(f"table ip n {{ chain c {{ type nat hook prerouting priority -100; {rule}; }}; }}")
    found = why(out.tcp(str(router.interface("eth1").ip4), 8080, timeout=SHORT))
    named(found, "router", "asks for iifname eth0, and this is eth1")


@pytest.mark.netns_requires("nft")
def test_a_forwarded_port_and_the_router_itself(office: tuple[Host, Host, Node, Host]) -> None:
    _, blue, router, _ = office
    rule = f"tcp dport 8080 dnat to {blue.ip4}:80"
    router.nft(f"table ip n {{ chain c {{ type nat hook prerouting priority -100; {rule}; }}; }}")
    found = why(router.tcp(str(router.interface("eth1").ip4), 8080, timeout=SHORT))
    named(found, "router", "needs the same rule for output")


@pytest.mark.netns_requires("nft")
def test_a_redirection_to_a_port_where_nothing_listens(chain: Chain) -> None:
    server = serve(chain.blue, 80)
    chain.blue.nft(
        "table ip n { chain c { type nat hook prerouting priority -100; tcp dport 80 redirect to :3128; }; }"
    )
    found = why(chain.red.tcp(str(chain.blue.ip4), 80, timeout=SHORT))
    server.close()
    named(found, "blue", "nothing listens on tcp port 3128 of 'blue'")


# ------------------------------------------------------------ under pressure


@pytest.fixture
def load(chain: Chain) -> Iterator[None]:
    """Other datagrams that flow from red to blue all the time."""
    sender, end = chain.red.socket(socket.AF_INET, socket.SOCK_DGRAM), threading.Event()
    target = (str(chain.blue.ip4), 9)

    def flood() -> None:
        while not end.is_set():
            sender.sendto(b"x" * 100, target)

    thread = threading.Thread(target=flood)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.mark.usefixtures("load")
@pytest.mark.netns_requires("nft")
def test_other_traffic_does_not_drown_what_the_rules_say(chain: Chain) -> None:
    chain.r1.nft("table inet f { chain c { type filter hook forward priority 0; udp dport 53 drop; }; }")
    named(
        why(chain.red.udp(chain.blue, 53, b"hello", timeout=SHORT)), "r1", "drops the request: inet f c: udp dport 53"
    )


@pytest.mark.netns_requires("nft")
def test_a_thousand_rules_do_not_either(chain: Chain) -> None:
    rules = "\n".join(["counter"] * 1000)
    chain.r1.nft(
        f"table inet f {{ chain c {{ type filter hook forward priority 0;\n{rules}\nmeta l4proto tcp drop\n }}; }}"
    )
    named(why(chain.red.tcp(chain.blue, 80, timeout=SHORT)), "r1", "drops the request: inet f c: meta l4proto tcp drop")


def test_the_own_kernel_has_no_port_left(chain: Chain) -> None:
    server = serve(chain.blue, 80)
    chain.red.sysctl["net.ipv4.ip_local_port_range"] = "40000 40001"
    kept = []
    for _ in range(2):
        client = chain.red.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.connect((str(chain.blue.ip4), 80))
        kept.append(client)
    found = why(chain.red.tcp(chain.blue, 80, timeout=SHORT))
    server.close()
    named(found, "red", "no local port left.*40000 to 40001")
