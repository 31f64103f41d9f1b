from __future__ import annotations

import sys

import pytest
from slowness import patient

from pytest_netns import Host, KernelError, Lab, TopologyError
from pytest_netns.lab.lab import Neighbours
from pytest_netns.report.drawing import drawing
from pytest_netns.report.snapshot import snapshot


def user_routes(host: Host) -> set[str]:
    return {str(route) for route in host.routes() if route.protocol != "kernel"}


def test_it_knows_its_ends(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    assert (link.a.node, link.b.node) == (red, blue)
    assert link.end(red) is link.a
    assert link.end(blue) is link.b
    assert repr(link) == "<Link red:eth0 -- blue:eth0>"
    assert link.is_up


def test_down_is_a_pulled_cable_and_up_plugs_it_in(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    for _ in range(5):
        link.down()
        assert not link.is_up
        assert not red.ping(blue.ip4, timeout=0.05)
        link.up()
        assert link.is_up
        assert red.ping(blue.ip4, timeout=patient(0.3, at_most=0.9))
        assert blue.ping(red.ip6, timeout=patient(0.3, at_most=0.9))


def test_addresses_stay_while_it_is_down(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"))
    link.a.add_address("10.200.0.1/24")
    before = [[a for a in end.addresses if not a.is_link_local] for end in link.interfaces]
    link.down()
    assert [[a for a in end.addresses if not a.is_link_local] for end in link.interfaces] == before
    link.up()
    assert [[a for a in end.addresses if not a.is_link_local] for end in link.interfaces] == before


@pytest.mark.netns_requires("program:ip")
def test_up_restores_the_routes_that_down_took(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    red.run(["ip", "route", "add", "default", "via", str(blue.ip4)])
    red.run(["ip", "route", "add", "198.51.100.0/24", "via", str(blue.ip4), "metric", "7", "src", str(red.ip4)])
    red.run(["ip", "-6", "route", "add", "default", "via", str(blue.ip6)])
    red.run(["ip", "-6", "route", "add", "2001:db8::/32", "dev", "eth0", "metric", "5"])
    blue.run(["ip", "route", "add", "203.0.113.0/24", "dev", "eth0"])
    routes = [user_routes(host) for host in (red, blue)]
    assert len(routes[0]) == 4
    for _ in range(2):
        link.down()
        link.down()  # the second time there is nothing more to remember
        assert user_routes(red) == user_routes(blue) == set()
        link.up()
        assert [user_routes(host) for host in (red, blue)] == routes


@pytest.mark.netns_requires("program:ip")
def test_routes_through_other_links_are_left_alone(lab: Lab) -> None:
    red = lab.host("red")
    link, other = lab.connect(red, lab.host("blue")), lab.connect(red, lab.host("green"))
    red.run(["ip", "route", "add", "198.51.100.0/24", "dev", other.a.name])
    link.down()
    assert user_routes(red) == {"198.51.100.0/24 dev eth1"}
    red.run(["ip", "route", "delete", "198.51.100.0/24"])
    link.up()
    assert user_routes(red) == set()


def test_up_on_a_link_that_is_up_changes_nothing(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    before = red.addresses(), red.routes()
    link.up()
    assert (red.addresses(), red.routes()) == before


def test_a_link_to_a_bridge_goes_down_and_up_too(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    red, blue = bridge.host("red"), bridge.host("blue")
    (link,) = red.links
    for _ in range(5):
        link.down()
        assert not blue.ping(red.ip4, timeout=0.05)
        link.up()
        assert blue.ping(red.ip4, timeout=5)  # blue's kernel has an ARP request out, which it repeats each second
        assert red.ping(blue.ip6, timeout=patient(0.3, at_most=0.9))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.netns_requires("program:ip")
def test_removing_one_end_removes_both(lab: Lab, side: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    end = link.interfaces[side]
    end.node.run(["ip", "link", "delete", end.name])
    assert list(red.interfaces) == list(blue.interfaces) == ["lo"]


def test_remove_takes_both_ends_and_frees_the_subnet(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, "10.7.0.0/24")
    link.remove()
    assert link.removed
    assert repr(link) == "<Link red:eth0 -- blue:eth0 removed>"
    assert list(red.interfaces) == list(blue.interfaces) == ["lo"]
    assert lab.links == ()
    assert red.links == []
    again = lab.connect(red, blue, "10.7.0.0/24")
    assert red.ping(again.b, timeout=patient(0.3, at_most=0.9))


def test_the_mtu_is_that_of_both_ends(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, mtu=1400)
    assert (link.a.mtu, link.b.mtu) == (1400, 1400)
    assert red.ping(blue.ip4, size=1372, df=True)
    assert not red.ping(blue.ip4, size=1373, df=True)
    assert lab.connect(red, blue).a.mtu == 1500
    assert lab.connect(red, blue, mtu=9000).b.mtu == 9000


def test_names_can_be_chosen(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, names=("veth-red", "veth-blue"))
    assert (link.a.name, link.b.name) == ("veth-red", "veth-blue")
    assert list(red.interfaces) == ["lo", "veth-red"]
    assert list(blue.interfaces) == ["lo", "veth-blue"]
    assert lab.connect(red, blue).a.name == "eth0"


def test_a_node_that_is_not_on_it_has_no_end(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"))
    with pytest.raises(TopologyError, match="has no end in 'green'"):
        link.end(lab.host("green"))


# ------------------------------------------------------------- both ends in one namespace


def test_both_ends_can_be_in_one_namespace(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.0.2.0/24")
    loop = lab.connect(red, red, "198.51.100.0/24")
    assert [(end.node, end.name) for end in loop.interfaces] == [(red, "eth1"), (red, "eth2")]
    assert [str(end.ip4) for end in loop.interfaces] == ["198.51.100.1", "198.51.100.2"]
    assert repr(loop) == "<Link red:eth1 -- red:eth2>"
    assert loop.is_up
    with red.capture("eth2") as capture:
        red.run([sys.executable, "-c", FRAME])
        assert capture.expect(lambda packet: bytes(packet).endswith(b"round"), timeout=patient(2.0))
    assert red.ping(blue)
    blue.add_route("198.51.100.0/24", via=red)
    assert blue.ping("198.51.100.2")
    assert "eth2" in str(lab.links)


#: Sent into one end, it comes out at the other.
FRAME = """
import socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as end:
    end.bind(("eth1", 0))
    end.send(b"\\xff" * 6 + b"\\x02\\0\\0\\0\\0\\1" + b"\\x88\\xb5" + bytes(50) + b"round")
"""


def test_a_link_of_one_namespace_goes_down_and_up_and_is_removed(lab: Lab) -> None:
    red = lab.host("red")
    loop = lab.connect(red, red, names=("in", "out"))
    loop.down()
    assert not red.interfaces["in"].is_up
    assert not red.interfaces["out"].is_up
    loop.up()
    assert loop.is_up
    loop.remove()
    assert list(red.interfaces) == ["lo"]
    assert lab.links == ()
    lab.connect(red, red)
    assert list(red.interfaces) == ["lo", "eth0", "eth1"]
    red.crash()
    red.restart()
    assert [str(address) for address in red.addresses() if address.version == 4] == ["10.0.0.1/24", "10.0.0.2/24"]


@pytest.mark.parametrize("neighbours", ["learned", "known"])
def test_a_lab_with_a_link_of_one_namespace_is_shown_and_closed(neighbours: Neighbours) -> None:
    with Lab(neighbours=neighbours) as lab:
        red, blue = lab.host("red"), lab.host("blue")
        lab.connect(red, red)
        lab.connect(red, blue)
        assert red.ping(blue)
        assert "eth0" in drawing(snapshot(lab))


# ------------------------------------------------------------- MAC addresses and indexes


def test_mac_addresses_and_indexes_can_be_chosen(lab: Lab) -> None:
    red, blue, lan = lab.host("red"), lab.host("blue"), lab.bridge("lan")
    link = lab.connect(red, blue, mac=("02:00:00:00:00:AA", None), index=(None, 7))
    assert link.a.mac == "02:00:00:00:00:aa"
    assert link.b.mac.startswith("02:")
    assert (link.b.index, red.interfaces["eth0"].index) == (7, link.a.index)
    assert red.ping(blue)
    pink = lan.host("pink", "10.0.0.77", mac="0c:00:00:00:00:01", index=3)
    assert (pink.mac, pink.interfaces["eth0"].index) == ("0c:00:00:00:00:01", 3)
    port = lab.connect(lan, blue, mac=("0c:00:00:00:00:02", "0c:00:00:00:00:03"), index=(9, 8))
    assert (port.a.mac, port.a.index, port.b.mac, port.b.index) == ("0c:00:00:00:00:02", 9, "0c:00:00:00:00:03", 8)
    assert pink.ping(port.b)


def test_an_index_that_was_chosen_is_not_given_out_again(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    first = lab.connect(red, blue)
    chosen = lab.connect(red, blue, index=(first.a.index + 1, None))
    third = lab.connect(red, blue)
    assert chosen.a.index == first.a.index + 1
    assert third.a.index == first.a.index + 2


def test_an_index_that_is_taken_is_refused_and_nothing_is_left(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    first = lab.connect(red, blue)
    for taken in ((first.a.index, None), (None, first.b.index)):
        with pytest.raises(TopologyError, match=r"index \d+ is that of 'eth0' in '(red|blue)'"):
            lab.connect(red, blue, index=taken)
    assert list(red.interfaces) == list(blue.interfaces) == ["lo", "eth0"]
    with pytest.raises(KernelError, match="ip link add eth1 type veth peer name eth2"):
        lab.connect(red, red, index=(7, 7))
    assert red.ping(blue)
    lan = lab.bridge("lan")
    with pytest.raises(TopologyError, match="mac is 'x'"):
        lan.host("pink", mac="x")
    assert "pink" not in lab
    assert str(lan.host("pink").ip4) == "10.0.1.1"


def test_names_as_containers_have_them_are_left_as_they_are(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, names=("eth0@if5", "vethab12@if2"))
    assert list(red.interfaces) == ["lo", "eth0@if5"]
    assert red.interfaces["eth0@if5"] == link.a
    assert red.sysctl["net.ipv4.conf.eth0@if5.forwarding"] == "0"
    assert red.ping(blue)
