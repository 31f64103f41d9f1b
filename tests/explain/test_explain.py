"""What explaining does to a lab (nothing), and how an explanation reads."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable
from socket import IPPROTO_ICMP

import pytest
from conversation import listen
from explaining import Chain, chain_in, why_no_datagram, why_no_ping, why_not_open

from pytest_netns import Lab, eventually
from pytest_netns.explain import checks
from pytest_netns.explain.checks import CHECKS
from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.explain import explain
from pytest_netns.explain.nft_trace.rule_trace import RuleTrace
from pytest_netns.explain.observation.observe import observe
from pytest_netns.explain.questions import Question, ping_question, tcp_question
from pytest_netns.stack.nft import nft_with_handles

RULES = """
table inet fw {
    chain forward { type filter hook forward priority 0; icmp type echo-request drop; icmpv6 type echo-request drop; };
}
table ip nat { chain post { type nat hook postrouting priority 100; }; }
table arp fw { chain input { type filter hook input priority 0; }; }
table netdev fw { chain gate { type filter hook ingress device "eth0" priority 0; }; }
"""


def picture(lab: Lab) -> dict[str, object]:
    """All of a lab that explaining could change: as the programs of iproute2 and nftables tell it."""
    found: dict[str, object] = {}
    for node in lab:
        found[node.name] = (
            nft_with_handles(node),
            sorted(map(str, node.routes())),
            [(i.state, i.addresses) for i in node.interfaces.values()],
            node.run(["grep", "-rs", ".", "/proc/sys/net/ipv4", "/proc/sys/net/ipv6"], check=False).stdout,
            [(p.pid, p.returncode) for p in node.processes],
        )
    return found


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def chain(lab: Lab) -> Chain:
    return chain_in(lab)


@pytest.mark.parametrize(
    "ask",
    [
        lambda chain: why_no_ping(chain.red, chain.blue),
        lambda chain: why_no_ping(chain.red, chain.blue.ip6),
        lambda chain: why_no_ping(chain.red, "203.0.113.1"),
        lambda chain: why_not_open(chain.red, chain.blue, 80),
        lambda chain: why_no_datagram(chain.red, chain.blue, 53),
        lambda chain: why_no_ping(chain.red, chain.r1.interface("eth0").ip4, size=3000, df=True),
    ],
    ids=["ping", "ping6", "no-route", "tcp", "udp", "mtu"],
)
@pytest.mark.netns_requires("nft")
def test_it_changes_nothing_in_the_lab(chain: Chain, ask: Callable[[Chain], Explanation]) -> None:
    chain.r1.nft(RULES)
    chain.red.nft("table inet fw { chain output { type filter hook output priority 0; }; }")
    chain.lab.bridge("br0", "10.77.0.0/24").nft(
        "table bridge fw { chain guard { type filter hook forward priority 0; }; }"
    )
    chain.blue.spawn(["sleep", "1000"])
    ask(chain)  # what is made once and kept, e.g. the library's contexts
    before = picture(chain.lab)
    open_files = descriptors()
    for _ in range(3):
        ask(chain)
    assert picture(chain.lab) == before
    eventually(lambda: descriptors() <= open_files)  # sockets of captures are closed in the background


@pytest.mark.netns_requires("nft")
def test_the_trace_is_switched_off_though_the_probe_raises(chain: Chain) -> None:
    chain.r1.nft(RULES)
    before = nft_with_handles(chain.r1)

    def again(timeout: float) -> object:
        assert "pytest_netns_trace" in nft_with_handles(chain.r1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explain(chain.lab, Question(chain.red, chain.blue.ip4, "ping", again))
    assert nft_with_handles(chain.r1) == before


@pytest.mark.netns_requires("nft")
def test_the_trace_is_switched_off_though_it_could_not_be_switched_on_everywhere(chain: Chain) -> None:
    for router in (chain.r1, chain.r2):
        router.nft(RULES)
    chain.r2.nft("table inet pytest_netns_trace { chain prerouting { type nat hook prerouting priority 5; }; }")
    before = nft_with_handles(chain.r1)
    with pytest.raises(Exception, match="pytest_netns_trace"), RuleTrace(chain.lab, [IPPROTO_ICMP]):
        pytest.fail("it cannot begin")
    assert nft_with_handles(chain.r1) == before


@pytest.mark.netns_requires("nft")
def test_nodes_without_rules_get_none(chain: Chain) -> None:
    with RuleTrace(chain.lab, [IPPROTO_ICMP]):
        assert [node.nft_ruleset() for node in chain.lab] == [[]] * 4


def test_a_closed_node_is_left_out(chain: Chain) -> None:
    chain.lab.host("gone").close()
    chain.r1.sysctl["net.ipv4.ip_forward"] = 0
    assert why_no_ping(chain.red, chain.blue).cause == "'r1' does not forward IPv4: net.ipv4.ip_forward is 0"


def test_it_reads_cause_cure_drawing_observation_evidence(chain: Chain) -> None:
    chain.r1.sysctl["net.ipv4.ip_forward"] = 0
    text = str(why_no_ping(chain.red, chain.blue))
    assert [line for line in text.splitlines() if not line.startswith(" ")] == [
        "cause: 'r1' does not forward IPv4: net.ipv4.ip_forward is 0",
        'cure: r1.sysctl["net.ipv4.ip_forward"] = 1',
        "asked again:",
        "observed: the request left red:eth0 and was last seen when it arrived at r1:eth0; no reply was seen anywhere",
        "evidence:",
    ]
    assert "  r1: sysctl net.ipv4.ip_forward = 0" in text.splitlines()


def test_evidence_does_not_say_the_cause_again() -> None:
    text = str(Explanation("nothing", "a rule drops it", "red", ["traced: a rule drops it", "traced: another one"]))
    assert text.splitlines() == ["cause: a rule drops it", "observed: nothing", "evidence:", "  traced: another one"]


def test_no_line_of_evidence_comes_twice() -> None:
    assert str(Explanation("nothing", "a cause", "red", ["one", "two", "one"])).splitlines() == [
        "cause: a cause",
        "observed: nothing",
        "evidence:",
        "  one",
        "  two",
    ]


@pytest.mark.netns_requires("nft")
def test_a_reply_that_is_lost_is_observed_too(chain: Chain) -> None:
    chain.r1.nft("table inet fw { chain forward { type filter hook forward priority 0; icmp type echo-reply drop; }; }")
    found = why_no_ping(chain.red, chain.blue)
    assert found.observed == (
        "the request left red:eth0 and was last seen when it arrived at blue:eth0; "
        "the reply left blue:eth0 and was last seen when it arrived at r1:eth1"
    )


def test_a_link_local_destination_is_explained(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    target = next(a.ip for a in blue.addresses() if a.version == 6 and a.is_link_local)
    blue.sysctl["net.ipv6.icmp.echo_ignore_all"] = 1
    assert why_no_ping(red, target).cause == "'blue' ignores echo requests: net.ipv6.icmp.echo_ignore_all is 1"


def test_a_lab_without_nftables_is_explained_without_its_rules(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_netns import UnsupportedError

    def missing() -> None:
        raise UnsupportedError("nftables is not installed")

    monkeypatch.setattr(chain.r1, "nft_ruleset", missing)
    chain.r2.sysctl["net.ipv4.ip_forward"] = 0
    found = why_no_ping(chain.red, chain.blue)
    assert found.cause == "'r2' does not forward IPv4: net.ipv4.ip_forward is 0"
    assert "r1: cannot look at its rules: nftables is not installed" in found.evidence


def test_a_server_that_came_up_meanwhile_is_said_to_work(chain: Chain) -> None:
    failed = chain.red.ping(chain.blue, timeout=0.2, ttl=1)
    assert not failed
    found = explain(chain.lab, ping_question(chain.red, failed, {}))
    assert found.cause == "it works now: asked again, it was answered at once"
    assert found.node == "red"


def test_ports_of_others_are_no_answer(chain: Chain) -> None:
    servers = listen(chain.r1, 80), listen(chain.blue, 80, "udp")
    found = why_not_open(chain.red, chain.blue, 80)
    assert found.cause == "nothing listens on tcp port 80 of 'blue' (listening: nothing does on any port)"
    for server in servers:
        server.close()


def test_the_conversation_is_drawn_as_it_was_when_asked_again(chain: Chain) -> None:
    chain.r1.sysctl["net.ipv4.ip_forward"] = 0
    drawing = why_no_ping(chain.red, chain.blue.ip4).ladder.splitlines()
    assert drawing[0].split()[:2] == ["time", "red"]
    request = next(row for row in drawing if "echo-request" in row)
    assert "x" in request.partition("IP /")[0]  # it is lost on the way
    assert str(why_no_ping(chain.red, "203.0.113.1")).count("asked again:") == 0  # nothing was sent: nothing to draw


def test_every_check_is_in_the_list_with_a_reason() -> None:
    listed = {check.__module__ for check, reason in CHECKS if reason}
    assert listed == {f"{checks.__name__}.{module.name}" for module in pkgutil.iter_modules(checks.__path__)}


@pytest.mark.netns_requires("nft")
def test_an_observation_tells_which_rule_dropped_the_packet_and_how_far_it_came(chain: Chain) -> None:
    chain.r2.nft("table inet fw { chain forward { type filter hook forward priority 0; tcp dport 80 drop; }; }")
    seen = observe(chain.lab, tcp_question(chain.red, chain.red.tcp(chain.blue, 80, timeout=0.05)))
    assert seen.dropped is not None
    drop, what = seen.dropped
    assert (drop.node, drop.rule, what) == (chain.r2, "tcp dport 80 drop", "the request")
    assert seen.reached == ["red", "r1", "r2"]
    assert str(seen.last_seen) == "the request arrived at r2:eth0"
