"""Broadcast addresses and multicast groups: everybody who answers is listed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from slowness import patient

from pytest_netns import Host, Lab, TopologyError

SHORT = patient(0.2)


@pytest.fixture
def lan(lab: Lab) -> list[Host]:
    """Three hosts on one link that answer to broadcasts."""
    switch = lab.bridge("switch", "10.1.0.0/24")
    hosts = [switch.host(name) for name in ("red", "blue", "green")]
    for host in hosts:
        host.sysctl["net.ipv4.icmp_echo_ignore_broadcasts"] = 0
    return hosts


@pytest.mark.parametrize(
    ("group", "source"),
    [
        *((group, source) for group in ("10.1.0.255", "224.0.0.1") for source in (None, "eth0", "10.1.0.1")),
        ("255.255.255.255", "eth0"),
    ],
)
def test_all_who_answer_are_listed(lan: list[Host], group: str, source: str | None) -> None:
    red, blue, green = lan
    result = red.ping(group, timeout=SHORT, count=2, source=source)
    assert result
    assert set(result.responders) == {blue.ip4, green.ip4}
    assert (result.sent, result.received, result.duplicates, len(result.replies)) == (2, 2, 0, 4)
    assert f"from {result.responders[0]}, {result.responders[1]}" in repr(result)


def test_an_ipv6_group_needs_the_interface(lan: list[Host], lab: Lab) -> None:
    red, blue, green = lan
    everybody = (blue, green, lab["switch"])  # the bridge device has such an address too
    theirs = {next(a.ip for a in host.addresses() if a.is_link_local) for host in everybody}
    assert set(red.ping("ff02::1", timeout=SHORT).responders) == theirs
    lab.connect(red, lab.host("far"))
    for source in ("eth0", red.interfaces["eth0"]):
        assert set(red.ping("ff02::1", timeout=SHORT, source=source).responders) == theirs
    assert set(red.ping("ff02::1%eth0", timeout=SHORT).responders) == theirs
    with pytest.raises(TopologyError, match="ff02::1 is a group on one link and 'red' has 2 interfaces; say which one"):
        red.ping("ff02::1")


@pytest.mark.netns_requires("program:ip")
def test_a_group_needs_a_route_or_the_interface_where_there_are_two(lan: list[Host], lab: Lab) -> None:
    red, blue, green = lan
    lab.connect(red, lab.host("far"))
    with pytest.raises(TopologyError, match=r"is a group, .*2 interfaces and no route for it.*source='eth0'"):
        red.ping("224.0.0.1")
    assert len(red.ping("224.0.0.1", timeout=SHORT, source="eth0").responders) == 2
    red.run(["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"])
    assert set(red.ping("224.0.0.1", timeout=SHORT).responders) == {blue.ip4, green.ip4}


def test_without_a_route_the_limited_broadcast_is_unreachable_as_for_any_socket(lan: list[Host]) -> None:
    assert "Network is unreachable" in repr(lan[0].ping("255.255.255.255"))
    assert lan[0].udp("255.255.255.255", 9).state == "unreachable"


def test_its_own_answer_is_none(lan: list[Host]) -> None:
    red, blue, green = lan
    for host in (blue, green):
        host.sysctl["net.ipv4.icmp_echo_ignore_broadcasts"] = 1
    for group in ("10.1.0.255", "224.0.0.1"):
        result = red.ping(group, timeout=SHORT)
        assert not result
        assert (result.received, result.responders) == (0, ())


@pytest.mark.netns_requires("program:ip")
def test_a_route_that_prohibits_is_no_broadcast(lan: list[Host]) -> None:
    red = lan[0]
    red.run(["ip", "route", "add", "prohibit", "192.0.2.0/24"])
    result = red.ping("192.0.2.255")
    assert result.error is not None
    assert result.error.text == "Permission denied"
    assert red.udp("192.0.2.255", 9).state == "unreachable"


def test_a_host_that_the_own_prefix_takes_for_everybody_is_refused_as_by_any_socket(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=("10.5.0.1/29", "10.5.0.7/24"))
    sock = blue.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 7))
    thread = threading.Thread(target=lambda: sock.sendto(*sock.recvfrom(100)))
    thread.start()
    for result in (red.ping(blue.ip4), red.udp(blue.ip4, 7, b"x"), red.tcp(blue.ip4, 80)):
        assert not result
        assert "Permission denied" in repr(result) or "Network is unreachable" in repr(result)
    thread.join()


def test_an_ordinary_address_has_one_responder(lan: list[Host]) -> None:
    red, blue, _ = lan
    assert red.ping(blue.ip4).responders == (blue.ip4,)
    assert red.ping("10.1.0.99", timeout=patient(0.05)).responders == ()


@pytest.fixture
def member(lan: list[Host]) -> Iterator[str]:
    """A group of which ``blue`` is a member, and answers on port 5000."""
    blue = lan[1]
    sock = blue.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 5000))
    sock.setsockopt(
        socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.1.1") + socket.inet_aton(str(blue.ip4))
    )

    def serve() -> None:
        while True:
            data, sender = sock.recvfrom(100)
            if sender is None:
                return
            sock.sendto(data.upper(), sender)

    thread = threading.Thread(target=serve)
    thread.start()
    yield "239.1.1.1"
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is not connected, which it is told; it wakes all the same
        pass
    thread.join()


def test_a_member_answers_a_datagram_to_its_group_or_to_all(lan: list[Host], member: str) -> None:
    red, blue, _ = lan
    for to, source in ((member, None), (member, "eth0"), ("10.1.0.255", None), ("255.255.255.255", "eth0")):
        result = red.udp(to, 5000, b"hello", timeout=patient(20), source=source)
        assert (result.state, result.reply, result.sender) == ("answered", b"HELLO", blue.ip4)
    assert red.udp(member, 5001, b"hello", timeout=SHORT).state == "silent"
