from __future__ import annotations

import contextvars
import json
import os
import socket
import threading

import pytest
from devices import made

from pytest_netns import Lab, Namespace, NetnsError, TopologyError
from pytest_netns.kernel import syscalls
from pytest_netns.kernel.syscalls import open_namespace
from pytest_netns.stack import current

pytestmark = pytest.mark.usefixtures("netns_factory")


def inode_here() -> int:
    """Inode of the network namespace of the calling thread."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_fresh_namespace_has_nothing_but_loopback_and_that_is_up(netns: Namespace) -> None:
    assert list(netns.interfaces) == ["lo"]
    assert netns.interfaces["lo"].is_up
    assert netns.addresses() == []
    assert netns.routes() == []
    assert netns.neighbours() == []


def test_loopback_carries_both_families_at_once(netns: Namespace) -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = netns.socket(family)
        server.bind((address, 0))
        server.listen()
        client = netns.socket(family)
        client.settimeout(5)
        client.connect(server.getsockname()[:2])


def test_two_namespaces_are_two_and_neither_is_the_home_one() -> None:
    with_names = [Namespace("a"), Namespace("b")]
    try:
        assert len({inode_here(), *(ns.inode for ns in with_names)}) == 3
    finally:
        for ns in with_names:
            ns.close()


def test_the_name_is_chosen_if_none_is_given() -> None:
    first, second = Namespace(), Namespace()
    first.close()
    second.close()
    assert first.name != second.name


def test_with_moves_the_thread_in_and_back(netns: Namespace) -> None:
    home = inode_here()
    with netns as entered:
        assert entered is netns
        assert inode_here() == netns.inode
    assert inode_here() == home


def test_with_blocks_nest(netns: Namespace, netns_factory: object) -> None:
    home = inode_here()
    with Namespace("inner-by-hand") as inner:
        with netns:
            with inner:
                assert inode_here() == inner.inode
            assert inode_here() == netns.inode
            with netns:
                assert inode_here() == netns.inode
            assert inode_here() == netns.inode
        assert inode_here() == inner.inode
    assert inode_here() == home
    inner.close()


def test_an_exception_leaves_the_namespace_too(netns: Namespace) -> None:
    home = inode_here()
    with pytest.raises(ZeroDivisionError), netns:
        raise ZeroDivisionError
    assert inode_here() == home


def test_leaving_in_another_order_than_entering_is_refused(netns: Namespace) -> None:
    home = inode_here()
    other = Namespace("other")
    netns.__enter__()
    other.__enter__()
    with pytest.raises(NetnsError, match="innermost one of this thread is 'other'"):
        netns.__exit__(None, None, None)
    other.__exit__(None, None, None)
    netns.__exit__(None, None, None)
    other.close()
    assert inode_here() == home


def test_leaving_what_was_never_entered_is_refused(netns: Namespace) -> None:
    with pytest.raises(NetnsError, match="innermost one of this thread is 'none'"):
        netns.__exit__(None, None, None)


def test_entering_leaks_no_descriptor(netns: Namespace) -> None:
    before = open_descriptors()
    with netns, netns:
        pass
    assert open_descriptors() <= before


def test_entering_a_closed_namespace_is_refused_and_moves_nobody() -> None:
    home = inode_here()
    ns = Namespace("gone")
    ns.close()
    before = open_descriptors()
    with pytest.raises(NetnsError, match="'gone' is closed"), ns:
        pytest.fail("entered a closed namespace")
    assert inode_here() == home
    assert open_descriptors() <= before


@pytest.mark.parametrize("way", ["socket", "with"])
def test_a_number_that_was_given_again_is_not_entered(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Another thread closes it just then, and its number is that of where this thread comes from."""
    others: list[int] = []
    netns = Namespace()

    def open_as_another_thread_closes() -> int:
        fd = netns.fd
        netns.close()
        while (number := open_namespace()) != fd:
            others.append(number)
        return number

    monkeypatch.setattr(syscalls, "open_namespace", open_as_another_thread_closes)
    monkeypatch.setattr(current, "open_namespace", open_as_another_thread_closes)
    with pytest.raises(NetnsError, match="is closed"):
        netns.socket() if way == "socket" else netns.__enter__()
    for number in others:
        os.close(number)


def test_call_runs_inside_and_returns_the_value(netns: Namespace) -> None:
    def total(a: int, *, b: int) -> tuple[int, int]:
        return a + b, inode_here()

    assert netns.call(total, 1, b=2) == (3, netns.inode)
    assert inode_here() != netns.inode


def test_call_raises_what_the_function_raised(netns: Namespace) -> None:
    def fail() -> None:
        raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        netns.call(fail)


def test_call_sees_the_context_variables_of_its_caller(netns: Namespace) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("caller's")
    assert netns.call(variable.get) == "caller's"


def test_threads_started_by_call_are_inside_too(netns: Namespace) -> None:
    def from_a_thread() -> int:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(inode_here()))
        thread.start()
        thread.join()
        return seen[0]

    assert netns.call(from_a_thread) == netns.inode


def test_the_path_lets_other_processes_in(netns: Namespace) -> None:
    assert os.stat(netns.path).st_ino == netns.inode
    assert netns.run(["readlink", "/proc/self/ns/net"]).stdout.strip() == f"net:[{netns.inode}]"


def test_a_socket_lives_inside_for_ever_and_in_every_thread(netns: Namespace) -> None:
    server = netns.socket()
    server.bind(("127.0.0.1", 8080))
    server.listen()
    client = netns.socket()
    client.settimeout(5)
    thread = threading.Thread(target=lambda: client.connect(("127.0.0.1", 8080)))
    thread.start()
    accepted, _ = server.accept()
    thread.join()
    accepted.close()
    outside = socket.socket()
    outside.settimeout(5)
    with outside, pytest.raises(OSError, match=r"refused|unreachable"):
        outside.connect(("127.0.0.1", 8080))


def test_every_namespace_has_every_port() -> None:
    spaces = [Namespace(f"port-{i}") for i in range(3)]
    for ns in spaces:
        server = ns.socket()
        server.bind(("0.0.0.0", 80))
        server.listen()
    for ns in spaces:
        ns.close()


def test_sockets_are_closed_with_their_namespace() -> None:
    ns = Namespace("short")
    sock = ns.socket()
    ns.close()
    assert sock.fileno() == -1


@pytest.mark.netns_requires("program:ip")
def test_iproute_talks_to_this_namespace_from_every_thread(netns: Namespace) -> None:
    def names() -> list[str]:
        return [link.get("ifname") for link in netns.iproute.link("dump")]

    netns.run(["ip", "link", "add", "here", "type", "bridge"])
    assert "here" in names()
    seen: list[list[str]] = []
    threads = [threading.Thread(target=lambda: seen.append(names())) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    assert all("here" in each for each in seen)
    assert len(seen) == 2


def test_iproute_can_change_things(netns: Namespace) -> None:
    netns.iproute.link("add", ifname="made", kind="bridge")
    assert "made" in netns.interfaces


@pytest.mark.netns_requires("program:ip")
def test_the_views_say_what_ip_says(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    assert red.ping(blue)
    red.run(["ip", "route", "add", "198.51.100.0/24", "via", str(blue.ip4), "metric", "7"])
    red.run(["ip", "-6", "route", "add", "2001:db8::/32", "via", str(blue.ip6)])
    red.run(["ip", "route", "add", "blackhole", "203.0.113.0/24"])

    links = json.loads(red.run(["ip", "-j", "address"]).stdout)
    assert list(red.interfaces) == made(link["ifname"] for link in links)
    told = {(a["local"], a["prefixlen"]) for link in links if link["ifname"] != "lo" for a in link["addr_info"]}
    assert {(str(a.ip), a.network.prefixlen) for a in red.addresses()} == told

    routes = {str(route) for route in red.routes()}
    assert f"198.51.100.0/24 via {blue.ip4} dev eth0 metric 7" in routes
    assert any(text.startswith(f"2001:db8::/32 via {blue.ip6} dev eth0") for text in routes)
    assert "blackhole 203.0.113.0/24" in routes
    assert any(route.table == 255 for route in red.routes(table=None))

    (told_neighbour,) = json.loads(red.run(["ip", "-j", "-4", "neighbour"]).stdout)
    (neighbour,) = [n for n in red.neighbours() if n.address.version == 4]
    assert (str(neighbour.address), neighbour.mac, neighbour.interface) == (
        told_neighbour["dst"],
        told_neighbour["lladdr"],
        told_neighbour["dev"],
    )


def test_an_address_of_its_own_on_loopback_counts(netns: Namespace) -> None:
    netns.interfaces["lo"].add_address("192.0.2.1/32")
    netns.interfaces["lo"].add_address("2001:db8::1/128")
    assert [str(address) for address in netns.addresses()] == ["192.0.2.1/32", "2001:db8::1/128"]


@pytest.mark.netns_requires("program:ip")
def test_a_multipath_route_is_shown_hop_by_hop(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.1.0.0/24")
    red.run(
        ["ip", "route", "add", "198.51.100.0/24", "nexthop", "via", "10.1.0.2", "nexthop", "via", "10.1.0.3"],
    )
    assert [str(r.gateway) for r in red.routes() if str(r.destination) == "198.51.100.0/24"] == ["10.1.0.2", "10.1.0.3"]


def test_an_unknown_interface_names_those_there_are(netns: Namespace) -> None:
    with pytest.raises(KeyError, match="no interface 'eth7'; it has: lo"):
        netns.interfaces["eth7"]
    with pytest.raises(TopologyError, match="no interface 'eth7'; it has: lo"):
        netns.interface("eth7")


def test_closing_twice_is_allowed_and_its_repr_says_closed() -> None:
    ns = Namespace("twice")
    assert str(ns.inode) in repr(ns)
    ns.close()
    ns.close()
    assert ns.closed
    assert "closed" in repr(ns)


def test_nothing_works_in_a_closed_namespace_and_all_of_it_says_so() -> None:
    ns = Namespace("shut")
    ns.close()
    for use in (
        lambda: ns.run(["true"]),
        lambda: ns.spawn(["true"]),
        lambda: ns.call(os.getpid),
        ns.socket,
        lambda: ns.iproute,
        lambda: ns.interfaces,
        ns.routes,
        lambda: ns.sysctl["net.ipv4.ip_forward"],
        lambda: ns.path,
    ):
        with pytest.raises(NetnsError, match=r"'shut'.* closed"):
            use()


def test_forgetting_to_close_gives_a_warning_and_still_frees_it() -> None:
    before = open_descriptors()
    ns = Namespace("forgotten")
    fd = str(ns.fd)
    assert fd not in before
    with pytest.warns(ResourceWarning) as caught:
        del ns
    assert [str(each.message).startswith("unclosed <Namespace 'forgotten'") for each in caught] == [True]
    assert fd not in open_descriptors()


def test_closing_gives_back_every_descriptor() -> None:
    with Namespace("first") as first:  # pyroute2 0.9.1 opens some of its own when it is first used, and keeps them
        assert first.iproute.link("dump")
    first.close()
    before = open_descriptors()
    ns = Namespace("tidy")
    ns.socket()
    assert ns.iproute.link("dump")
    ns.run(["true"])
    ns.spawn(["sleep", "1000"])
    ns.close()
    assert open_descriptors() <= before


def test_a_refused_birth_leaks_nothing_and_moves_nobody() -> None:
    home, before = inode_here(), open_descriptors()
    with pytest.raises(NetnsError, match=r"sysctl -w net.ipv4.ip_forward=nonsense.* 'odd'"):
        Namespace("odd", sysctls={"net.ipv4.ip_forward": "nonsense"})
    assert inode_here() == home
    assert open_descriptors() <= before


@pytest.mark.netns_requires("program:nft")
def test_netfilter_rules_are_its_own(netns: Namespace) -> None:
    other = Namespace("without-rules")
    try:
        netns.run(["nft", "add", "table", "inet", "mine"])
        assert "mine" in netns.run(["nft", "list", "ruleset"]).stdout
        assert other.run(["nft", "list", "ruleset"]).stdout == ""
    finally:
        other.close()
