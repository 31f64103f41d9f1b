"""Drawings of labs, in text and as SVG, from states made by hand and from real ones."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from pytest_netns import Lab
from pytest_netns.report.drawing import drawing
from pytest_netns.report.snapshot import End, InterfaceState, LabState, NodeState, snapshot
from pytest_netns.report.svg import svg

SVG = "{http://www.w3.org/2000/svg}"


def interface(name: str, *addresses: str, up: bool = True, master: str | None = None) -> InterfaceState:
    return {
        "name": name,
        "kind": "veth",
        "enabled": up,
        "up": up,
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "addresses": list(addresses),
        "master": master,
        "port_state": "forwarding" if master else "",
        "peer": None,
        "impaired": None,
    }


def node(name: str, kind: str, *interfaces: InterfaceState, inode: int | None = None) -> NodeState:
    return {
        "name": name,
        "kind": kind,
        "inode": hash(name) if inode is None else inode,
        "subnets": ["10.1.0.0/24"] if kind == "bridge" else [],
        "interfaces": list(interfaces),
        "routes": [],
        "neighbours": [],
        "sysctls": [],
        "listeners": [],
        "rules": {"count": 0, "text": "", "json": []},
        "processes": [],
        "troubles": [],
    }


def end(text: str) -> End:
    owner, _, name = text.partition(":")
    return {"node": owner, "interface": name}


def state(*nodes: NodeState, cables: tuple[str, ...] = ()) -> LabState:
    ends = [cable.split(" -- ") for cable in cables]
    return {"name": "lab", "faults": [], "nodes": list(nodes), "cables": [{"a": end(a), "b": end(b)} for a, b in ends]}


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_two_hosts_and_a_cable() -> None:
    pair = state(
        node("red", "host", interface("eth0", "10.0.0.1/24")),
        node("blue", "host", interface("eth0", "10.0.0.2/24")),
        cables=("red:eth0 -- blue:eth0",),
    )
    assert lines(drawing(pair)) == [
        "red     blue",
        "[eth0]--[eth0]  10.0.0.0/24",
    ]


def test_a_routed_network_stands_in_the_order_of_its_path(lab: Lab) -> None:
    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "10.2.0.0/24")
    lan.host("red")
    wan.host("blue")
    router = lab.router("router", lan, wan)
    lab.connect(router, lab.host("far"), "10.3.0.0/24")
    assert lines(drawing(snapshot(lab))) == [
        "red     (router)  blue    far",
        "[eth0]==[eth0]    |       |       lan 10.1.0.0/24",
        "        [eth1]====[eth0]  |       wan 10.2.0.0/24",
        "        [eth2]------------[eth0]  10.3.0.0/24",
    ]


def test_two_drawings_of_one_lab_are_the_same(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    for name in ("a", "b", "c"):
        bridge.host(name)
    assert drawing(snapshot(lab)) == drawing(snapshot(lab))
    assert svg(snapshot(lab)) == svg(snapshot(lab))


def test_what_carries_nothing_says_so_and_is_dotted(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.0.0.0/24").a.down()
    assert lines(drawing(snapshot(lab)))[1] == "[eth0 DOWN]..[eth0 NO-CARRIER]  10.0.0.0/24"


def test_an_unplugged_host_says_so(lab: Lab) -> None:
    bridge = lab.bridge("br0", "10.0.0.0/24")
    red, _ = bridge.host("red"), bridge.host("blue")
    bridge.detach(red)
    assert lines(drawing(snapshot(lab)))[1] == "[eth0 UNPLUGGED]==[eth0]  br0 10.0.0.0/24"


def test_a_port_that_does_not_forward_says_so() -> None:
    port = {**interface("red", master="lan"), "port_state": "blocking"}
    lan = node("lan", "bridge", port)  # type: ignore[arg-type]
    found = state(lan, node("red", "host", interface("eth0")), cables=("red:eth0 -- lan:red",))
    assert lines(drawing(found))[1] == "[eth0 blocking]  lan 10.1.0.0/24"


def test_nodes_that_share_a_namespace_share_a_column(lab: Lab) -> None:
    web = lab.host("web")
    lab.host("sidecar", shares=web)
    lab.connect(web, lab.host("far"))
    assert lines(drawing(snapshot(lab)))[0] == "web+sidecar  far"


def test_a_trunk_is_told_beside_both_bridges(lab: Lab) -> None:
    one = lab.bridge("one", "10.1.0.0/24")
    two = lab.bridge("two", one)
    lab.connect(one, two)
    one.host("red")
    two.host("blue")
    rows = lines(drawing(snapshot(lab)))
    assert rows[1:] == [
        "[eth0]  |       one 10.1.0.0/24, trunk to two",
        "        [eth0]  two 10.1.0.0/24, trunk to one",
    ]


def test_two_ports_on_one_bridge_are_in_one_cell(lab: Lab) -> None:
    bridge = lab.bridge("br0", "10.0.0.0/24")
    lab.host("red", bridge, bridge)
    assert lines(drawing(snapshot(lab)))[1].startswith("[eth0, eth1]")


def test_nodes_without_links_and_empty_labs_can_be_drawn(lab: Lab) -> None:
    assert drawing(snapshot(lab)) == ""
    lab.host("alone")
    lab.bridge("empty", "10.0.0.0/24")
    assert lines(drawing(snapshot(lab))) == ["alone", "       empty 10.0.0.0/24"]
    ET.fromstring(svg(snapshot(lab)))


def star(hosts: int) -> LabState:
    spokes = [node(f"host{n}", "host", interface("eth0", f"10.1.0.{n + 1}/24")) for n in range(hosts)]
    hub = node("hub", "bridge", *(interface(f"host{n}", master="hub") for n in range(hosts)))
    return state(hub, *spokes, cables=tuple(f"host{n}:eth0 -- hub:host{n}" for n in range(hosts)))


def test_twelve_nodes_are_drawn_and_more_are_listed_in_lines_that_fit() -> None:
    drawn = lines(drawing(star(11)))
    assert len(drawn) == 2
    assert drawn[0].split() == [f"host{n}" for n in range(11)]
    listed = lines(drawing(star(40)))
    assert listed[0].startswith("hub 10.1.0.0/24: host0:eth0, host1:eth0, ")
    assert max(map(len, listed)) <= 110


def test_a_wide_drawing_says_below_what_carries_nothing() -> None:
    wide = star(11)
    for number in (3, 7):
        wide["nodes"][1 + number]["interfaces"][0]["enabled"] = False
    drawn = lines(drawing(wide))
    assert drawn[1].startswith("[eth0]=[eth0]=[eth0]=[eth0!]")
    assert drawn[2:] == ["! host3:eth0 DOWN", "! host7:eth0 DOWN"]


def test_a_listed_cable_names_its_faults() -> None:
    pair = state(
        node("red", "host", interface("eth0", "10.0.0.1/24", up=False)),
        node("blue", "host", interface("eth0", "10.0.0.2/24")),
        node("alone", "host"),
        cables=("red:eth0 -- blue:eth0",),
    )
    assert lines(drawing(pair, widest=10)) == ["red:eth0 DOWN -- blue:eth0 (10.0.0.0/24)", "alone (no link)"]


# ------------------------------------------------------------------------ SVG


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter(f"{SVG}text")]


def test_the_picture_has_nodes_interfaces_addresses_and_subnets(lab: Lab) -> None:
    lan = lab.bridge("lan", "10.1.0.0/24")
    lab.router("r1", lan)
    lab.connect(lan.host("red"), lab.host("blue"), "10.2.0.0/24")
    found = texts(svg(snapshot(lab)))
    for expected in (
        "r1",
        "red",
        "blue",
        "eth0",
        "eth1",
        "10.1.0.1/24",
        "10.2.0.2/24",
        "lan 10.1.0.0/24",
        "10.2.0.0/24",
    ):
        assert expected in found


def test_kinds_of_nodes_look_different(lab: Lab) -> None:
    lan = lab.bridge("lan")
    lab.router("r1", lan)
    lan.host("red")
    groups = {g.get("class"): g for g in ET.fromstring(svg(snapshot(lab))).iter(f"{SVG}g")}
    host, router = (groups[kind].find(f"{SVG}rect") for kind in ("host", "router"))
    assert host is not None
    assert router is not None
    assert host.get("rx") != router.get("rx")
    bridge = groups["bridge"].find(f"{SVG}line")
    assert bridge is not None
    assert bridge.get("stroke-width") == "6"


@pytest.mark.parametrize("up", [True, False])
def test_a_dead_cable_is_red_and_dashed(up: bool) -> None:
    pair = state(
        node("red", "host", interface("eth0", up=up)),
        node("blue", "host", interface("eth0")),
        cables=("red:eth0 -- blue:eth0",),
    )
    groups = [g for g in ET.fromstring(svg(pair)).iter(f"{SVG}g") if g.get("class") == "cable"]
    line = groups[0].find(f"{SVG}line")
    assert line is not None
    assert (line.get("stroke-dasharray") is None) == up
    assert (line.get("stroke") == "#c81e1e") == (not up)


def test_names_are_escaped() -> None:
    odd = '<&">\x01\ud800'
    found = state(node(odd, "host", interface(odd)), node("b", "host", interface("e")), cables=())
    found["cables"] = [{"a": {"node": odd, "interface": odd}, "b": {"node": "b", "interface": "e"}}]
    picture = svg(found)
    assert '<&">??' in texts(picture)
    picture.encode()


def test_boxes_of_nodes_do_not_overlap() -> None:
    boxes = []
    for group in ET.fromstring(svg(star(12))).iter(f"{SVG}g"):
        box = group.find(f"{SVG}rect")
        if group.get("class") == "host" and box is not None:
            boxes.append((float(box.get("x", "")), float(box.get("width", ""))))
    assert len(boxes) == 12
    assert all(x + width < after for (x, width), (after, _) in pairwise(boxes))


def test_what_is_behind_a_trunk_stands_beside_what_is_before_it(lab: Lab) -> None:
    one, other = lab.bridge("one", "10.1.0.0/24"), lab.bridge("other", "10.2.0.0/24")
    two = lab.bridge("two", one)
    lab.connect(one, two)
    for bridge, name in ((one, "red"), (other, "green"), (two, "blue")):
        bridge.host(name)
    assert lines(drawing(snapshot(lab)))[0].split() == ["red", "blue", "green"]


def test_the_picture_marks_the_way_and_where_it_ended() -> None:
    nodes = ["red", "blue"]
    pair = state(*(node(name, "host", interface("eth0")) for name in nodes), cables=("red:eth0 -- blue:eth0",))
    picture = ET.fromstring(svg(pair, way=nodes, ended=nodes[-1]))
    (way,) = [g for g in picture.iter(f"{SVG}g") if g.get("class") == "way"]
    assert len(list(way.iter(f"{SVG}circle"))) == len(nodes)
    assert len(list(way.iter(f"{SVG}line"))) == len(nodes) - 1 + 2  # and the cross
    red = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("stroke-width") == "2.5"]
    assert len(red) == 1
    assert not [g for g in ET.fromstring(svg(pair)).iter(f"{SVG}g") if g.get("class") == "way"]
