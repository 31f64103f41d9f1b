"""Faults that hide behind others, one line each: planted, asked about, and named with their node."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest
from conversation import address_of
from explaining import Chain, at, chain_in

from pytest_netns import Host, Lab, ready, why
from pytest_netns.kernel import procfs
from pytest_netns.lab.nodes import Node

SHORT = 0.1


@pytest.fixture
def chain(lab: Lab) -> Chain:
    return chain_in(lab)


class Plant(NamedTuple):
    """A fault: what breaks, the node that is to be named, a pattern of the cause, the kind of the probe."""

    breaks: Callable[[Chain, int], object]
    node: str
    cause: str
    kind: str = "ping"
    needs: tuple[str, ...] = ()
    versions: tuple[int, ...] = (4, 6)
    target: str = ""


def ask(source: Node, target: str, kind: str) -> object:
    if kind == "ping":
        return source.ping(target, timeout=SHORT)
    return source.tcp(target, 80, timeout=SHORT) if kind == "tcp" else source.udp(target, 80, b"hello", timeout=SHORT)


def ip(node: Node, version: int, words: str) -> None:
    node.run(["ip", f"-{version}", *words.split()])


def table(node: Node, version: int, hook: str, rule: str, *, kind: str = "filter", priority: str = "0") -> None:
    family = "ip" if version == 4 else "ip6"
    node.nft(f"table {family} t {{ chain c {{ type {kind} hook {hook} priority {priority}; {rule}; }}; }}")


def hops(version: int, *, most: int) -> str:
    return f"ip ttl set {most}" if version == 4 else f"meta l4proto != icmpv6 ip6 hoplimit set {most}"


def own_mark(chain: Chain, version: int) -> None:
    table(chain.red, version, "output", "meta mark set 6", kind="route", priority="mangle")
    ip(chain.red, version, "rule add fwmark 6 lookup 66 pref 50")
    ip(chain.red, version, "route add blackhole default table 66")


def marked_back(chain: Chain, version: int) -> None:
    table(chain.r1, version, "prerouting", 'iifname "eth0" meta mark set 6', priority="mangle")
    ip(chain.r1, version, "rule add fwmark 6 lookup 66 pref 50")
    ip(chain.r1, version, f"route add default via {at(chain.red, version)} dev eth0 table 66")


def marked_by_iptables(chain: Chain, version: int) -> None:
    program = "iptables-legacy" if version == 4 else "ip6tables-legacy"
    chain.r2.run([program, "-t", "mangle", "-A", "PREROUTING", "-i", "eth0", "-j", "MARK", "--set-mark", "6"])
    ip(chain.r2, version, "rule add fwmark 6 blackhole pref 50")


def redirected(chain: Chain, version: int) -> None:
    assert chain.red.ping(at(chain.blue, version))
    chain.r1.run(["tc", "qdisc", "add", "dev", "eth0", "ingress"])
    protocol = "ip" if version == 4 else "ipv6"
    rule = f"protocol {protocol} u32 match u32 0 0 action mirred egress redirect dev eth0"
    chain.r1.run(f"tc filter add dev eth0 parent ffff: {rule}".split())


def full_queue(node: str, out: str, *, warm: bool) -> Callable[[Chain, int], None]:
    def plant(chain: Chain, version: int) -> None:
        if warm:
            assert chain.red.ping(at(chain.blue, version))
        chain.lab[node].run(f"tc qdisc add dev {out} root tbf rate 8bit burst 10 limit 10".split())

    return plant


def iptables(node: str, chain_name: str) -> Callable[[Chain, int], None]:
    def plant(chain: Chain, version: int) -> None:
        assert chain.red.ping(at(chain.blue, version))
        chain.lab[node].run(["iptables-legacy" if version == 4 else "ip6tables-legacy", "-P", chain_name, "DROP"])

    return plant


def silent_arp(chain: Chain, version: int) -> None:
    chain.red.run(["ip", "link", "set", "eth0", "arp", "off"])


def without_ipv6(chain: Chain, version: int) -> None:
    chain.r1.sysctl["net/ipv6/conf/eth0/disable_ipv6"] = 1


TC, NFT, IP = "program:tc", "nft", "program:ip"
LEGACY = "program:iptables-legacy"

PLANTS = {
    "a mark on the way out": Plant(own_mark, "red", r"marks what it sends .* 0x6.*blackhole", "tcp", (NFT, IP)),
    "a mark that leads back": Plant(marked_back, "r1", "marks .* goes out of 'eth0'", "tcp", (NFT, IP)),
    "a redirection by tc": Plant(redirected, "r1", "tc filter at ingress of 'eth0'.*[Mm]irred|redirect", needs=(TC,)),
    "a queue, warm": Plant(full_queue("r1", "eth1", warm=True), "r1", "discipline tbf .* on 'eth1'", needs=(TC, "tbf")),
    "a queue, cold": Plant(
        full_queue("r1", "eth1", warm=False), "r1", "discipline tbf .* on 'eth1'", needs=(TC, "tbf")
    ),
    "a queue on the way back": Plant(full_queue("r2", "eth0", warm=True), "r2", "tbf .* on 'eth0'", needs=(TC, "tbf")),
    "the sender asks nobody": Plant(silent_arp, "red", r"ARP is switched off on 'eth0' \(NOARP\)", "tcp", (IP,), (4,)),
    "no IPv6 at the router": Plant(without_ipv6, "r1", "IPv6 is disabled on r1:eth0", versions=(6,)),
    "a short life at the start": Plant(
        lambda c, v: table(c.red, v, "output", hops(v, most=2)),
        "red",
        "sends the request with a .* of 2",
        "udp",
        (NFT,),
    ),
    "a short life of the reply": Plant(
        lambda c, v: table(c.blue, v, "output", hops(v, most=1)),
        "blue",
        "sends the reply with a .* of 1",
        "tcp",
        (NFT,),
    ),
    "a short life where it ends": Plant(
        lambda c, v: table(c.r2, v, "prerouting", f'iifname "eth1" {hops(v, most=1)}', priority="-300"),
        "r2",
        "sets the .* of the reply that comes in at 'eth1'",
        "tcp",
        (NFT,),
    ),
    "iptables, own": Plant(
        iptables("red", "OUTPUT"), "red", "iptables .* policy DROP of OUTPUT|ip6tables", "tcp", (LEGACY,)
    ),
    "iptables, forward": Plant(iptables("r2", "FORWARD"), "r2", "policy DROP of FORWARD", "tcp", (LEGACY,)),
    "iptables, input": Plant(iptables("blue", "INPUT"), "blue", "policy DROP of INPUT", "udp", (LEGACY,)),
}


@pytest.mark.parametrize(
    ("plant", "version"),
    [
        pytest.param(
            plant,
            version,
            marks=[pytest.mark.netns_requires(*plant.needs)] if plant.needs else [],
            id=f"{name}, IPv{version}",
        )
        for name, plant in PLANTS.items()
        for version in plant.versions
    ],
)
def test_a_fault_is_named(chain: Chain, plant: Plant, version: int) -> None:
    servers = [chain.blue.socket(socket.AF_INET6, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    for server in servers:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 80))
    servers[0].listen()
    target = at(chain.blue, version)
    plant.breaks(chain, version)
    result = ask(chain.red, target, plant.kind)
    assert not result, "it was to be broken"
    named(result, plant.node, plant.cause)
    for server in servers:
        server.close()


def named(result: object, node: str, words: str) -> None:
    found = why(result)
    assert found.node == node, str(found)
    assert found.cause is not None
    assert re.search(words, found.cause), str(found)
    assert "a check of ours failed" not in str(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="what iptables-legacy marks is told to root only")
@pytest.mark.netns_requires(LEGACY, IP)
@pytest.mark.parametrize("version", [4, 6])
def test_a_mark_by_iptables(chain: Chain, version: int) -> None:
    marked_by_iptables(chain, version)
    named(ask(chain.red, at(chain.blue, version), "tcp"), "r2", "marks .* with 0x6, and has an ip rule")


# ---------------------------------------------------------------------- sockets


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_filter_of_the_socket(chain: Chain, kind: str) -> None:
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))  # ret #0: take nothing
    server = chain.blue.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 80))
    if kind == "tcp":
        server.listen()
    attach_filter = 26
    server.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("@HP", 1, ctypes.addressof(program)))
    named(ask(chain.red, at(chain.blue, 4), kind), "blue", f"socket on {kind} port 80 .* by a filter of its own")
    server.close()


def test_a_socket_that_is_connected_to_another_port_of_the_asker(chain: Chain) -> None:
    server = chain.blue.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((at(chain.blue, 4), 80))
    server.connect((at(chain.red, 4), 9))
    named(ask(chain.red, at(chain.blue, 4), "udp"), "blue", r"connected to 10\.0\.0\.1 port 9")
    server.close()


def test_a_server_that_is_the_child_of_another_process_is_stopped(chain: Chain) -> None:
    code = "import socket; s = socket.socket(2, 2); s.bind(('0.0.0.0', 80)); s.recv(99); s.recv(99)"
    parent = chain.blue.spawn(["sh", "-c", f'{sys.executable} -c "$0" & wait', code], ready=ready.listening(80, "udp"))
    (child,) = [p for p in procfs.numbers() if (s := procfs.stat(p)) is not None and s.parent == parent.pid]
    os.kill(child, signal.SIGSTOP)
    named(ask(chain.red, at(chain.blue, 4), "udp"), "blue", rf"the process .* \({child}\) of 'blue' .* is stopped")


# ---------------------------------------------------------------------- tunnels


@pytest.mark.netns_requires("vxlan", "program:bridge")
def test_an_entry_of_a_tunnel_that_leads_elsewhere(chain: Chain) -> None:
    chain.red.add_vxlan("vx0", 42, remote=chain.blue, address="10.42.0.1/24")
    far = chain.blue.add_vxlan("vx0", 42, remote=chain.red, address="10.42.0.2/24")
    elsewhere = str(chain.r1.interface("eth1").ip4)
    chain.red.run(["bridge", "fdb", "replace", far.mac, "dev", "vx0", "dst", elsewhere, "self", "permanent"])
    named(ask(chain.red, "10.42.0.2", "ping"), "red", f"static entry that leads {far.mac} to {re.escape(elsewhere)}")


@pytest.mark.netns_requires("wireguard", "nft")
def test_what_carries_wireguard_is_dropped(chain: Chain) -> None:
    one, two = (h.add_wireguard("wg0", address=f"10.50.0.{n}/24") for n, h in enumerate((chain.red, chain.blue), 1))
    one.add_peer(two)
    two.add_peer(one)
    table(chain.r2, 4, "forward", "meta l4proto udp drop")
    named(ask(chain.red, "10.50.0.2", "ping"), "r2", "drops .*meta l4proto udp drop")


# -------------------------------------------------------- several ways


@pytest.mark.netns_requires("nft", "program:ip")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_one_leg_of_several_drops_by_a_rule(lab: Lab, version: int, back: bool) -> None:
    red, blue, left, right = lab.host("red"), lab.host("blue"), lab.router("left"), lab.router("right")
    for router in (left, right):
        lab.connect(red, router)
        lab.connect(router, blue)
    lab.autoroute()
    server = blue.socket(socket.AF_INET6, socket.SOCK_STREAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", 80))
    server.listen()
    ends: dict[str, tuple[Host, Host, str]] = {"there": (red, blue, "eth0"), "back": (blue, red, "eth1")}
    for here, far, near_side in ends.values():
        here.sysctl[f"net.ipv{version}.fib_multipath_hash_policy"] = 1
        target = next(a.network for a in far.interface("eth0").addresses if _fits(a, version))
        ways = [next(str(a.ip) for a in r.interface(near_side).addresses if _fits(a, version)) for r in (left, right)]
        here.remove_route(target)
        ip(here, version, f"route add {target} nexthop via {ways[0]} nexthop via {ways[1]}")
        ip(right, version, f"route replace {target} via {_address(far, 'eth1', version)}")
    table(right, version, "forward", f'iifname "{"eth1" if back else "eth0"}" drop')
    target_address = str(address_of(blue, version))
    for _ in range(64):  # each takes its leg by its port: that none fails has a chance of 2**-64
        if not (result := red.tcp(target_address, 80, timeout=SHORT)):
            break
    named(result, "right", f"drops the {'reply' if back else 'request'}: ip6? t c: ")
    server.close()


def _fits(address: object, version: int) -> bool:
    return getattr(address, "version", 0) == version and not getattr(address, "is_link_local", True)


def _address(node: Node, name: str, version: int) -> str:
    return next(str(a.ip) for a in node.interface(name).addresses if _fits(a, version))
