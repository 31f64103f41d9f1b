"""What is over is forgotten: path MTUs, redirects and neighbours that did not answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from conversation import Call, address_of, listen, settled_routes
from scapy.layers.inet6 import ICMPv6ND_NS
from scapy.layers.l2 import ARP

from pytest_netns import Host, Lab, Link, Router, assert_no_ping

pytestmark = pytest.mark.netns_requires("nft")

versions = pytest.mark.parametrize("version", [4, 6])


@dataclass(frozen=True)
class Way:
    """``red`` -- router -- ``blue``."""

    lab: Lab
    red: Host
    router: Router
    blue: Host
    near: Link
    far: Link


@pytest.fixture
def way(lab: Lab) -> Way:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    near, far = lab.connect(red, router), lab.connect(router, blue)
    lab.autoroute()
    return Way(lab, red, router, blue, near, far)


def unsettled(lab: Lab) -> set[str]:
    """The states of neighbours in which no packet can be sent to them at once."""
    return {each.state for node in lab for each in node.neighbours()} & {"INCOMPLETE", "FAILED"}


def link_goes_down(way: Way) -> Callable[[], object]:
    return way.far.down().undo


def link_is_set_up_again(way: Way) -> Callable[[], object]:
    way.far.down()
    return way.far.up


def partition(way: Way) -> Callable[[], object]:
    return way.lab.partition(way.router, way.blue).undo


def host_crashes(way: Way) -> Callable[[], object]:
    way.blue.crash()
    return way.blue.restart


def lab_is_healed(way: Way) -> Callable[[], object]:
    way.lab.partition(way.router, way.blue)
    return way.lab.heal


broken = pytest.mark.parametrize(
    "broken", [link_goes_down, link_is_set_up_again, partition, host_crashes, lab_is_healed], ids=lambda f: f.__name__
)


# -------------------------------------------------------------- neighbours


@broken
@versions
@pytest.mark.netns_requires("program:ip")
def test_nobody_waits_for_a_neighbour_that_was_away(
    way: Way, version: int, broken: Callable[[Way], Callable[[], object]]
) -> None:
    way.red.ping(address_of(way.blue, version))
    for node in way.lab:
        node.run(["ip", "neigh", "flush", "all"])
    target = address_of(way.blue, version)
    mend = broken(way)
    way.red.ping(target, timeout=0.05)
    mend()
    assert not unsettled(way.lab)
    assert way.red.ping(target)


@versions
@pytest.mark.netns_requires("nft")
def test_a_packet_that_waits_for_its_neighbour_is_sent_and_not_refused(way: Way, version: int) -> None:
    listener = listen(way.blue, 80)
    calls: list[Call] = []
    with way.lab.partition(way.router, way.blue), way.router.capture("eth1", chatter=True) as capture:
        caller = threading.Thread(
            target=lambda: calls.append(Call(way.red, address_of(way.blue, version), 80, listener))
        )
        caller.start()
        capture.expect(ARP(op=1) if version == 4 else ICMPv6ND_NS(), timeout=5)
        assert unsettled(way.lab) == {"INCOMPLETE"}
    # the kernel would ask once more a second after it has asked before, and the socket would hear EHOSTUNREACH at last
    assert way.router.neighbours()
    assert not unsettled(way.lab)
    caller.join(10)
    [call] = calls
    call.end()
    listener.close()


@pytest.mark.netns_requires("tap")  # that of the relay
def test_a_lossy_link_leaves_nothing_behind(way: Way) -> None:
    with way.far.impaired(loss=1):
        way.red.ping(way.blue, timeout=0.05)
        assert unsettled(way.lab)
    assert not unsettled(way.lab)


@pytest.mark.netns_requires("program:ip")
def test_what_others_have_set_is_left_alone(way: Way) -> None:
    set_by_hand = {("10.0.0.77", "PERMANENT"), ("10.0.0.78", "STALE")}
    for address, state in set_by_hand:
        words = f"ip neigh replace {address} lladdr 02:00:00:00:00:07 dev eth0 nud {state.lower()}"
        way.red.run(words.split())
    routes = [settled_routes(node) for node in way.lab]
    way.far.down().undo()
    assert {(str(each.address), each.state) for each in way.red.neighbours()} >= set_by_hand
    assert [settled_routes(node) for node in way.lab] == routes


# ------------------------------------------------------------------ routes


@versions
@pytest.mark.parametrize("healed", ["undo", "heal"])
@pytest.mark.parametrize("kind", ["set_mtu", "black_hole"])
@pytest.mark.netns_requires("nft")
def test_a_path_mtu_is_as_before(way: Way, version: int, kind: str, healed: str) -> None:
    target = address_of(way.blue, version)
    assert way.red.path_mtu(target).mtu == 1500
    fault = getattr(way.far, kind)(1400)
    assert way.red.path_mtu(target).mtu == 1400
    if healed == "undo":
        fault.undo()
    else:
        way.lab.heal()
    with way.red.capture() as capture:
        assert way.red.ping(target, size=1500 - (28 if version == 4 else 48), df=True)
    assert len(capture.packets) == 2  # nobody has asked for smaller ones, and nobody had to say so


@versions
def test_a_connection_sends_large_segments_again(way: Way, version: int) -> None:
    listener = listen(way.blue, 80)
    with way.far.set_mtu(1400):
        assert way.red.path_mtu(address_of(way.blue, version)).mtu == 1400
    call = Call(way.red, address_of(way.blue, version), 80, listener)
    segment = call.caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    call.end()
    listener.close()
    assert segment == 1500 - (40 if version == 4 else 60) - 12  # IP, TCP, and its timestamps


@pytest.mark.netns_requires("program:ip")
def test_learnt_path_mtus_are_no_routes(way: Way) -> None:
    before = settled_routes(way.red)
    with way.far.set_mtu(1400):
        for address in (way.blue.ip4, way.blue.ip6):
            assert way.red.path_mtu(address).mtu == 1400
        assert settled_routes(way.red) == before
        assert "1400" in way.red.run(["ip", "route", "get", str(way.blue.ip4)]).stdout
        # nor does a link that comes back bring them as such
        with way.near.down():
            pass
        assert settled_routes(way.red) == before


def test_a_redirect_is_forgotten(lab: Lab) -> None:
    lan = lab.bridge("lan", "10.1.0.0/24")
    red, first, second = lan.host("red"), lab.router("first", lan), lab.router("second", lan)
    blue = lab.host("blue")
    way = lab.connect(second, blue, "10.2.0.0/24")
    lab.autoroute()
    red.remove_route("10.2.0.0/24")
    red.default_route(via=first)
    red.sysctl["net.ipv4.conf.all.accept_redirects"] = 1
    first.sysctl["net.ipv4.conf.all.send_redirects"] = 1
    first.sysctl["net.ipv4.conf.eth0.send_redirects"] = 1
    assert red.ping(second.ip4)  # a redirect to somebody unknown has him asked for, and no more
    assert red.trace(blue.ip4).path == ["first", "second", "blue"]
    assert red.ping(blue.ip4)
    assert red.route_to(blue.ip4).gateway == second.ip4
    with way.down():
        assert_no_ping(red, blue.ip4, timeout=0.05)
    assert red.route_to(blue.ip4).gateway == first.ip4
