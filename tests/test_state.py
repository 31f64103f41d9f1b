"""The state of a lab in text, as a failed test shows it."""

from __future__ import annotations

import sys

import pytest

from pytest_netns import Host, Lab, Router
from pytest_netns.report.state import describe


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
    assert "red up -- red:eth0" in " ".join(part(describe(lab, whole=True), "lan")).replace("fe80", "")
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


def test_rules_are_counted_and_shown_as_a_whole_on_request(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    town[2].nft("table inet fw { chain c { type filter hook forward priority 0; ip protocol icmp drop; }; }")
    assert "nftables rules: 1; see them with -vv" in part(describe(lab), "router")
    assert "ip protocol icmp drop" in describe(lab, whole=True)


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


def test_a_closed_node_is_left_out(lab: Lab, town: tuple[Host, Host, Router]) -> None:
    town[0].close()
    assert "red (host)" not in describe(lab)
