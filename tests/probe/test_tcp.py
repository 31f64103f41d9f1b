from __future__ import annotations

import socket

import pytest

from pytest_netns import Host


def listener(host: Host, port: int, family: int = socket.AF_INET6) -> socket.socket:
    """A listening socket of both families."""
    sock = host.socket(family)
    sock.bind(("", port))
    sock.listen()
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize("version", [4, 6])
def test_a_listening_port_is_open_and_another_is_closed(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    address = right.ip4 if version == 4 else right.ip6
    listener(right, 8080)
    opened, closed = left.tcp(address, 8080), left.tcp(address, 8081)
    assert opened
    assert not closed
    assert (opened.state, closed.state) == ("open", "closed")
    assert opened.sender == closed.sender == address
    assert opened.rtt is not None
    assert repr(opened).endswith("port 8080: open>")
    assert repr(closed).endswith(f"port 8081: closed, RST from {address}>")


def test_the_answer_is_a_scapy_packet(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    listener(right, 8080)
    opened, closed = left.tcp(right, 8080).reply, left.tcp(right, 1).reply
    assert opened is not None
    assert closed is not None
    assert (str(opened["TCP"].flags), str(closed["TCP"].flags)) == ("SA", "RA")


def test_the_server_never_sees_a_connection(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    server = listener(right, 8080)
    for _ in range(20):
        assert left.tcp(right, 8080)
    with pytest.raises(BlockingIOError):
        server.accept()
    # and none is left half open
    assert "SYN-RECV" not in right.run(["cat", "/proc/net/tcp6"]).stdout
    assert [row for row in right.run(["cat", "/proc/net/tcp6"]).stdout.splitlines()[1:] if row.split()[3] == "03"] == []


@pytest.mark.netns_requires("program:ip")
def test_no_answer_is_filtered(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    listener(right, 8080)
    right.run(["ip", "route", "add", "blackhole", f"{left.ip4}/32"])
    result = left.tcp(right.ip4, 8080, timeout=0.1)
    assert not result
    assert (result.state, result.sender, result.rtt, result.reply) == ("filtered", None, None, None)
    assert repr(result).endswith("filtered, no answer>")


def test_no_route_is_unreachable(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    for address in ("198.51.100.1", "2001:db8::1"):
        result = left.tcp(address, 80)
        assert result.state == "unreachable"
        assert "Network is unreachable" in repr(result)


@pytest.mark.netns_requires("program:ip")
def test_a_router_that_prohibits_it_is_named(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.sysctl["net.ipv4.ip_forward"] = 1
    left.run(["ip", "route", "add", "198.51.100.0/24", "via", str(right.ip4)])
    right.run(["ip", "route", "add", "prohibit", "198.51.100.0/24"])
    result = left.tcp("198.51.100.1", 80)
    assert (result.state, result.sender) == ("unreachable", right.ip4)
    assert result.error is not None
    assert "Packet filtered" in repr(result)


def test_its_own_ports_can_be_asked_too(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    listener(left, 8080)
    for destination in ("127.0.0.1", "::1", left):
        assert left.tcp(destination, 8080)
        assert left.tcp(destination, 8081).state == "closed"


@pytest.mark.parametrize("port", [0, 65536, -1, True, "80", 80.0])
def test_what_is_no_port_is_refused(veth_pair: tuple[Host, Host], port: int) -> None:
    left, right = veth_pair
    with pytest.raises(ValueError, match=r"port is .*; it can be 1 to 65535"):
        left.tcp(right, port)
