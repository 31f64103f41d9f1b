"""The cure that an explanation names does mend it: it is run here, word by word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from explaining import Chain, chain_in

from pytest_netns import Bridge, Host, Lab, why

SHORT = 0.1


def _no_way_back(c: Chain) -> None:
    for route in [r for r in c.blue.routes() if r.gateway is not None and r.destination.version == 4]:
        c.blue.run(["ip", "route", "delete", str(route.destination)])


@pytest.mark.parametrize(
    "plant",
    [
        lambda c: c.blue.interface("eth0").down(),
        lambda c: c.r2.interface("eth0").down(),
        lambda c: c.r1.sysctl.__setitem__("net.ipv4.ip_forward", 0),
        lambda c: c.r1.sysctl.__setitem__("net/ipv4/conf/eth0/forwarding", 0),
        lambda c: c.blue.sysctl.__setitem__("net.ipv4.icmp_echo_ignore_all", 1),
        lambda c: c.r2.run(
            ["ip", "neighbour", "replace", "10.0.2.2", "lladdr", "02:00:00:00:00:99", "dev", "eth1", "nud", "permanent"]
        ),
        lambda c: c.blue.run(["ip", "route", "delete", "local", "10.0.2.2", "dev", "eth0", "table", "local"]),
        lambda c: c.blue.run(["ip", "link", "set", "eth0", "arp", "off"]),
        lambda c: c.blue.sysctl.__setitem__("net.ipv4.conf.eth0.arp_ignore", 8),
        _no_way_back,
    ],
    ids=[
        "down",
        "far-down",
        "forwarding",
        "one-interface",
        "echo",
        "neighbour",
        "local",
        "noarp",
        "arp_ignore",
        "no-route",
    ],
)
@pytest.mark.netns_requires("program:ip")
def test_along_a_chain(lab: Lab, plant: Callable[[Chain], object]) -> None:
    chain = chain_in(lab)
    plant(chain)
    _mended(lab, chain.red, "10.0.2.2")


def _port(bridge: Bridge, port: str, *words: str) -> None:
    bridge.run(["bridge", "link", "set", "dev", port, *words])


@pytest.mark.parametrize(
    "plant",
    [
        lambda b: b.interface("blue").down(),
        lambda b: [_port(b, port, "isolated", "on") for port in ("red", "blue")],
        lambda b: _port(b, "blue", "bcast_flood", "off"),
        lambda b: b.run(["ip", "link", "set", "blue", "mtu", "900"]),
        lambda b: b.run(["bridge", "fdb", "replace", b.lab["blue"].mac, "dev", "red", "master", "sticky", "static"]),
    ],
    ids=["down", "isolated", "broadcast", "mtu", "fdb"],
)
@pytest.mark.netns_requires("program:bridge", "program:ip")
def test_on_a_switch(lab: Lab, plant: Callable[[Bridge], object]) -> None:
    bridge = lab.bridge("sw")
    red, blue = bridge.host("red"), bridge.host("blue")
    target = str(blue.ip4)
    plant(bridge)
    _mended(lab, red, target, size=1000)


def _mended(lab: Lab, red: Host, target: str, size: int = 56) -> None:
    before = red.ping(target, timeout=SHORT, size=size)
    assert not before
    found = why(before)
    assert found.cures, str(found)
    names: dict[str, object] = {"lab": lab, **{node.name: node for node in lab}}
    for cure in found.cures:
        exec(cure, names)
    for node in lab:
        node.run(["ip", "neighbour", "flush", "all"])  # what was asked in vain is not asked again at once
    assert red.ping(target, timeout=1, size=size), str(found)


@pytest.mark.netns_requires("nft")
def test_what_the_test_itself_has_broken_needs_no_cure(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, "10.0.0.0/24")
    with blue.block(protocol="icmp"):
        assert why(red.ping(blue, timeout=SHORT)).cures == []
    with link.down():
        assert why(red.ping("10.0.0.2", timeout=SHORT)).cures == []
