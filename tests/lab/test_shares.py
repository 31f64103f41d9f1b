from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest
from conversation import settled_routes
from devices import made

from pytest_netns import Host, Lab, TopologyError


@pytest.fixture
def pod(lab: Lab) -> tuple[Host, Host]:
    """``web`` on a bridge, and ``sidecar`` in the same namespace."""
    web = lab.host("web", lab.bridge("br0"))
    return web, lab.host("sidecar", shares=web)


def test_a_sidecar_is_in_the_same_namespace(pod: tuple[Host, Host]) -> None:
    web, sidecar = pod
    assert sidecar is not web
    assert sidecar.inode == web.inode
    assert sidecar.run(["readlink", "/proc/self/ns/net"]).stdout == web.run(["readlink", "/proc/self/ns/net"]).stdout


def test_a_sidecar_has_the_same_interfaces_addresses_and_routes(lab: Lab, pod: tuple[Host, Host]) -> None:
    web, sidecar = pod
    assert list(sidecar.interfaces) == ["lo", "eth0"]
    assert (sidecar.ip4, sidecar.ip6) == (web.ip4, web.ip6)
    assert sidecar.mac == web.mac
    sidecar.add_route("203.0.113.0/24", kind="blackhole")
    assert settled_routes(web) == settled_routes(sidecar)
    assert "203.0.113.0/24" in [str(r.destination) for r in web.routes()]


def test_a_sidecar_has_the_same_ports(pod: tuple[Host, Host]) -> None:
    web, sidecar = pod
    server = web.socket()
    server.bind(("127.0.0.1", 80))
    server.listen()
    with pytest.raises(OSError, match="Address already in use") as refused:
        sidecar.socket().bind(("127.0.0.1", 80))
    assert refused.value.errno == errno.EADDRINUSE
    client = sidecar.socket()
    client.settimeout(5)
    client.connect(("127.0.0.1", 80))
    server.accept()[0].close()


def test_a_stranger_reaches_both_by_one_address(lab: Lab, pod: tuple[Host, Host]) -> None:
    web, sidecar = pod
    stranger = lab.host("stranger", lab["br0"])  # type: ignore[arg-type]
    for host, port in ((web, 80), (sidecar, 81)):
        server = host.socket()
        server.bind(("", port))
        server.listen()
    assert stranger.tcp(web, 80).state == stranger.tcp(web, 81).state == stranger.tcp(sidecar, 80).state == "open"


def test_connecting_either_gives_the_next_interface_to_both(lab: Lab, pod: tuple[Host, Host]) -> None:
    web, sidecar = pod
    first = lab.connect(sidecar, lab.host("red"))
    second = lab.connect(web, lab.host("blue"))
    assert (first.a.name, second.a.name) == ("eth1", "eth2")
    assert list(web.interfaces) == list(sidecar.interfaces) == ["lo", "eth0", "eth1", "eth2"]
    assert web.ping(lab["red"])
    assert sidecar.ping(lab["blue"])


def test_a_sidecar_may_bring_a_network_along(lab: Lab, pod: tuple[Host, Host]) -> None:
    web, _ = pod
    more = lab.bridge("more")
    lab.host("second", more, shares=web)
    assert list(web.interfaces) == ["lo", "eth0", "eth1"]
    assert web.ping(more.host("red"))


def test_a_third_shares_with_the_second(lab: Lab, pod: tuple[Host, Host]) -> None:
    assert lab.host("third", shares=pod[1]).inode == pod[0].inode


def test_a_closed_sidecar_leaves_the_other_working(lab: Lab, pod: tuple[Host, Host]) -> None:
    web, sidecar = pod
    red = lab["br0"].host("red")  # type: ignore[attr-defined]
    sidecar.close()
    assert red.ping(web)


def test_a_sidecar_goes_on_when_the_first_is_closed(lab: Lab, pod: tuple[Host, Host]) -> None:
    web, sidecar = pod
    red = lab["br0"].host("red")  # type: ignore[attr-defined]
    address = web.ip4
    web.close()
    assert red.ping(address)
    assert sidecar.run(["true"]).returncode == 0


def test_a_sidecar_can_be_isolated_where_the_other_is_not(lab: Lab, pod: tuple[Host, Host]) -> None:
    web, _ = pod
    jailed = lab.host("jailed", shares=web, isolate={"uts", "mount"})
    assert jailed.run(["hostname"]).stdout == "jailed\n"
    assert jailed.inode == web.inode
    assert made(jailed.run(["ls", "/sys/class/net"]).stdout.split()) == ["eth0", "lo"]
    assert jailed.call(socket.gethostbyname, "web") == str(web.ip4)


MISTAKES: list[tuple[str, Callable[[Lab], object]]] = [
    (r"'br0': it is a bridge", lambda lab: lab.host("new", shares=lab["br0"])),
    (r"shares the sysctls of 'web'", lambda lab: lab.host("new", shares=lab["web"], sysctls={"a": 1})),
    (r"is no host, router or bridge", lambda lab: lab.host("new", shares="web")),  # type: ignore[arg-type]
    (r"'ghost': it is closed", lambda lab: lab.host("new", shares=lab["ghost"])),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_a_topology_error_and_makes_no_host(
    lab: Lab, pod: tuple[Host, Host], words: str, mistake: Callable[[Lab], object]
) -> None:
    lab.host("ghost").close()
    names = [node.name for node in lab]
    with pytest.raises(TopologyError, match=words):
        mistake(lab)
    assert [node.name for node in lab] == names
    assert lab.host("new", shares=pod[0]).inode == pod[0].inode


def test_a_node_of_another_lab_cannot_be_shared_with(lab: Lab) -> None:
    with Lab("other") as other, pytest.raises(TopologyError, match="it is a node of another lab"):
        lab.host("new", shares=other.host("there"))
    assert "new" not in lab
