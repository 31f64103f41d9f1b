"""Faults upon faults, undone in any order, upon what has been removed or has crashed meanwhile."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import pytest
from slowness import patient

from pytest_netns import Fault, Host, Lab, Link, NetnsError, TopologyError, eventually

SINK = """
import socket, threading
def serve(client):
    taken = 0
    while taken < 300_000 and (data := client.recv(1 << 16)):
        taken += len(data)
    client.send(b"%d" % taken)
    client.close()
server = socket.create_server(("", 5001))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
SOURCE = """
import socket, sys
client = socket.create_connection((sys.argv[1], 5001))
client.settimeout(float(sys.argv[2]))
try:
    client.sendall(bytes(300_000))
    print(client.recv(100).decode())
except TimeoutError:
    print("stuck")
"""


def bulk(source: Host, target: Host, wait: float) -> str:
    return source.run([sys.executable, "-c", SOURCE, str(target.ip4), str(wait)]).stdout.strip()


# ---------------------------------------------------------------------------------------------------------------- mtu


@pytest.mark.parametrize("first", [0, 1])
def test_mtus_are_taken_back_in_any_order(veth_pair: tuple[Host, Host], first: int) -> None:
    link = veth_pair[0].links[0]
    faults = [link.set_mtu(1400), link.set_mtu(1300)]
    faults[first].undo()
    left = (1300, 1400)[first]
    assert (link.a.mtu, link.b.mtu) == (left, left)
    faults[1 - first].undo()
    assert (link.a.mtu, link.b.mtu) == (1500, 1500)


def test_ipv6_comes_back_with_an_mtu_that_it_needs(lab: Lab) -> None:
    left, right = lab.host("left"), lab.router("right")
    link = lab.connect(left, right)
    left.default_route(via=right)
    before, routes = left.addresses(), {str(route.destination) for route in left.routes()}
    with link.set_mtu(1400), link.set_mtu(1000):
        assert not [each for each in left.addresses() if each.version == 6]
    assert set(left.addresses()) == set(before)
    assert {str(route.destination) for route in left.routes()} == routes
    assert left.ping(right.ip6)


@pytest.mark.parametrize("bad", [-1, True, 1400.5, "1400"])
def test_an_mtu_that_is_none_is_refused(veth_pair: tuple[Host, Host], bad: int) -> None:
    with pytest.raises(TopologyError, match="expected bytes, a whole number"):
        veth_pair[0].links[0].set_mtu(bad)


@pytest.mark.parametrize("kind", ["router", "bridge"])
@pytest.mark.netns_requires("nft")
def test_a_black_hole_swallows_bulk_data_of_tcp(lab: Lab, kind: str) -> None:
    """TCP hands its data down in chunks that pass every mtu."""
    middle = lab.router("middle") if kind == "router" else lab.bridge("middle")
    ends = [lab.host(name) for name in ("left", "right")]
    links = [lab.connect(end, middle) for end in ends]
    lab.autoroute()
    for end in ends:
        end.spawn([sys.executable, "-c", SINK], ready=5001)
    ways = [(ends[0], ends[1]), (ends[1], ends[0])]
    with links[0].black_hole(1300):
        for source, target in ways:
            assert bulk(source, target, patient(0.5)) == "stuck"
            assert source.ping(target)
    for source, target in ways:
        assert bulk(source, target, 60) == "300000"


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.netns_requires("program:ip")
def test_black_holes_are_undone_in_any_order(lab: Lab, first: int) -> None:
    lan = lab.bridge("lan")
    left, right = lan.host("left"), lan.host("right")
    right.spawn([sys.executable, "-c", SINK], ready=5001)

    def segments() -> list[int]:
        shown = [json.loads(host.run(["ip", "-j", "-d", "link", "show", "eth0"]).stdout) for host in (left, right)]
        return [found[0]["gso_max_segs"] for found in shown]

    before = segments()
    holes = [left.links[0].black_hole(1400), left.links[0].black_hole(1300), right.links[0].black_hole(1350)]
    holes.pop(first).undo()
    assert segments() == [1, 1]
    holes.pop(0).undo()
    assert segments() == [1, 1]
    assert bulk(left, right, patient(0.5)) == "stuck"
    holes.pop().undo()
    assert segments() == before
    assert bulk(left, right, 60) == "300000"


# ------------------------------------------------------------------------------------------------------ what has gone


BREAK: dict[str, Callable[[Link], Fault]] = {
    "down": lambda link: link.down(),
    "mtu": lambda link: link.set_mtu(1400),
    "hole": lambda link: link.black_hole(1400),
}


@pytest.mark.parametrize("how", BREAK)
@pytest.mark.parametrize("closed", ["host", "router", None])
@pytest.mark.netns_requires("nft")
def test_what_has_gone_needs_no_mending(lab: Lab, how: str, closed: str | None) -> None:
    link = lab.connect(lab.host("host"), lab.router("router"))
    fault = BREAK[how](link)
    if closed is None:
        link.remove()
    else:
        lab[closed].close()
    fault.undo()
    assert not fault.in_force
    if closed is not None:
        link.remove()
    assert link not in lab.links


@pytest.mark.parametrize("how", [*BREAK, "up", "flap"])
def test_a_link_that_went_with_its_host_says_so(lab: Lab, how: str) -> None:
    link = lab.connect(lab.host("host"), lab.router("router"))
    lab["host"].close()
    with pytest.raises(TopologyError, match="it went with 'host', which is closed"):
        {**BREAK, "up": Link.up, "flap": Link.flap}[how](link)
    assert not list(lab.faults)


@pytest.mark.netns_requires("tap")
def test_an_impaired_link_may_be_removed_in_its_block(veth_pair: tuple[Host, Host]) -> None:
    link = veth_pair[0].links[0]
    link.impair(delay="1ms")
    with link.impaired(loss="1%"):
        link.remove()


# ------------------------------------------------------------------------------------------------------------ crashes


def test_a_host_without_links_can_crash(lab: Lab) -> None:
    host = lab.host("alone")
    host.restart()
    host.run(["true"])


def test_what_is_removed_while_it_is_down_stays_away(lab: Lab) -> None:
    a, b, c = (lab.host(name) for name in ("a", "b", "c"))
    link = lab.connect(a, b)
    lab.connect(a, c)
    a.add_route("192.0.2.0/24", via=b)
    a.add_route("198.51.100.0/24", via=c)
    a.crash()
    link.remove()
    a.restart()
    assert a.ping(c)
    assert [str(route.destination) for route in a.routes() if route.gateway] == ["198.51.100.0/24"]


def test_a_host_can_crash_after_its_neighbour_was_closed(lab: Lab) -> None:
    a, b, c = (lab.host(name) for name in ("a", "b", "c"))
    lab.connect(a, b)
    lab.connect(b, c)
    a.close()
    b.restart()
    assert b.ping(c)


def test_routes_without_a_carrier_come_back(lab: Lab) -> None:
    host, router = lab.host("host"), lab.router("router")
    lab.connect(host, router)
    host.default_route(via=router)
    router.crash()
    host.restart()  # its route is dead, and marked so
    router.restart()
    assert any(route.destination is None or route.destination.prefixlen == 0 for route in host.routes())
    assert host.ping(router)


def test_a_link_that_is_mended_while_its_host_is_down_comes_back_with_it(lab: Lab) -> None:
    host, router = lab.host("host"), lab.router("router")
    link = lab.connect(host, router)
    host.default_route(via=router)
    routes = {(str(route.destination), str(route.gateway)) for route in host.routes()}
    fault = link.down()
    host.crash()
    fault.undo()
    assert not link.is_up
    assert not router.ping(host, timeout=0.05)
    host.restart()
    assert link.is_up
    assert {(str(route.destination), str(route.gateway)) for route in host.routes()} == routes


def test_a_newer_route_is_not_overwritten(lab: Lab) -> None:
    host, one, other = lab.host("host"), lab.router("one"), lab.router("other")
    link = lab.connect(host, one)
    lab.connect(host, other)
    host.default_route(via=one)
    with link.down():
        host.default_route(via=other)
    assert other.ip4 in {route.gateway for route in host.routes() if route.gateway}
    assert one.ip4 not in {route.gateway for route in host.routes() if route.gateway}


@pytest.mark.netns_requires("tap")
@pytest.mark.netns_requires("nft")
def test_a_crash_takes_its_devices_its_blocks_and_its_freezing_along(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    tap, block = left.add_tap("tap0", address="10.66.0.1/24"), left.block()
    frozen = left.freeze()
    left.restart()
    assert (left.devices, tap.removed, block.in_force, frozen.in_force) == ([], True, False, False)
    assert left.ping(right)
    with pytest.raises(NetnsError, match="was removed"):
        tap.recv(0)
    assert left.add_tap("tap0") in left.devices
    tap.remove()  # the old one is nobody's business any more
    assert "tap0" in left.interfaces


@pytest.mark.netns_requires("nft")
def test_a_partition_outlives_a_crash(lab: Lab) -> None:
    lan = lab.bridge("lan")
    a, b, c = (lan.host(name) for name in ("a", "b", "c"))
    with lab.partition([a], [b], one_way=True):  # b does not hear a
        b.restart()
        assert not a.ping(b, timeout=0.05)
        assert c.ping(b)
    assert a.ping(b)


def test_a_host_on_a_spanning_tree_restarts_at_once(lab: Lab) -> None:
    lan = lab.bridge("lan", stp=True, forward_delay=30)
    host = lan.host("host")
    host.restart()
    assert host.addresses()


def test_who_is_started_after_a_freeze_freezes_with_the_next(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    left.freeze()
    process = left.spawn(["sleep", "1000"])
    left.freeze()
    with open(f"/proc/{process.pid}/stat", encoding="utf-8") as file:
        assert file.read().rpartition(")")[2].split()[0] == "T"
    left.thaw()
    assert not left.lab._in_force()


# ------------------------------------------------------------------------------------------------------------ roaming


@pytest.mark.netns_requires("tap")
def test_what_troubles_a_link_goes_along_when_it_roams(lab: Lab) -> None:
    one, other = lab.bridge("one"), lab.bridge("other")
    host = one.host("host")
    link = host.links[0]
    link.impair(delay="5ms")
    fault = link.set_mtu(1400)
    one.detach(host)
    other.attach(host)
    assert link.impairment is not None
    assert link.impairment.delay == 0.005
    assert {str(end.node.name) for end in link.interfaces} == {"host", "other"}
    fault.undo()
    assert (link.a.mtu, link.b.mtu) == (1500, 1500)
    lab.heal()
    assert not lab._in_force()


def test_a_detached_host_gets_no_carrier_by_its_link(lab: Lab) -> None:
    lan = lab.bridge("lan")
    host = lan.host("host")
    lan.detach(host)
    with host.links[0].down():
        pass
    assert not host.links[0].is_up
    lan.attach(host)
    assert host.links[0].is_up


# ---------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.netns_requires("nft")
def test_closing_waits_for_an_action_that_needs_the_lab() -> None:
    lab = Lab()
    a, b = lab.host("a"), lab.host("b")
    lab.connect(a, b)
    began: list[float] = []

    def act() -> None:
        began.append(time.monotonic())
        eventually(lambda: lab.closed or closing, within=10)
        lab.partition([a], [b])

    closing = []
    schedule = lab.schedule([(0, act)])
    eventually(lambda: began)
    closing.append(True)
    lab.close()
    assert schedule.done
