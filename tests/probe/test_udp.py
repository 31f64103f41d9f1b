from __future__ import annotations

import errno
import socket
import threading

import pytest
from conversation import address_of
from udp_server import server

from pytest_netns import Host, Lab, TopologyError, UdpResult, eventually
from pytest_netns.probe.icmp import PARAMETER_PROBLEM

versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def far(lab: Lab) -> tuple[Host, Host, Host]:
    """``red``, a router, ``blue``: routed."""
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    return red, router, blue


@versions
def test_an_answer_is_given_back(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    address = address_of(right, version)
    with server(right, 7, bytes.upper):
        result = left.udp(address, 7, b"hello", timeout=20)
    assert result
    assert (result.state, result.reply, result.sender, result.error) == ("answered", b"HELLO", address, None)
    assert (result.source, result.address, result.port) == ("left", address, 7)
    assert result.rtt is not None
    assert result.rtt > 0
    assert repr(result) == f"<UdpResult left -> {address} udp port 7: answered by 5 bytes from {address}>"


def test_an_empty_datagram_can_be_asked_and_answered(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with server(right, 7, lambda data: data):
        result = left.udp(right, 7, timeout=20)
    assert result
    assert result.reply == b""


@versions
def test_the_largest_payload_comes_back(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    payload = bytes(range(256)) * 200
    with server(right, 7, lambda data: data):
        assert left.udp(address_of(right, version), 7, payload, timeout=20).reply == payload


@versions
def test_a_port_without_a_server_is_closed_and_who_says_so_is_named(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    address = address_of(right, version)
    result = left.udp(address, 7, b"hello")
    assert not result
    assert (result.state, result.sender, result.reply) == ("closed", address, b"")
    assert result.error is not None
    assert result.error.text == {4: "Destination Port Unreachable", 6: "Port unreachable"}[version]
    assert repr(result).endswith(f"udp port 7: closed, {result.error.text}, from {address}>")


@versions
@pytest.mark.netns_requires("nft")
def test_what_a_router_refuses_is_unreachable_and_not_closed(far: tuple[Host, Host, Host], version: int) -> None:
    red, router, blue = far
    kind = {4: "icmp type host-prohibited", 6: "icmpv6 type admin-prohibited"}[version]
    router.nft(
        f"table inet wall {{ chain c {{ type filter hook forward priority 0; udp dport 7 reject with {kind}; }}; }}"
    )
    result = red.udp(address_of(blue, version), 7, timeout=20)
    assert (result.state, result.sender) == ("unreachable", address_of(router.interfaces["eth0"], version))
    assert result.error is not None
    assert result.error.code == {4: 10, 6: 1}[version]


@versions
def test_without_a_route_it_is_unreachable_by_the_own_kernel(veth_pair: tuple[Host, Host], version: int) -> None:
    result = veth_pair[0].udp({4: "198.51.100.1", 6: "2001:db8::1"}[version], 7)
    assert (result.state, result.sender) == ("unreachable", None)
    assert result.error is not None
    assert result.error.errno == errno.ENETUNREACH


@versions
def test_a_server_that_says_nothing_is_silent(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair

    def asked() -> list[UdpResult]:
        return [left.udp(address_of(right, version), 7, timeout=0.05)]

    with server(right, 7, lambda _: None):
        # what its server, a thread, has not read yet is not silence
        (result,) = eventually(lambda: [each for each in asked() if each.state == "silent"], within=20)
    assert not result
    assert (result.state, result.sender, result.rtt, result.error) == ("silent", None, None, None)
    assert repr(result).endswith("udp port 7: silent>")


@versions
def test_the_time_to_live_decides_how_far_it_goes(far: tuple[Host, Host, Host], version: int) -> None:
    red, router, blue = far
    address = address_of(blue, version)
    with server(blue, 7, bytes.upper):
        short, enough = (red.udp(address, 7, b"x", ttl=ttl, timeout=20) for ttl in (1, 2))
    assert (short.state, short.sender) == ("unreachable", address_of(router.interfaces["eth0"], version))
    assert short.error is not None
    assert short.error.text.startswith("Time ")
    assert enough


def test_errors_about_others_are_not_taken_for_ones_own(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    stop = threading.Event()

    def disturb() -> None:
        with left.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not stop.is_set():
                sock.sendto(b"x", (str(right.ip4), 7))  # closed as well, from another port

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with server(right, 8, bytes.upper):
            results = [left.udp(right.ip4, 8, b"x", timeout=20) for _ in range(50)]
    finally:
        stop.set()
        thread.join()
    assert [result.state for result in results] == ["answered"] * 50


def test_every_error_of_a_router_counts(far: tuple[Host, Host, Host]) -> None:
    from scapy.layers.inet import ICMP, IP, UDP

    red, router, blue = far
    with server(blue, 7, lambda _: None), router.capture("eth0", UDP) as capture:
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(red.udp(blue.ip4, 7, timeout=20)))
        thread.start()
        question = capture.expect(UDP(dport=7), timeout=20)
        error = IP(src="192.0.2.1", dst=red.ip4) / ICMP(type=PARAMETER_PROBLEM, code=0) / bytes(question[IP])[:28]
        router.send(error)
        thread.join()
    assert repr(answers[0]).endswith("udp port 7: unreachable, Parameter problem, from 192.0.2.1>")


@pytest.mark.parametrize("port", [0, 65536, -1, True, "7", 7.0])
def test_what_is_no_port_is_refused(veth_pair: tuple[Host, Host], port: int) -> None:
    with pytest.raises(ValueError, match=r"port is .*; it can be 1 to 65535"):
        veth_pair[0].udp(veth_pair[1], port)


@pytest.mark.parametrize("wrong", [{"ttl": 0}, {"ttl": 256}, {"timeout": -1}])
def test_a_number_out_of_range_is_named(veth_pair: tuple[Host, Host], wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; it can be"):
        veth_pair[0].udp(veth_pair[1], 7, **wrong)


def test_a_name_instead_of_a_node_is_a_topology_error(veth_pair: tuple[Host, Host]) -> None:
    with pytest.raises(TopologyError, match="'right' is not an address"):
        veth_pair[0].udp("right", 7)
