from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from slowness import patient

from pytest_netns import Host, KernelError, Lab, TopologyError

GROUPS = {4: "239.1.2.3", 6: "ff15::1234"}
versions = pytest.mark.parametrize("version", [4, 6])
Pair = tuple[Host, Host]


def listener(host: Host, version: int, port: int) -> socket.socket:
    sock = host.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("", port))
    sock.settimeout(patient(10.0))
    return sock


def send(host: Host, version: int, port: int, text: bytes) -> None:
    with host.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        index = host.interfaces["eth0"].index
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + index.to_bytes(4, sys.byteorder))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.sendto(text, (GROUPS[version], port))


@versions
def test_a_member_gets_the_packets_of_its_group_until_it_leaves(veth_pair: Pair, version: int) -> None:
    left, right = veth_pair
    group = ip_address(GROUPS[version])
    sock = listener(right, version, 5000)
    with right.join(GROUPS[version]) as membership:
        assert (membership.group, membership.interface) == (group, right.interfaces["eth0"])
        assert group in right.groups()["eth0"]
        send(left, version, 5000, b"hello")
        assert sock.recv(100) == b"hello"
    assert group not in right.groups()["eth0"]
    assert repr(membership).endswith("left>")
    membership.leave()


@versions
def test_a_member_answers_pings_of_its_group(veth_pair: Pair, version: int) -> None:
    left, right = veth_pair
    right.sysctl["net.ipv4.icmp_echo_ignore_broadcasts"] = 0
    assert not left.ping(GROUPS[version], source="eth0", timeout=0.1)
    with right.join(GROUPS[version]):
        answer = left.ping(GROUPS[version], source="eth0")
        assert [str(each) for each in answer.responders if each.version == version]


@versions
def test_of_a_source_only_its_packets_come(lab: Lab, version: int) -> None:
    lan = lab.bridge("lan")
    red, blue, green = lan.host("red"), lan.host("blue"), lan.host("green")
    sock = listener(green, version, 5000)
    source = red.ip4 if version == 4 else red.ip6
    with green.join(GROUPS[version], source=source) as membership:
        assert membership.source == source
        send(blue, version, 5000, b"of blue")
        send(red, version, 5000, b"of red")
        assert sock.recv(100) == b"of red"


def test_on_which_interface_is_said_by_its_name_the_interface_or_who_is_behind_it(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue)
    link = lab.connect(red, green)
    for which in ("eth1", red.interfaces["eth1"], green):
        with red.join(GROUPS[4], which) as membership:
            assert membership.interface == link.end(red)
            assert [name for name, found in red.groups().items() if ip_address(GROUPS[4]) in found] == ["eth1"]


def test_memberships_end_with_a_crash_as_sockets_do(veth_pair: Pair) -> None:
    _, right = veth_pair
    right.join(GROUPS[4])
    right.crash()
    right.restart()
    assert ip_address(GROUPS[4]) not in right.groups()["eth0"]


def test_what_the_kernel_refuses_to_join_is_told(veth_pair: Pair) -> None:
    left, _ = veth_pair
    gone = left.interfaces["eth0"]
    left.links[0].remove()
    with pytest.raises(KernelError, match=r"join 239.1.2.3 on eth0.*there is no such interface"):
        left.join(GROUPS[4], gone)


MISTAKES: list[tuple[str, Callable[[Host], object]]] = [
    (r"10.0.0.1 is not a multicast address", lambda red: red.join("10.0.0.1")),
    (r"of different families", lambda red: red.join("239.1.2.3", source="fd00::1")),
    (r"no interface 'eth9'", lambda red: red.join("239.1.2.3", "eth9")),
    (r"say on which interface; it has: eth0, eth1", lambda red: red.join("239.1.2.3")),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_about_a_group_is_told_and_joins_nothing(
    lab: Lab, words: str, mistake: Callable[[Host], object]
) -> None:
    red = lab.host("red")
    for name in ("one", "two"):
        lab.connect(red, lab.host(name))
    before = red.groups()
    with pytest.raises(TopologyError, match=words):
        mistake(red)
    assert red.groups() == before
