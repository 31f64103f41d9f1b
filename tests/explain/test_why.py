"""``why`` explains the result of every kind of probe."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable

import pytest
from explaining import Chain, chain_in

from pytest_netns import Explanation, Lab, ProbeFailure, assert_no_ping, why
from pytest_netns.explain.checks import CHECKS
from pytest_netns.explain.explain import CHECK_FAILED


@pytest.fixture
def chain(lab: Lab) -> Chain:
    return chain_in(lab)


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.red.ping(c.blue, timeout=0.05),
        lambda c: c.red.ping(c.blue.ip6, timeout=0.05, size=100),
        lambda c: c.red.tcp(c.blue, 80, timeout=0.05),
        lambda c: c.red.udp(c.blue, 53, b"hello", timeout=0.05),
        lambda c: c.red.dns(c.blue, "example.org", timeout=0.05),
        lambda c: c.red.trace(c.blue, timeout=0.05),
        lambda c: c.red.trace(c.blue, method="tcp", timeout=0.05),
        lambda c: c.red.trace(c.blue, method="udp", timeout=0.05),
        lambda c: c.red.path_mtu(c.blue, timeout=0.05),
        lambda c: c.lab.ping_all(timeout=0.1),
        lambda c: c.lab.throughput(c.red, c.blue, seconds=0.1, timeout=0.3),
        lambda c: c.lab.loss(c.red, c.blue, count=10, timeout=1),
    ],
    ids=[
        "ping",
        "ping6",
        "tcp",
        "udp",
        "dns",
        "trace",
        "trace-tcp",
        "trace-udp",
        "path_mtu",
        "ping_all",
        "throughput",
        "loss",
    ],
)
@pytest.mark.netns_requires("nft")
def test_every_kind_of_result_is_explained(chain: Chain, ask: Callable[[Chain], object]) -> None:
    chain.r2.nft("table inet fw { chain forward { type filter hook forward priority 0; oifname eth1 drop; }; }")
    found = why(ask(chain))
    assert found.node == "r2"
    assert found.cause is not None
    assert 'drops the request: inet fw forward: oifname "eth1" drop' in found.cause
    assert found.observed


def test_arp_is_explained_too(chain: Chain) -> None:
    chain.links[0].b.down()
    found = why(chain.red.arp("10.0.0.2", timeout=0.05))
    assert (found.node, found.cause) == ("r1", "interface 'eth0' of 'r1' is down (ip link set eth0 up)")


def test_a_matrix_explains_its_first_pairs_and_each_pair_can_be_asked_for(chain: Chain) -> None:
    chain.blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
    matrix = chain.lab.ping_all(timeout=0.1)
    found = why(matrix)
    assert found.node == "blue"
    assert found.observed.startswith("9 of 12 pairs got through; of those that did not, red -> blue")
    assert len(found.others) == 2
    assert found.others[0].startswith("r1 -> blue")
    assert why(matrix["r2", "blue"]).cause == found.cause


def test_a_dns_server_that_knows_nothing_is_the_cause_itself(chain: Chain) -> None:
    server = chain.blue.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 53))

    def refuse() -> None:
        query, client = server.recvfrom(512)
        server.sendto(query[:2] + b"\x81\x85" + query[4:], client)

    thread = threading.Thread(target=refuse)
    thread.start()
    found = why(chain.red.dns(chain.blue, "example.org", timeout=20))
    thread.join()
    assert found.node == "blue"
    assert found.cause is not None
    assert "answers REFUSED for example.org A" in found.cause


def test_a_trace_that_got_there_is_explained_by_the_routes(chain: Chain) -> None:
    found = why(chain.red.trace(chain.blue))
    assert found.observed == "the way: red -> r1 -> r2 -> blue"
    assert found.cause is not None
    assert "'r1' by" in found.cause
    assert len(found.evidence) == 3


def test_cause_and_cure_come_first_and_evidence_last() -> None:
    text = str(Explanation("it was seen", "it broke", "red", ["proof"], ["mend it"], ladder="a -> b", others=["c"]))
    heads = [line.partition(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert heads == ["cause", "cure", "asked again", "observed", "others", "evidence"]


def test_what_did_not_fail_and_what_is_gone_say_so(chain: Chain) -> None:
    good = why(chain.red.ping(chain.blue))
    assert (good.cause, good.ruled_out) == (None, ["nothing failed"])
    with Lab("other") as other:
        one, two = other.host("one"), other.host("two")
        other.connect(one, two).down()
        result = one.ping(two, timeout=0.05)
    assert "its lab is closed" in why(result).ruled_out[0]


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(TypeError, match="expected the result of a probe"):
        why("red")


def test_explaining_is_not_kept_as_a_probe_of_the_test(chain: Chain) -> None:
    chain.blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
    why(chain.red.ping(chain.blue, timeout=0.05))
    assert len(chain.lab.failed) == 1


def test_a_check_that_raises_is_left_out_and_told(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(observation: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pytest_netns.explain.explain.CHECKS", [(broken, "first"), *CHECKS])
    chain.blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
    found = why(chain.red.ping(chain.blue, timeout=0.05))
    assert found.node == "blue"
    assert any(line.startswith(CHECK_FAILED) for line in found.evidence)


def test_explaining_that_raises_is_told_and_not_raised(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    result = chain.red.ping("10.9.9.9", timeout=0.05)
    monkeypatch.setattr("pytest_netns.explain.explain.observe", broken)
    assert "a bug of ours" in str(why(result))


def test_labs_are_not_kept_alive_by_their_failures() -> None:
    from pytest_netns.lab.history import labs

    def made() -> None:
        lab = Lab("short-lived")
        one, two = lab.host("one"), lab.host("two")
        lab.connect(one, two).down()
        one.ping(two, timeout=0.01)
        lab.close()

    made()
    gc.collect()
    assert "short-lived" not in [getattr(lab, "name", "") for lab in labs]


@pytest.mark.netns_requires("nft")
def test_what_got_through_against_expectation_says_by_which_rules(chain: Chain) -> None:
    rules = 'type filter hook forward priority 0; policy drop; iifname "eth0" accept; oifname "eth0" accept'
    chain.r1.nft(f"table inet fw {{ chain forward {{ {rules}; }}; }}")
    chain.blue.nft("table ip fw { chain input { type filter hook input priority 0; }; }")
    with pytest.raises(ProbeFailure) as failure:
        assert_no_ping(chain.red, chain.blue.ip4)
    lines = str(failure.value).splitlines()
    assert lines[1:] == [
        "the way: red -> r1 -> r2 -> blue",
        '  r1: inet fw forward: iifname "eth0" accept',
        "  blue: ip fw input: policy accept",
    ]
