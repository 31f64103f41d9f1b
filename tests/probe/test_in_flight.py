"""A short timeout is no verdict: what was still on its way when it was over is told."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conversation import listen
from slowness import patient

from pytest_netns import (
    Host,
    Lab,
    ProbeFailure,
    assert_no_arp,
    assert_no_ping,
    assert_no_udp,
    assert_tcp_closed,
    assert_tcp_filtered,
    assert_tcp_not_open,
)
from pytest_netns.kernel import backlog

SHORT = patient(0.05)
relayed = pytest.mark.netns_requires("tap")


@pytest.fixture
def slow(lab: Lab) -> tuple[Host, Host]:
    """There and back takes 2 s."""
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, "192.168.15.0/24")
    assert red.ping(blue)
    link.impair(delay="1s")
    return red, blue


@relayed
def test_a_delay_longer_than_the_timeout_leaves_it_open(slow: tuple[Host, Host]) -> None:
    red, blue = slow
    listen(blue, 80)
    tcp, udp = red.tcp(blue, 80, timeout=SHORT), red.udp(blue, 9, b"x", timeout=SHORT)
    assert (tcp.state, udp.state) == ("inconclusive", "inconclusive")
    for result in (
        tcp,
        udp,
        red.ping(blue, timeout=SHORT),
        red.arp(blue, timeout=SHORT),
        red.path_mtu(blue, timeout=SHORT),
    ):
        assert not result
        assert result.in_flight is not None
        assert "there and back may take 2 s: red:eth0 (delay 1s), blue:eth0 (delay 1s)" in repr(result)
    assert "there and back may take" in repr(red.dns(blue, "x.example", timeout=SHORT))
    red.links[0].impair(delay="20ms")
    assert red.tcp(blue, 80, timeout=patient(5.0))
    assert red.udp(blue, 9, b"x", timeout=patient(5.0)).state == "closed"


NEGATIVE: dict[str, Callable[[Host, Host], object]] = {
    "ping": lambda red, blue: assert_no_ping(red, blue, timeout=SHORT),
    "arp": lambda red, blue: assert_no_arp(red, blue, timeout=SHORT),
    "udp": lambda red, blue: assert_no_udp(red, blue, 9, timeout=SHORT),
    "filtered": lambda red, blue: assert_tcp_filtered(red, blue, 80, timeout=SHORT),
    "closed": lambda red, blue: assert_tcp_closed(red, blue, 80, timeout=SHORT),
    "not open": lambda red, blue: assert_tcp_not_open(red, blue, 80, timeout=SHORT),
}


@relayed
@pytest.mark.parametrize("name", NEGATIVE)
def test_no_assertion_takes_that_for_silence(slow: tuple[Host, Host], name: str) -> None:
    with pytest.raises(ProbeFailure, match="there and back may take 2 s"):
        NEGATIVE[name](*slow)


@relayed
@pytest.mark.netns_requires("nft")
def test_time_enough_for_the_delay_is_a_verdict(slow: tuple[Host, Host]) -> None:
    red, blue = slow
    red.links[0].impair(delay="200ms")
    blue.nft("table inet fw { chain c { type filter hook input priority 0; meta l4proto { tcp, udp, icmp } drop; }; }")
    enough = 0.4 + patient(0.2)
    assert red.tcp(blue, 80, timeout=enough).state == "filtered"
    assert red.udp(blue, 9, timeout=enough).state == "silent"
    assert red.ping(blue, timeout=enough).in_flight is None


@relayed
@pytest.mark.netns_requires("nft")
def test_delays_elsewhere_do_not_matter(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue, "192.168.15.0/24")
    lab.connect(red, green).impair(delay="1s")
    blue.nft("table ip fw { chain c { type filter hook input priority 0; tcp dport 80 drop; }; }")
    assert red.tcp(blue, 80, timeout=SHORT).state == "filtered"
    assert red.tcp(green, 80, timeout=SHORT).state == "inconclusive"


@relayed
def test_what_waits_for_a_slow_link_is_told(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, "192.168.15.0/24")
    assert red.ping(blue)
    link.impair(rate="100kbit", toward=blue)
    flood = red.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(40):
        flood.sendto(bytes(1000), (str(blue.ip4), 9))  # more than 3 s worth
    result = red.tcp(blue, 80, timeout=SHORT)
    assert result.state == "inconclusive"
    assert "frames are under way from red:eth0 (rate 100kbit)" in repr(result)


@pytest.mark.netns_requires("nft")
def test_a_datagram_that_its_server_has_not_read_yet_is_told(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    server = listen(right, 53, "udp")
    result = left.udp(right, 53, b"question", timeout=SHORT)
    assert result.state == "inconclusive"
    assert "bytes wait at 'right' for whoever listens on udp port 53 to read them" in repr(result)
    with pytest.raises(ProbeFailure, match=r"that proves nothing: .*udp port 53 to read them"):
        assert_no_udp(left, right, 53, b"question", timeout=SHORT)
    while True:
        try:
            server.settimeout(0.0)
            server.recv(100)
        except BlockingIOError:
            break
    right.nft("table ip fw { chain c { type filter hook input priority 0; udp dport 53 drop; }; }")
    assert left.udp(right, 53, b"question", timeout=SHORT).state == "silent"


def test_the_backlog_of_the_kernel_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # columns of /proc/net/softnet_stat: the first counts what was processed, the twelfth what is queued
    rows = [(10, 3), (11, 3), (13, 5), (13, 0)]
    table = tmp_path / "softnet_stat"
    looks = iter(rows)

    def look(_: float) -> None:
        processed, queued = next(looks)
        table.write_text(f"{processed:08x} " + "00000000 " * 10 + f"{queued:08x} 00000000\n")

    look(0)
    monkeypatch.setattr(backlog, "_STATISTICS", str(table))
    monkeypatch.setattr(backlog, "_never", type("Clock", (), {"wait": staticmethod(look)}))
    backlog.settle(hops=1)
    assert next(looks) == (13, 0), "it went on when the three that were queued had been processed, whatever came since"


def test_a_machine_without_that_table_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_STATISTICS", str(tmp_path / "none"))
    backlog.settle()
