"""The state of a lab in text, as a failed test shows it."""

from __future__ import annotations

import json
import sys

import pytest

from pytest_netns import Host, Lab, Namespace, Router
from pytest_netns.errors import UnsupportedError
from pytest_netns.kernel import nftables
from pytest_netns.report.snapshot import snapshot, snapshot_of
from pytest_netns.report.state import describe, is_bare


@pytest.fixture
def town(lab: Lab) -> tuple[Host, Host, Router]:
    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "10.2.0.0/24")
    red, blue, router = lan.host("red"), wan.host("blue"), lab.router("router", lan, wan)
    lab.autoroute()
    return red, blue, router


def part(text: str, node: str) -> list[str]:
    """The lines about one node."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{node} ("))
    rest = lines[start + 1 :]
    end = next((i for i, line in enumerate(rest) if not line.startswith(" ")), len(rest))
    return [line.strip() for line in rest[:end]]


def test_interfaces_are_drawn_with_their_addresses_and_what_is_behind_them(lab: Lab, town: object) -> None:
    text = describe(lab)
    assert "eth0 up 10.1.0.1/24 fd00::1/64 -- lan:red" in part(text, "red")
    assert "red up -- red:eth0" in part(describe(lab, whole=True), "lan")
    assert "lan (bridge)" not in text  # the drawing has it
    assert part(text, "router")[:2] == [
        "eth0 up 10.1.0.2/24 fd00::2/64 -- lan:router",
        "eth1 up 10.2.0.2/24 fd00:0:0:1::2/64 -- wan:router",
    ]


def test_what_differs_from_the_usual_stands_out(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    red, blue, router = town
    router.sysctl["net.ipv4.ip_forward"] = 0
    red.interfaces["eth0"].mtu = 1400
    blue.interfaces["eth0"].down()
    text = describe(lab)
    assert "sysctl net.ipv4.ip_forward = 0 (usually 1)" in part(text, "router")
    assert part(text, "red")[0].endswith("mtu 1400 -- lan:red")
    assert part(text, "blue")[0].startswith("eth0 DOWN")


def test_routes_that_somebody_set_are_told(lab: Lab, town: object) -> None:
    assert "route 10.2.0.0/24 via 10.1.0.2 dev eth0 metric 2048" in part(describe(lab), "red")


def test_listeners_are_told(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    server = town[1].spawn([sys.executable, "-m", "http.server", "8080"], ready=8080)
    assert "listens on tcp 0.0.0.0:8080" in part(describe(lab), "blue")
    server.terminate()


def test_processes_are_told_with_the_end_of_their_output(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    talker = town[1].spawn(["sh", "-c", "for i in 1 2 3 4 5 6 7; do echo line $i; done; exit 3"])
    assert talker.wait() == 3
    lines = part(describe(lab), "blue")
    at = next(i for i, line in enumerate(lines) if line.startswith(f"process {talker.pid} "))
    assert lines[at].endswith(": exit status 3")
    assert lines[at + 1 :] == [f"| line {number}" for number in (3, 4, 5, 6, 7)]
    assert "| line 1" in part(describe(lab, whole=True), "blue")


@pytest.mark.netns_requires("nft")
def test_rules_are_counted_and_shown_as_a_whole_on_request(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    red, blue, router = town
    router.nft("table inet fw { chain c { type filter hook forward priority 0; ip protocol icmp counter drop; }; }")
    assert not red.ping(blue, timeout=0.05)
    assert "nftables rules: 1; see them with -vv" in part(describe(lab), "router")
    assert "ip protocol icmp counter packets 1 bytes 84 drop" in part(describe(lab, whole=True), "router")


def test_neighbours_are_told_as_a_whole_only(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    red, _, router = town
    assert red.ping(router)
    assert f"neighbour 10.1.0.2 {router.mac} dev eth0 REACHABLE" in part(describe(lab, whole=True), "red")
    assert "neighbour" not in describe(lab)


def test_a_large_lab_is_cut(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    for number in range(30):
        bridge.host(f"h{number}")
    lines = describe(lab).splitlines()
    assert len(lines) == 41
    assert lines[-1].endswith("more lines; see all with -vv")
    assert len(describe(lab, whole=True).splitlines()) > 60


def test_a_neighbour_that_does_not_answer_is_told_in_any_case(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    assert not town[0].ping("10.1.0.77", timeout=0.05)
    (line,) = (line for line in part(describe(lab), "red") if line.startswith("neighbour"))
    assert line.rpartition(" ")[0] == "neighbour 10.1.0.77 unknown dev eth0"
    assert line.rpartition(" ")[2] in ("INCOMPLETE", "FAILED")  # the latter after three seconds


def test_a_bridge_is_told_if_there_is_something_to_tell(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    lan = lab["lan"]
    lan.interfaces["red"].down()
    assert part(describe(lab), "lan") == ["red DOWN disabled -- red:eth0"]
    assert part(describe(lab), "red")[0].startswith("eth0 NO-CARRIER 10.1.0.1/24")


@pytest.mark.netns_requires("nft")
def test_a_loopback_that_is_down_is_told(lab: Lab) -> None:
    lab.host("red").interfaces["lo"].down()
    assert part(describe(lab), "red") == ["lo DOWN 127.0.0.1/8"]


def test_a_drawing_stands_above(lab: Lab, town: object) -> None:
    assert describe(lab).startswith("red     (router)  blue\n[eth0]==[eth0]    |       lan 10.1.0.0/24\n")


def test_what_cannot_be_told_of_any_node_is_said_once(lab: Lab, town: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> str:
        raise UnsupportedError("nothing here speaks nftables")

    monkeypatch.setattr(nftables, "engine", none)
    assert describe(lab).count("nothing here speaks nftables") == 1
    assert describe(lab).endswith("(cannot be told of any node: nothing here speaks nftables)")
    assert snapshot(lab)["nodes"][0]["troubles"] == ["nothing here speaks nftables"]


@pytest.mark.netns_requires("nft")
def test_a_snapshot_is_json(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    red, blue, router = town
    assert red.ping(blue)
    router.nft("table inet fw { chain c { type filter hook forward priority 0; counter; }; }")
    blue.spawn([sys.executable, "-m", "http.server", "8080"], ready=8080)
    state = snapshot(lab)
    assert json.loads(json.dumps(state)) == state
    nodes = {node["name"]: node for node in state["nodes"]}
    (eth0,) = (each for each in nodes["red"]["interfaces"] if each["name"] == "eth0")
    assert (eth0["kind"], eth0["peer"], eth0["mac"], eth0["up"]) == ("veth", "lan:red", red.mac, True)
    assert {"10.2.0.0/24", "fd00:0:0:1::/64"} <= {route["destination"] for route in nodes["red"]["routes"]}
    assert nodes["blue"]["listeners"][0]["port"] == 8080
    assert nodes["blue"]["processes"][0]["returncode"] is None
    assert nodes["router"]["rules"]["count"] == 1
    assert nodes["lan"]["subnets"] == ["10.1.0.0/24", "fd00::/64"]
    assert state["cables"][0] == {"a": {"node": "red", "interface": "eth0"}, "b": {"node": "lan", "interface": "red"}}


def test_looking_changes_nothing(lab: Lab, town: object) -> None:
    assert snapshot(lab) == snapshot(lab)


@pytest.mark.netns_requires("nft")
def test_namespaces_without_a_lab_can_be_told(netns: Namespace) -> None:
    assert is_bare(snapshot_of("namespaces", [netns]))
    server = netns.socket()
    server.bind(("127.0.0.1", 8080))
    server.listen()
    state = snapshot_of("namespaces", [netns])
    assert not is_bare(state)
    assert state["nodes"][0]["listeners"][0]["text"] == "tcp 127.0.0.1:8080"


def test_a_closed_node_is_left_out(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    town[0].close()
    assert "red (host)" not in describe(lab)
