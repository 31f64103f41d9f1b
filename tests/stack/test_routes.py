from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import pytest
from conversation import address_of, settled_routes

from pytest_netns import Host, Interface, KernelError, Lab, Router, TopologyError

FAR = {4: "203.0.113.7", 6: "2001:db8::7"}
FAR_NETWORK = {4: "203.0.113.0/24", 6: "2001:db8::/64"}
DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def town(lab: Lab) -> Town:
    return Town(lab)


class Town:
    """``red`` and ``green`` beside a router on one network, ``blue`` behind it on another; nobody has a route yet."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.west, self.east = lab.bridge("west"), lab.bridge("east")
        self.router: Router = lab.router("router", self.west, self.east)
        self.red: Host = lab.host("red", self.west)
        self.green: Host = lab.host("green", self.west)
        self.blue: Host = lab.host("blue", self.east)
        self.lone: Host = lab.host("lone")
        self.old: Host = lab.host("old")  # IPv4 only
        lab.connect(self.router, self.old, "10.99.0.0/24", addresses=("10.99.0.1", "10.99.0.2"))

    def picture(self) -> dict[str, object]:
        """All that a route could have changed."""
        return {node.name: settled_routes(node) for node in self.lab}


def gateways(host: Host) -> dict[str, str]:
    """Routes with a next hop, as text."""
    return {str(route.destination): str(route.gateway) for route in host.routes() if route.gateway is not None}


def connect_error(host: Host, address: str) -> str:
    """What the kernel says to a UDP socket that wants to go there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.socket(family, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="Errno") as refused:
        sock.connect((address, 9))
    return str(refused.value.strerror)


# ------------------------------------------------------------ no route


@versions
def test_without_a_route_the_kernel_says_that_the_network_is_unreachable(town: Town, version: int) -> None:
    target = address_of(town.blue, version)
    answer = town.red.ping(target)
    assert not answer
    assert answer.error is not None
    assert (answer.error.text, answer.error.errno, answer.error.sender) == (
        "Network is unreachable",
        errno.ENETUNREACH,
        None,
    )
    assert "Network is unreachable" in repr(answer)
    assert connect_error(town.red, str(target)) == "Network is unreachable"
    with pytest.raises(OSError, match="Network is unreachable"):
        town.red.call(socket.create_connection, (str(target), 80))


@versions
def test_route_to_raises_what_the_kernel_says(town: Town, version: int) -> None:
    with pytest.raises(KernelError, match="Network is unreachable") as refused:
        town.red.route_to(FAR[version])
    assert refused.value.errno == errno.ENETUNREACH


# ------------------------------------------------------------ default routes


def ways_to_name_a_router(router: Router, version: int) -> dict[str, object]:
    interface: Interface = router.interfaces["eth0"]
    address = address_of(interface, version)
    return {"node": router, "interface": interface, "address": address, "text": str(address)}


@versions
@pytest.mark.parametrize("how", ["node", "interface", "address", "text"])
def test_a_default_route_leads_through_the_next_hop(town: Town, version: int, how: str) -> None:
    town.red.default_route(ways_to_name_a_router(town.router, version)[how])  # type: ignore[arg-type]
    town.blue.default_route(town.router)
    assert gateways(town.red)[DEFAULT[version]] == str(address_of(town.router.interfaces["eth0"], version))
    assert town.red.ping(address_of(town.blue, version))


def test_a_default_route_by_node_is_for_both_families(town: Town) -> None:
    town.red.default_route(town.router)
    assert set(gateways(town.red)) == set(DEFAULT.values())


def test_a_default_route_by_address_is_for_the_family_of_the_address(town: Town) -> None:
    town.red.default_route(town.router.interfaces["eth0"].ip4)
    assert set(gateways(town.red)) == {DEFAULT[4]}


def test_a_second_default_route_replaces_the_first(town: Town) -> None:
    town.red.default_route(town.router)
    town.red.default_route(town.green)
    assert gateways(town.red) == {DEFAULT[4]: str(town.green.ip4), DEFAULT[6]: str(town.green.ip6)}


def test_the_next_hop_is_looked_for_on_every_interface(town: Town) -> None:
    second = town.lab.router("second")
    link = town.lab.connect(town.red, second)
    town.red.default_route(second)
    assert gateways(town.red)[DEFAULT[4]] == str(second.ip4)
    assert {r.interface for r in town.red.routes() if r.gateway} == {link.end(town.red).name}


# ------------------------------------------------------------ further routes


@versions
def test_a_route_to_a_network_of_one_family_is_of_that_family(town: Town, version: int) -> None:
    town.red.add_route(FAR_NETWORK[version], town.router)
    assert gateways(town.red) == {
        FAR_NETWORK[version]: str(address_of(town.router.interfaces["eth0"], version)),
    }


def test_a_route_to_a_bridge_is_one_to_its_subnets(town: Town) -> None:
    town.red.add_route(town.east, town.router)
    town.blue.add_route(town.west, town.router)
    assert set(gateways(town.red)) == set(map(str, town.east.subnets))
    assert town.red.ping(town.blue.ip4)
    assert town.red.ping(town.blue.ip6)


def test_a_route_to_a_node_is_one_to_its_addresses(town: Town) -> None:
    town.red.add_route(town.blue, town.router)
    assert set(gateways(town.red)) == {f"{town.blue.ip4}/32", f"{town.blue.ip6}/128"}


def test_a_route_to_an_interface_is_one_to_its_addresses(town: Town) -> None:
    town.red.add_route(town.blue.interfaces["eth0"], town.router)
    assert set(gateways(town.red)) == {f"{town.blue.ip4}/32", f"{town.blue.ip6}/128"}


def test_a_route_to_default_is_the_default_route(town: Town) -> None:
    town.red.add_route("default", town.router)
    assert set(gateways(town.red)) == set(DEFAULT.values())


@versions
def test_a_route_by_interface_is_on_the_link(town: Town, version: int) -> None:
    town.green.add_address(f"{FAR[version]}/{32 if version == 4 else 128}")
    town.red.add_route(FAR_NETWORK[version], interface="eth0")
    [route] = [r for r in town.red.routes() if str(r.destination) == FAR_NETWORK[version]]
    assert (route.gateway, route.interface) == (None, "eth0")
    assert town.red.ping(FAR[version])


@versions
def test_the_lower_metric_wins_and_the_other_takes_over(town: Town, version: int) -> None:
    network = FAR_NETWORK[version]
    town.red.add_route(network, town.router, metric=20)
    town.red.add_route(network, town.green, metric=10)
    assert town.red.route_to(FAR[version]).gateway == address_of(town.green, version)
    town.red.remove_route(network, metric=10)
    assert town.red.route_to(FAR[version]).gateway == address_of(town.router.interfaces["eth0"], version)


@versions
def test_a_route_is_replaced_by_another_one_and_by_a_refusal(town: Town, version: int) -> None:
    network = FAR_NETWORK[version]
    town.red.add_route(network, town.router)
    town.red.replace_route(network, town.green)
    assert gateways(town.red) == {network: str(address_of(town.green, version))}
    town.red.replace_route(network, kind="unreachable")
    assert [r.kind for r in town.red.routes() if str(r.destination) == network] == ["unreachable"]


@versions
def test_replacing_a_route_that_is_not_there_adds_it(town: Town, version: int) -> None:
    town.red.replace_route(FAR_NETWORK[version], town.green)
    assert list(gateways(town.red)) == [FAR_NETWORK[version]]


@versions
def test_a_removed_route_is_gone(town: Town, version: int) -> None:
    before = settled_routes(town.red)
    town.red.add_route(FAR_NETWORK[version], town.router)
    town.red.remove_route(FAR_NETWORK[version])
    assert settled_routes(town.red) == before
    assert connect_error(town.red, FAR[version]) == "Network is unreachable"


def test_removing_the_default_route_removes_it_for_the_families_that_have_one(town: Town) -> None:
    town.red.default_route(town.router)
    town.red.remove_route("default")
    assert gateways(town.red) == {}
    town.red.default_route(town.router.interfaces["eth0"].ip6)
    town.red.remove_route("default")
    assert gateways(town.red) == {}


@versions
def test_removing_a_route_that_is_not_there_is_an_error_of_the_kernel(town: Town, version: int) -> None:
    with pytest.raises(KernelError, match=r"ip.* route delete") as refused:
        town.red.remove_route(FAR_NETWORK[version])
    assert refused.value.errno == errno.ESRCH


@versions
def test_adding_a_route_twice_is_an_error_of_the_kernel(town: Town, version: int) -> None:
    town.red.add_route(FAR_NETWORK[version], town.router)
    with pytest.raises(KernelError, match=f"route add {FAR_NETWORK[version]}") as refused:
        town.red.add_route(FAR_NETWORK[version], town.green)
    assert refused.value.errno == errno.EEXIST
    assert gateways(town.red) == {FAR_NETWORK[version]: str(address_of(town.router.interfaces["eth0"], version))}


# ------------------------------------------------------------ refusals

REFUSALS = {"blackhole": errno.EINVAL, "unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES}
kinds = pytest.mark.parametrize("kind", REFUSALS)


@versions
@kinds
def test_a_refusing_route_tells_its_own_processes_in_the_words_of_the_kernel(
    town: Town, version: int, kind: str
) -> None:
    town.red.add_route(FAR_NETWORK[version], kind=kind)
    assert connect_error(town.red, FAR[version]) == os.strerror(REFUSALS[kind])
    error = town.red.ping(FAR[version]).error
    assert error is not None
    assert (error.text, error.errno) == (os.strerror(REFUSALS[kind]), REFUSALS[kind])
    assert [r.kind for r in town.red.routes() if str(r.destination) == FAR_NETWORK[version]] == [kind]
    town.red.remove_route(FAR_NETWORK[version], kind=kind)
    assert connect_error(town.red, FAR[version]) == "Network is unreachable"


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        (4, "unreachable", "Destination Host Unreachable"),
        (4, "prohibit", "Packet filtered"),
        (6, "unreachable", "No route"),
        (6, "prohibit", "Administratively prohibited"),
    ],
)
def test_a_refusing_route_of_a_router_tells_the_sender(town: Town, version: int, kind: str, words: str) -> None:
    town.red.default_route(town.router)
    town.router.add_route(FAR_NETWORK[version], kind=kind)
    error = town.red.ping(FAR[version]).error
    assert error is not None
    assert (error.text, error.sender) == (words, address_of(town.router.interfaces["eth0"], version))


@versions
def test_a_blackhole_of_a_router_is_silent(town: Town, version: int) -> None:
    town.red.default_route(town.router)
    town.router.add_route(FAR_NETWORK[version], kind="blackhole")
    answer = town.red.ping(FAR[version], timeout=0.2)
    assert (bool(answer), answer.error) == (False, None)
    town.router.remove_route(FAR_NETWORK[version], kind="blackhole")
    assert town.red.ping(FAR[version]).error is not None  # the router, without a route, says so


def test_a_refusal_of_default_is_for_both_families(town: Town) -> None:
    town.red.add_route("default", kind="prohibit")
    for version in (4, 6):
        assert connect_error(town.red, FAR[version]) == os.strerror(errno.EACCES)


# ------------------------------------------------------------ mistakes

MISTAKES: list[tuple[str, Callable[[Town], object]]] = [
    (r"an interface of its own; .*add_route\(destination, interface='eth0'\)", lambda t: t.red.default_route("eth0")),
    (r"'eth0' cannot be the next hop of 'red'", lambda t: t.red.add_route("224.0.0.0/4", t.red.interfaces["eth0"])),
    (r"'red' cannot use 'blue' as next hop: they are on no common subnet", lambda t: t.red.default_route(t.blue)),
    (r"on no common subnet", lambda t: t.red.default_route(t.blue.ip4)),
    (r"on no common subnet", lambda t: t.red.add_route(FAR_NETWORK[4], t.router.interfaces["eth1"])),
    (r"on no common subnet .*red: eth0 10.*; lone: no address", lambda t: t.red.default_route(t.lone)),
    (r"on no common subnet .*lone: no address", lambda t: t.lone.default_route(t.router)),
    (r"'red' cannot use 'red' as next hop", lambda t: t.red.default_route(t.red)),
    (r"next hop 'nonsense' of 'red' is not an address", lambda t: t.red.default_route("nonsense")),
    (r"next hop fd00::1 is IPv6 and 'old' has no such address", lambda t: t.old.default_route("fd00::1")),
    (r"that is IPv6, and 'router' is a next hop for IPv4 only", lambda t: t.old.add_route(FAR_NETWORK[6], t.router)),
    (r"that is IPv4, and .* is a next hop for IPv6 only", lambda t: t.red.add_route(FAR_NETWORK[4], t.green.ip6)),
    (r"'nonsense' is not a destination such as", lambda t: t.red.add_route("nonsense", t.router)),
    (r"'10.5.0.1/24' is not a destination .*host bits", lambda t: t.red.add_route("10.5.0.1/24", t.router)),
    (r"to 'lone': it has no address", lambda t: t.red.add_route(t.lone, t.router)),
    (r"it needs via=, interface=, or a kind", lambda t: t.red.add_route(FAR_NETWORK[4])),
    (r"kind 'deep' is not one of", lambda t: t.red.add_route(FAR_NETWORK[4], kind="deep")),
    (r"a blackhole route leads nowhere", lambda t: t.red.add_route(FAR_NETWORK[4], t.router, kind="blackhole")),
    (r"a prohibit route .* nor interface", lambda t: t.red.add_route("default", interface="eth0", kind="prohibit")),
    (r"no interface 'eth9'", lambda t: t.red.add_route(FAR_NETWORK[4], interface="eth9")),
    (r"is not its own interface", lambda t: t.red.add_route(FAR_NETWORK[4], interface=t.blue.interfaces["eth0"])),
    (r"is not a destination", lambda t: t.red.remove_route("nonsense")),
    (r"to 'lone': it has no address", lambda t: t.red.replace_route(t.lone, t.router)),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[f"{i}-{words}" for i, (words, _) in enumerate(MISTAKES)])
def test_a_mistake_is_a_topology_error_and_changes_no_route(
    town: Town, words: str, mistake: Callable[[Town], object]
) -> None:
    before = town.picture()
    with pytest.raises(TopologyError, match=words):
        mistake(town)
    assert town.picture() == before
    town.red.default_route(town.router)
    town.blue.default_route(town.router)
    assert town.red.ping(town.blue)


@pytest.mark.parametrize("destination", ["default", "blue"])
def test_what_the_kernel_refuses_for_one_family_is_not_done_for_the_other(town: Town, destination: str) -> None:
    target = town.blue if destination == "blue" else destination
    town.red.add_route(address_of(town.blue, 6) if destination == "blue" else DEFAULT[6], town.green)
    before = town.picture()
    with pytest.raises(KernelError) as refused:
        town.red.add_route(target, town.router)
    assert refused.value.errno == errno.EEXIST
    assert town.picture() == before
