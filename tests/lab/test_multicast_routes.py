from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from slowness import patient

from pytest_netns import Host, KernelError, Lab, Router, TopologyError

GROUPS = {4: "239.1.2.3", 6: "ff15::1234"}
versions = pytest.mark.parametrize("version", [4, 6])


class Tree:
    """``sender`` on one side of a router, ``near`` and ``far`` on two others; both have joined the groups."""

    def __init__(self, lab: Lab) -> None:
        self.router: Router = lab.router("router")
        self.sender, self.near, self.far = lab.host("sender"), lab.host("near"), lab.host("far")
        for host in (self.sender, self.near, self.far):
            lab.connect(self.router, host)
            host.default_route(via=self.router)
        for host in (self.near, self.far):
            for group in GROUPS.values():
                host.join(group)

    def listen(self, host: Host, version: int, port: int = 5000) -> socket.socket:
        sock = host.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind(("", port))
        sock.settimeout(patient(10.0))
        return sock

    def send(self, version: int, text: bytes, to: str = "") -> None:
        """To the group, or to one host's address: behind what went to the group."""
        with self.sender.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            index = self.sender.interfaces["eth0"].index
            if version == 4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + index.to_bytes(4, sys.byteorder))
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
            sock.sendto(text, (to or GROUPS[version], 5000))


@pytest.fixture
def tree(lab: Lab) -> Tree:
    return Tree(lab)


def address(host: Host, version: int) -> str:
    return str(host.ip4 if version == 4 else host.ip6)


@versions
@pytest.mark.parametrize("of_one", [True, False], ids=["of-one-sender", "of-all"])
def test_the_packets_of_a_group_go_on_where_the_route_says_and_nowhere_else(
    tree: Tree, version: int, of_one: bool
) -> None:
    near, far = tree.listen(tree.near, version), tree.listen(tree.far, version)
    source = ip_address(address(tree.sender, version)) if of_one else None
    route = tree.router.multicast_routes.add(GROUPS[version], tree.sender, [tree.near], source=source)
    assert (route.group, route.source, route.iif, route.oifs) == (
        ip_address(GROUPS[version]),
        source,
        "eth0",
        ("eth1",),
    )
    assert list(tree.router.multicast_routes) == [route]
    tree.send(version, b"to the group")
    assert near.recv(100) == b"to the group"
    tree.send(version, b"to far", address(tree.far, version))
    assert far.recv(100) == b"to far"
    both = tree.router.multicast_routes.add(GROUPS[version], tree.sender, [tree.near, "eth2"], source=source)
    assert both.oifs == ("eth1", "eth2")
    tree.send(version, b"to both")
    assert (near.recv(100), far.recv(100)) == (b"to both", b"to both")
    tree.router.multicast_routes.remove(both)
    assert list(tree.router.multicast_routes) == []


@versions
def test_a_route_of_another_sender_does_not_count(tree: Tree, version: int) -> None:
    near = tree.listen(tree.near, version)
    tree.router.multicast_routes.add(GROUPS[version], "eth0", ["eth1"], source=address(tree.far, version))
    tree.send(version, b"to the group")
    tree.send(version, b"to near", address(tree.near, version))
    assert near.recv(100) == b"to near"


@versions
def test_multicast_routes_are_there_again_after_a_crash(tree: Tree, version: int) -> None:
    route = tree.router.multicast_routes.add(GROUPS[version], tree.sender, [tree.near])
    tree.router.crash()
    tree.router.restart()
    assert list(tree.router.multicast_routes) == [route]
    near = tree.listen(tree.near, version)
    tree.send(version, b"again")
    assert near.recv(100) == b"again"


@versions
@pytest.mark.parametrize("of_one", [True, False], ids=["of-one-sender", "of-all"])
def test_a_route_with_another_incoming_interface_replaces_the_first(tree: Tree, version: int, of_one: bool) -> None:
    routes, source = tree.router.multicast_routes, address(tree.sender, version) if of_one else None
    first = routes.add(GROUPS[version], "eth1", ["eth2"], source=source)
    second = routes.add(GROUPS[version], "eth0", ["eth1", "eth2"], source=source)
    assert list(routes) == [second]
    with pytest.raises(KernelError) as refused:
        routes.remove(first)
    assert refused.value.errno == errno.ENOENT
    assert list(routes) == [second]
    tree.router.crash()
    with pytest.raises(TopologyError, match="'router': it has crashed; restart"):
        routes.add(GROUPS[version], "eth0", ["eth1"])
    tree.router.restart()
    assert list(routes) == [second]
    routes.remove(second)
    assert list(routes) == []


@versions
@pytest.mark.netns_requires("program:ip")
def test_a_route_can_be_added_for_an_interface_that_has_the_index_of_a_removed_one(tree: Tree, version: int) -> None:
    routes = tree.router.multicast_routes
    for _ in range(2):
        tree.router.run(["ip", "link", "add", "spare", "index", "77", "type", "bridge"])
        tree.router.run(["ip", "link", "set", "spare", "up"])
        route = routes.add(GROUPS[version], "spare", ["eth1"])
        assert list(routes) == [route]
        tree.router.run(["ip", "link", "delete", "spare"])
    routes.remove(route)
    assert list(routes) == []


def test_a_second_multicast_router_in_a_node_is_refused_in_words(tree: Tree) -> None:
    other = tree.router.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    other.setsockopt(socket.IPPROTO_IP, 200, 1)
    with pytest.raises(KernelError, match=r"mroute init.*does a multicast routing daemon run there") as refused:
        tree.router.multicast_routes.add(GROUPS[4], "eth0", ["eth1"])
    assert refused.value.errno == errno.EADDRINUSE


MISTAKES: list[tuple[str, Callable[[Router], object]]] = [
    (r"10.0.0.1 is not a multicast address", lambda r: r.multicast_routes.add("10.0.0.1", "eth0", ["eth1"])),
    (r"of different families", lambda r: r.multicast_routes.add(GROUPS[4], "eth0", ["eth1"], source="fd00::1")),
    (r"no interface 'eth9'", lambda r: r.multicast_routes.add(GROUPS[4], "eth9", ["eth1"])),
    (r"oifs is \[\]", lambda r: r.multicast_routes.add(GROUPS[4], "eth0", [])),
    (r"'eth0' is the iif, and one of the oifs", lambda r: r.multicast_routes.add(GROUPS[4], "eth0", ["eth1", "eth0"])),
    (r"'239.1.1.1' cannot be removed", lambda r: r.multicast_routes.remove("239.1.1.1")),  # type: ignore[arg-type]
    (r"ff12::1%eth0", lambda r: r.multicast_routes.add("ff12::1%eth0", "eth0", ["eth1"])),
    (r"oifs is 'eth1'", lambda r: r.multicast_routes.add(GROUPS[4], "eth0", "eth1")),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_about_a_multicast_route_is_told(tree: Tree, words: str, mistake: Callable[[Router], object]) -> None:
    with pytest.raises(TopologyError, match=words):
        mistake(tree.router)
    assert list(tree.router.multicast_routes) == []
