from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import ip_network

import pytest
from conversation import address_of

from pytest_netns import Host, KernelError, Lab, Router, TopologyError, why

versions = pytest.mark.parametrize("version", [4, 6])
FAR = {4: "192.0.2.9", 6: "2001:db8::9"}
NET = {4: "192.0.2.0/24", 6: "2001:db8::/64"}


class Fork:
    """``red`` with two routers that both have the far addresses: ``left`` by the main table, ``right`` by table 100."""

    def __init__(self, lab: Lab) -> None:
        self.red: Host = lab.host("red")
        self.left: Router = lab.router("left")
        self.right: Router = lab.router("right")
        for router in (self.left, self.right):
            lab.connect(self.red, router)
            for version in (4, 6):
                router.add_address(f"{FAR[version]}/{32 if version == 4 else 128}", interface="lo")
        self.red.default_route(via=self.left)
        self.red.add_route("default", via=self.right, table=100)
        self.start = list(self.red.rules)

    def way(self, version: int, *, mark: int = 0, port: int = 80) -> str:
        """Behind whom a UDP socket's datagram comes out."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with self.red.socket(family, socket.SOCK_DGRAM) as sock:
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sock.connect((FAR[version], port))
            name = sock.getsockname()[0]
        by_left = address_of(self.red.interfaces["eth0"], version)
        return "left" if name == str(by_left) else "right"


@pytest.fixture
def fork(lab: Lab) -> Fork:
    return Fork(lab)


def test_a_new_host_has_the_rules_that_the_kernel_gives_it(fork: Fork) -> None:
    shown = [(rule.version, rule.priority, rule.table) for rule in fork.start]
    assert shown == [(4, 0, 255), (4, 32766, 254), (4, 32767, 253), (6, 0, 255), (6, 32766, 254)]
    assert "IPv4 32766: from all lookup 254" in repr(fork.red.rules)


def test_a_rule_without_addresses_is_one_for_both_families(fork: Fork) -> None:
    added = fork.red.rules.add(fwmark=7, table=100)
    assert [(rule.version, rule.priority, rule.mark) for rule in added] == [
        (4, 32765, (7, 0xFFFFFFFF)),
        (6, 32765, (7, 0xFFFFFFFF)),
    ]
    for version in (4, 6):
        assert (fork.way(version), fork.way(version, mark=7)) == ("left", "right")
    fork.red.rules.remove(added)
    assert list(fork.red.rules) == fork.start
    assert fork.way(4, mark=7) == "left"


@versions
def test_a_rule_by_destination_is_of_its_family(fork: Fork, version: int) -> None:
    [rule] = fork.red.rules.add(destination=NET[version], table=100, priority=50)
    assert (rule.version, rule.priority, str(rule.destination)) == (version, 50, NET[version])
    assert fork.way(version) == "right"
    assert fork.way(10 - version) == "left"


@versions
def test_a_rule_by_source_looks_at_where_packets_come_from(fork: Fork, version: int) -> None:
    source = address_of(fork.red.interfaces["eth1"], version)
    [rule] = fork.red.rules.add(source, table=100)
    assert rule.source == ip_network(source)
    with fork.right.counting() as change:
        assert fork.red.ping(FAR[version], source=source)
    assert change["IcmpInEchos" if version == 4 else "Icmp6InEchos"] == 1


@versions
def test_ports_and_protocols_choose(fork: Fork, version: int) -> None:
    fork.red.rules.add(protocol="udp", dport=(400, 500), table=100)
    assert (fork.way(version, port=443), fork.way(version, port=80)) == ("right", "left")
    rule = next(rule for rule in fork.red.rules if rule.dport)
    assert (rule.protocol, rule.dport) == (17, (400, 500))
    assert "ipproto udp dport 400-500" in str(rule)


@versions
def test_the_user_chooses(fork: Fork, version: int) -> None:
    fork.red.rules.add(uid=os.geteuid(), table=100)
    assert fork.way(version) == "right"
    fork.red.rules.remove(32765)
    fork.red.rules.add(uid=os.geteuid(), inverted=True, table=100)
    assert fork.way(version) == "left"


def test_every_selector_is_read_back(fork: Fork) -> None:
    [rule] = fork.red.rules.add(
        "10.66.0.0/16",
        "10.77.0.0/16",
        iif="eth0",
        oif=fork.red.interfaces["eth1"],
        fwmark=(0x10, 0xF0),
        protocol=6,
        sport=1000,
        dport=(1, 2),
        uid=os.geteuid(),
        table=100_000,
        priority=9,
        inverted=True,
        suppress_prefixlength=0,
    )
    assert str(rule) == (
        "9: not from 10.66.0.0/16 to 10.77.0.0/16 fwmark 0x10/0xf0 iif eth0 oif eth1 ipproto tcp sport 1000 dport 1-2 "
        f"uidrange {os.geteuid()}-{os.geteuid()} lookup 100000 suppress_prefixlength 0"
    )
    fork.red.rules.remove(rule)
    assert list(fork.red.rules) == fork.start


def test_a_bridge_stands_for_its_subnets_and_a_node_for_its_addresses(fork: Fork, lab: Lab) -> None:
    lan = lab.bridge("lan")
    assert [rule.source for rule in fork.red.rules.add(lan, table=100)] == lan.subnets
    blue = lan.host("blue")
    found = fork.red.rules.add(destination=blue, table=100)
    assert [rule.destination for rule in found] == [ip_network(blue.ip4), ip_network(blue.ip6)]


@versions
def test_only_the_rule_that_is_meant_is_removed(fork: Fork, version: int) -> None:
    rules = fork.red.rules
    [marked] = rules.add(NET[version], fwmark=1, table=100, priority=5)
    [plain] = rules.add(NET[version], table=100, priority=5)
    [wider] = rules.add(NET[version], fwmark=(0, 1), table=100, priority=5)
    [other] = rules.add(NET[version], iif="eth0", table=100, priority=5)
    rules.remove(plain)
    assert [rule for rule in rules if rule.priority == 5] == [marked, wider, other]
    with pytest.raises(KernelError) as refused:
        rules.remove(plain)
    assert refused.value.errno == errno.ENOENT
    rules.remove([other, wider])
    assert [rule for rule in rules if rule.priority == 5] == [marked]


def test_a_rule_that_is_taken_back_as_its_other_half_is_refused_leaves_a_like_one(fork: Fork) -> None:
    [first] = fork.red.rules.add(destination=NET[4], fwmark=1, table=100, priority=5)
    fork.red.rules.add(destination=NET[6], table=100, priority=5)
    before = list(fork.red.rules)
    fork.red.rules.add(fwmark=3, table=100, priority=6)
    fork.red.rules.remove([rule for rule in fork.red.rules if rule.priority == 6 and rule.version == 4])
    [like] = fork.red.rules.add("0.0.0.0/0", fwmark=3, protocol="tcp", table=100, priority=6)
    with pytest.raises(KernelError, match="ip -6 rule add"):
        fork.red.rules.add(fwmark=3, table=100, priority=6)
    assert first in fork.red.rules
    assert like in fork.red.rules
    fork.red.rules.remove(6)
    assert list(fork.red.rules) == before


def test_a_rule_for_packets_without_a_mark_is_read_back_and_is_not_one_for_all(fork: Fork) -> None:
    added = fork.red.rules.add(fwmark=0, table=100)
    assert [rule.mark for rule in added] == [(0, 0xFFFFFFFF)] * 2
    assert (fork.way(4), fork.way(4, mark=1)) == ("right", "left")
    fork.red.rules.remove(added)
    assert list(fork.red.rules) == fork.start


@pytest.mark.netns_requires("program:ip")
def test_a_rule_that_goes_to_another_can_be_removed(fork: Fork) -> None:
    fork.red.run(["ip", "rule", "add", "priority", "5", "goto", "32766"])
    fork.red.rules.remove(5)
    assert list(fork.red.rules) == fork.start


def test_a_rule_of_the_kernels_own_priorities_is_there_again_after_a_crash(fork: Fork) -> None:
    for priority in (0, 32766, 32767):
        fork.red.rules.add(fwmark=9, table=100, priority=priority)
    before = list(fork.red.rules)
    fork.red.crash()
    fork.red.restart()
    assert list(fork.red.rules) == before


def test_before_the_rule_of_priority_one_there_is_no_place_to_choose(fork: Fork) -> None:
    fork.red.rules.add(fwmark=1, table=100, priority=1)
    before = list(fork.red.rules)
    with pytest.raises(TopologyError, match="none is free before it; give priority="):
        fork.red.rules.add(fwmark=2, table=100)
    assert list(fork.red.rules) == before


REFUSALS = {"blackhole": errno.EINVAL, "unreachable": errno.ENETUNREACH, "prohibit": errno.EACCES}


@versions
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusing_rule_refuses_and_explains_the_failure(fork: Fork, version: int, kind: str) -> None:
    fork.red.rules.add(destination=NET[version], kind=kind)
    result = fork.red.ping(FAR[version])
    assert result.error is not None
    assert result.error.errno == REFUSALS[kind]
    cause = why(result)
    assert cause.node == "red"
    assert kind in str(cause)
    assert NET[version] in str(cause)


@versions
def test_rules_and_their_tables_are_there_again_after_a_crash(fork: Fork, version: int) -> None:
    fork.red.rules.add(destination=NET[version], table=100)
    rules, routes = list(fork.red.rules), fork.red.routes(table=100)
    assert len(routes) == 2
    fork.red.crash()
    fork.red.restart()
    assert list(fork.red.rules) == rules
    assert fork.red.routes(table=100) == routes
    assert fork.way(version) == "right"


def test_what_the_kernel_refuses_is_told_in_the_words_of_ip_rule_and_changes_nothing(fork: Fork) -> None:
    fork.red.rules.add(destination=NET[6], fwmark=1, table=100, priority=5)
    before = list(fork.red.rules)
    with pytest.raises(KernelError, match=r"ip -6 rule add from all to .* fwmark 0x1 lookup 100 priority 5") as refused:
        fork.red.rules.add(destination=NET[6], fwmark=1, table=100, priority=5)
    assert refused.value.errno == errno.EEXIST
    gone = fork.red.rules.add(fwmark=1, table=100, priority=6)
    fork.red.rules.remove(gone)
    with pytest.raises(KernelError, match="ip rule delete from all fwmark 0x1 lookup 100 priority 6") as refused:
        fork.red.rules.remove(gone)
    assert refused.value.errno == errno.ENOENT
    [_, second] = fork.red.rules.add(fwmark=1, table=100, priority=6)
    fork.red.rules.remove([rule for rule in fork.red.rules if rule.version == 4 and rule.priority == 6])
    with pytest.raises(KernelError, match="ip -6 rule add"):
        fork.red.rules.add(fwmark=1, table=100, priority=6)
    fork.red.rules.remove(second)
    assert list(fork.red.rules) == before


MISTAKES: list[tuple[str, Callable[[Host], object]]] = [
    (r"kind 'deep' is not one of lookup", lambda red: red.rules.add(kind="deep")),
    (r"table is 0", lambda red: red.rules.add(table=0)),
    (r"priority is -1", lambda red: red.rules.add(priority=-1)),
    (r"suppress_prefixlength is 129", lambda red: red.rules.add(suppress_prefixlength=129)),
    (r"protocol is 'http'", lambda red: red.rules.add(protocol="http")),
    (r"sport is 65536", lambda red: red.rules.add(sport=65536)),
    (r"dport is \(2, 1\); the first is higher", lambda red: red.rules.add(dport=(2, 1))),
    (r"iif: '' cannot be an interface's name", lambda red: red.rules.add(iif="")),
    (r"oif: '.x00' cannot be an interface's name", lambda red: red.rules.add(oif="\0")),
    (r"table is None; it can be a whole number", lambda red: red.rules.add(table=None)),  # type: ignore[arg-type]
    (r"dport is \[80, 90\]; .* or a tuple of two", lambda red: red.rules.add(dport=[80, 90])),  # type: ignore[arg-type]
    (r"ip rule of 'red': '10.0.0.1/8' is not a source .* host bits", lambda red: red.rules.add("10.0.0.1/8")),
    (r"ip rule of 'red': 'far' is not a destination", lambda red: red.rules.add(destination="far")),
    (r"'10.0.0.0/8' cannot be removed; expected a rule", lambda red: red.rules.remove("10.0.0.0/8")),  # type: ignore[arg-type]
    (r"'' cannot be removed", lambda red: red.rules.remove("")),  # type: ignore[arg-type]
    (r"None cannot be removed", lambda red: red.rules.remove(None)),  # type: ignore[arg-type]
    (r"\[1\] cannot be removed", lambda red: red.rules.remove([1])),  # type: ignore[list-item]
    (r"True cannot be removed", lambda red: red.rules.remove(True)),
    (r"of different families", lambda red: red.rules.add("10.66.0.0/16", "fd66::/64")),
    (r"'nonsense' is not a source", lambda red: red.rules.add("nonsense")),
    (r"none has the priority 77; there are: 0, 32766, 32767", lambda red: red.rules.remove(77)),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_about_a_rule_is_told_and_changes_nothing(
    fork: Fork, words: str, mistake: Callable[[Host], object]
) -> None:
    with pytest.raises(TopologyError, match=words):
        mistake(fork.red)
    assert list(fork.red.rules) == fork.start
