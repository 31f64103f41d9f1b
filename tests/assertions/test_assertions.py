"""Assertions: what passes, what fails with which words, and that a negative one proves its instrument."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conversation import address_of, listen
from explaining import Chain, chain_in
from slowness import patient

from pytest_netns import (
    Host,
    Lab,
    NetnsError,
    ProbeFailure,
    TopologyError,
    assert_arp,
    assert_no_arp,
    assert_no_ping,
    assert_no_udp,
    assert_not_path,
    assert_path,
    assert_ping,
    assert_tcp_closed,
    assert_tcp_filtered,
    assert_tcp_not_open,
    assert_tcp_open,
    assert_udp,
    eventually,
)

SHORT = patient(0.1)
#: Seconds in which it can be asked several times.
LATE = patient(0.1)


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host]:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    return red, blue


@pytest.fixture
def chain(lab: Lab) -> Chain:
    return chain_in(lab)


def drop(node: Host, what: str) -> None:
    node.nft(f"table inet fw {{ chain input {{ type filter hook input priority 0; {what} drop; }}; }}")


@contextmanager
def at_the_third_try(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[], None]) -> Iterator[None]:
    """Change the lab when a probe is sent for the third time."""
    original = getattr(Host, name)
    tries = []

    def probe(self: Host, *args: Any, **kwargs: Any) -> object:
        tries.append(1)
        if len(tries) == 3:
            change()
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Host, name, probe)
        yield
    assert len(tries) == 3, "it has not stopped, or stopped early"


def failure(ask: Callable[[], object]) -> str:
    """What an assertion that fails says."""
    with pytest.raises(ProbeFailure) as failed:
        ask()
    return str(failed.value)


# ------------------------------------------------------------------------ ping


def test_an_answered_ping_passes(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    assert assert_ping(red, blue, count=2).received == 2
    assert assert_ping(red, blue.ip6).address == blue.ip6


@pytest.mark.netns_requires("nft")
def test_an_unanswered_ping_fails_with_what_came_back_and_why(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    drop(blue, "icmp type echo-request")
    lines = failure(lambda: assert_ping(red, blue, timeout=SHORT)).splitlines()
    assert lines[0] == "PingResult red -> blue (192.168.15.2): 1 sent, 0 received: no answer"
    (observed,) = [line for line in lines if line.startswith("observed: ")]
    assert observed.startswith("observed: the request left red:eth0 and was last seen when it arrived at blue:eth0")
    assert lines[1] == (
        "cause: a netfilter rule on 'blue' drops the request: inet fw input: icmp type echo-request drop"
    )


def test_the_probe_is_explained_with_its_own_size(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    text = failure(lambda: assert_ping(red, blue, size=1600, df=True, timeout=SHORT))
    assert "cause: the packet has 1628 bytes and may not be fragmented" in text


@pytest.mark.netns_requires("nft")
def test_no_ping_passes_where_nothing_answers(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    drop(blue, "icmp type echo-request")
    assert assert_no_ping(red, blue, timeout=SHORT).received == 0
    assert assert_no_ping(red, "192.168.15.77", timeout=SHORT).received == 0


def test_no_ping_fails_where_the_own_kernel_has_sent_nothing(pair: tuple[Host, Host]) -> None:
    text = failure(lambda: assert_no_ping(pair[0], "203.0.113.1", timeout=SHORT))
    assert text.startswith("nothing was sent: nothing answered 'red', but no echo request has left it either")
    assert "(its own kernel: Network is unreachable)" in text


def test_no_ping_passes_where_somebody_else_says_why(chain: Chain) -> None:
    chain.r1.add_route("203.0.113.0/24", kind="unreachable")
    chain.red.default_route(via=chain.r1)
    assert assert_no_ping(chain.red, "203.0.113.1", timeout=SHORT).error is not None


def test_no_ping_fails_where_something_answers_and_shows_the_way(chain: Chain) -> None:
    text = failure(lambda: assert_no_ping(chain.red, chain.blue, timeout=SHORT))
    assert text.startswith("expected no answer, but got one: PingResult red -> blue")
    assert "the way: red -> r1 -> r2 -> blue" in text.splitlines()


def test_no_ping_fails_if_one_of_several_is_answered(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    text = failure(lambda: assert_no_ping(red, blue, count=3, timeout=SHORT))
    assert "3 sent, 3 received" in text


# ------------------------------------------------- negative ones prove themselves

Ask = Callable[[Host, Host], object]
NEGATIVE = pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda red, blue: assert_no_ping(red, blue, timeout=SHORT), "echo request"),
        (lambda red, blue: assert_no_ping(red, blue.ip6, timeout=SHORT), "echo request"),
        (lambda red, blue: assert_tcp_filtered(red, blue, 80, timeout=SHORT), "SYN"),
        (lambda red, blue: assert_tcp_not_open(red, blue.ip6, 80, timeout=SHORT), "SYN"),
        (lambda red, blue: assert_no_udp(red, blue, 53, timeout=SHORT), "datagram"),
        (lambda red, blue: assert_no_udp(red, blue.ip6, 53, timeout=SHORT), "datagram"),
    ],
)
#: Behind everything that tells the sender: nothing leaves, and the kernel says nothing.
SILENT = 'chain out {{ type filter hook egress device "eth0" priority 0; {} drop; }};'


@NEGATIVE
@pytest.mark.netns_requires("nft")
def test_silence_proves_nothing_if_the_question_has_not_left(pair: tuple[Host, Host], ask: Ask, what: str) -> None:
    red, blue = pair
    assert red.ping(blue)
    assert red.ping(blue.ip6)  # the next hop is known
    drop(blue, "meta l4proto { icmp, tcp, udp }")
    drop(blue, "icmpv6 type echo-request")
    ask(red, blue)
    red.nft("table netdev fw { " + SILENT.format("meta l4proto { icmp, icmpv6, tcp, udp }") + " }")
    assert failure(lambda: ask(red, blue)).startswith(
        f"nothing was sent: nothing answered 'red', but no {what} has left it either"
    )


@pytest.mark.netns_requires("nft")
def test_what_else_leaves_is_no_proof(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    red.nft("table netdev fw { " + SILENT.format("icmp type echo-request") + " }")
    with red.capture(chatter=True) as capture:
        text = failure(lambda: assert_no_ping(red, blue, timeout=SHORT))
    assert "no echo request has left it" in text
    assert any(frame.outgoing for frame in capture.frames), "the ARP request that was answered has left"


@pytest.mark.netns_requires("nft")
def test_a_question_that_left_at_an_earlier_try_is_no_proof(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = pair
    rule = "table netdev fw { " + SILENT.format("icmp type echo-request") + " }"
    with at_the_third_try(monkeypatch, "ping", lambda: red.nft(rule)):
        text = failure(lambda: assert_no_ping(red, blue, timeout=SHORT, within=60))
    assert "no echo request has left it" in text


def test_a_search_in_vain_is_a_proof_each_time(pair: tuple[Host, Host]) -> None:
    for _ in range(3):  # the kernel asks once a second
        assert_no_ping(pair[0], "192.168.15.77", timeout=SHORT)


@pytest.mark.netns_requires("nft")
def test_no_arp_without_a_question_proves_nothing(pair: tuple[Host, Host]) -> None:
    red, _ = pair
    red.nft("table netdev fw { " + SILENT.format("ether type arp") + " }")
    assert "no question has left it" in failure(lambda: assert_no_arp(red, "192.168.15.77", timeout=SHORT))


@pytest.mark.netns_requires("nft")
def test_what_the_own_firewall_refuses_is_no_silence(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    red.nft("table inet fw { chain output { type filter hook output priority 0; policy drop; }; }")
    result = assert_no_ping(red, blue, timeout=SHORT)
    assert "Operation not permitted" in repr(result)
    for ask in (assert_tcp_not_open, assert_tcp_filtered):  # connect(2) is not told, and tries until its time is over
        assert ask(red, blue, 80, timeout=SHORT).state == "filtered"
    text = failure(lambda: assert_tcp_open(red, blue, 80, timeout=SHORT))
    assert "cause: a netfilter rule on 'red' drops the request: inet fw output: policy drop" in text


# ------------------------------------------------------------------------- arp


def test_arp_that_is_answered_passes(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    assert assert_arp(red, blue).mac == blue.mac
    assert assert_arp(red, blue.ip6).mac == blue.mac


@pytest.mark.parametrize("version", [4, 6])
def test_arp_that_nobody_answers_fails_with_the_cause(lab: Lab, version: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=(["192.168.15.1/24", "fd00:15::1/64"], ["192.168.15.2/24", "fd00:15::2/64"]))
    target = "192.168.15.77" if version == 4 else "fd00:15::77"
    text = failure(lambda: assert_arp(red, target, timeout=SHORT))
    assert "is unanswered: nobody in the lab has that address" in text
    assert text.splitlines()[0].startswith(f"ArpResult red:eth0 asks who has {target}")


def test_arp_towards_a_far_end_that_is_down_names_it(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    blue.interface("eth0").down()
    text = failure(lambda: assert_arp(red, "192.168.15.2", timeout=SHORT))
    assert "cause: interface 'eth0' of 'blue' is down (ip link set eth0 up)" in text


@pytest.mark.netns_requires("nft")
def test_arp_that_a_rule_drops_names_the_rule(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    blue.nft("table arp fw { chain input { type filter hook input priority 0; arp operation request drop; }; }")
    text = failure(lambda: assert_arp(red, blue, timeout=SHORT))
    assert "cause: a netfilter rule on 'blue' drops ARP: arp fw input: arp operation request drop" in text


def test_no_arp_passes_where_nobody_answers(pair: tuple[Host, Host]) -> None:
    assert not assert_no_arp(pair[0], "192.168.15.77", timeout=SHORT)


@pytest.mark.netns_requires("nft")
def test_no_arp_fails_where_somebody_answers(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    text = failure(lambda: assert_no_arp(red, blue, timeout=SHORT))
    assert text.startswith("expected no answer, but got one: ArpResult")
    assert blue.mac in text
    lines = text.splitlines()
    assert "the way of the ARP request: red:eth0 -> blue:eth0" in lines
    assert f"the way of the answer of {blue.mac}: blue:eth0 -> red:eth0" in lines
    assert "  no rule of nftables was asked about ARP on the way" in lines


@pytest.mark.netns_requires("nft")
@pytest.mark.parametrize("version", [4, 6])
def test_no_arp_says_which_rule_of_a_bridge_let_it_by_and_leaves_out_copies_for_others(lab: Lab, version: int) -> None:
    switch = lab.bridge("sw")
    red, blue, _ = (switch.host(name) for name in ("red", "blue", "other"))
    accepted = "ether type arp accept" if version == 4 else "icmpv6 type nd-neighbor-solicit accept"
    switch.nft(f"table bridge f {{ chain c {{ type filter hook forward priority 0; {accepted}; }}; }}")
    target = address_of(blue, version)
    lines = failure(lambda: assert_no_arp(red, target, timeout=SHORT)).splitlines()
    port, far = switch.ports["red"].name, switch.ports["blue"].name
    protocol = "ARP" if version == 4 else "neighbour discovery"
    assert f"the way of the {protocol} request: red:eth0 -> sw:{port} -> sw:{far} -> blue:eth0" in lines
    assert f"the way of the answer of {blue.mac}: blue:eth0 -> sw:{far} -> sw:{port} -> red:eth0" in lines
    assert f"  sw: bridge f c: {accepted}" in lines


# ------------------------------------------------------------------------- tcp


@pytest.mark.netns_requires("nft")
def test_the_states_of_a_port(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    server = listen(blue, 80)
    drop(blue, "tcp dport 81")
    assert assert_tcp_open(red, blue, 80).state == "open"
    assert assert_tcp_closed(red, blue, 82).state == "closed"
    assert assert_tcp_filtered(red, blue, 81, timeout=SHORT).state == "filtered"
    assert assert_tcp_not_open(red, blue, 81, timeout=SHORT).state == "filtered"
    assert assert_tcp_not_open(red, blue, 82).state == "closed"
    assert "nothing was sent" in failure(lambda: assert_tcp_not_open(red, "203.0.113.1", 80))
    server.close()


@pytest.mark.parametrize(
    ("ask", "expected", "cause"),
    [
        (lambda r, b: assert_tcp_open(r, b, 82, timeout=SHORT), "open", "nothing listens on tcp port 82 of 'blue'"),
        (lambda r, b: assert_tcp_open(r, b, 81, timeout=SHORT), "open", "inet fw input: tcp dport 81 drop"),
        (lambda r, b: assert_tcp_closed(r, b, 81, timeout=SHORT), "closed", "inet fw input: tcp dport 81 drop"),
        (lambda r, b: assert_tcp_filtered(r, b, 82, timeout=SHORT), "filtered", "nothing listens on tcp port 82"),
    ],
)
@pytest.mark.netns_requires("nft")
def test_another_state_fails_with_the_cause(
    pair: tuple[Host, Host], ask: Callable[[Host, Host], object], expected: str, cause: str
) -> None:
    red, blue = pair
    drop(blue, "tcp dport 81")
    text = failure(lambda: ask(red, blue))
    assert text.startswith(f"expected {expected}: TcpResult red -> blue (192.168.15.2) port 8")
    assert cause in text.splitlines()[1]


@pytest.mark.parametrize("check", [assert_tcp_closed, assert_tcp_filtered, assert_tcp_not_open])
def test_an_open_port_fails_with_the_way_there(pair: tuple[Host, Host], check: Callable[..., object]) -> None:
    red, blue = pair
    server = listen(blue, 80)
    text = failure(lambda: check(red, blue, 80))
    assert text.startswith("expected ")
    assert "port 80: open" in text
    assert "the way: red -> blue" in text.splitlines()
    server.close()


# ------------------------------------------------------------------------- udp


@contextmanager
def echo(node: Host, port: int) -> Iterator[None]:
    """A server that sends back one datagram."""
    server = listen(node, port, "udp")

    def answer() -> None:
        data, who = server.recvfrom(100)
        server.sendto(data, who)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join()
    server.close()


def test_a_datagram_that_is_answered(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    with echo(blue, 7):
        assert assert_udp(red, blue, 7, b"hello", timeout=20).reply == b"hello"
    with echo(blue, 8):
        text = failure(lambda: assert_no_udp(red, blue, 8, b"hello", timeout=20))
    assert text.startswith("expected no answer, but got one: UdpResult")


def test_a_datagram_that_is_not_answered(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    assert assert_no_udp(red, blue, 7, b"hello").state == "closed"
    text = failure(lambda: assert_udp(red, blue, 7, b"hello", timeout=SHORT))
    assert "cause: nothing listens on udp port 7 of 'blue' (listening: nothing does on any port)" in text


# ------------------------------------------------------------------------ path


def test_a_path_by_nodes_names_and_addresses(chain: Chain) -> None:
    inner = chain.r2.interface("eth0").ip4
    for hops in ([chain.r1, chain.r2], ["r1", "r2", "blue"], ["r1", inner], [chain.r1, str(inner), chain.blue]):
        assert assert_path(chain.red, chain.blue, hops).path == ["r1", "r2", "blue"]


def test_another_path_fails_with_both(chain: Chain) -> None:
    text = failure(lambda: assert_path(chain.red, chain.blue, ["r2", "r1"]))
    assert text.splitlines()[-2:] == ["expected: r2 -> r1", "seen:     r1 -> r2 -> blue"]


def test_a_path_that_ends_early_fails_with_the_cause(chain: Chain) -> None:
    chain.r2.sysctl["net.ipv4.ip_forward"] = 0
    text = failure(lambda: assert_path(chain.red, chain.blue, ["r1", "r2"], timeout=patient(0.05)))
    assert "cause: 'r2' does not forward IPv4: net.ipv4.ip_forward is 0" in text


def test_not_this_path(chain: Chain) -> None:
    assert assert_not_path(chain.red, chain.blue, ["r2"])
    text = failure(lambda: assert_not_path(chain.red, chain.blue, ["r1", "r2"]))
    assert text.startswith("expected another way than r1 -> r2: TraceResult")
    chain.r1.sysctl["net.ipv4.ip_forward"] = 0
    failure(lambda: assert_not_path(chain.red, chain.blue, ["r2"], timeout=patient(0.05)))


def test_a_hop_that_is_nothing_is_an_error(chain: Chain) -> None:
    with pytest.raises(TopologyError, match=r"'nobody' is neither a node of <Lab .*> nor an address"):
        assert_path(chain.red, chain.blue, ["nobody"])


# ---------------------------------------------------------------------- within


@pytest.mark.netns_requires("nft")
def test_within_asks_until_it_is_answered(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    red, blue = pair
    drop(blue, "icmp type echo-request")
    with at_the_third_try(monkeypatch, "ping", lambda: blue.nft("flush ruleset")):
        assert assert_ping(red, blue, within=60, timeout=patient(0.05))


@pytest.mark.netns_requires("nft")
def test_within_asks_until_it_is_not_answered(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    red, blue = pair
    with at_the_third_try(monkeypatch, "ping", lambda: drop(blue, "icmp type echo-request")):
        assert not assert_no_ping(red, blue, within=60, timeout=0.05)


def test_within_waits_for_a_port(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    red, blue = pair
    servers: list[Any] = []
    with at_the_third_try(monkeypatch, "tcp", lambda: servers.append(listen(blue, 80))):
        assert assert_tcp_open(red, blue, 80, within=60)
    with at_the_third_try(monkeypatch, "tcp", lambda: servers.pop().close()):
        assert assert_tcp_closed(red, blue, 80, within=60).sender == blue.ip4


def test_within_waits_for_an_address(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    red, blue = pair
    with at_the_third_try(monkeypatch, "arp", lambda: blue.add_address("192.168.15.77/24")):
        assert assert_arp(red, "192.168.15.77", within=60, timeout=patient(0.05))
    with at_the_third_try(monkeypatch, "arp", lambda: blue.interface("eth0").remove_address("192.168.15.77/24")):
        assert not assert_no_arp(red, "192.168.15.77", within=60, timeout=0.05)


def test_within_waits_for_a_path(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.r1.sysctl["net.ipv4.ip_forward"] = 0
    with at_the_third_try(monkeypatch, "trace", lambda: chain.r1.sysctl.__setitem__("net.ipv4.ip_forward", 1)):
        assert assert_path(chain.red, chain.blue, ["r1", "r2"], within=60, timeout=patient(0.05))


@pytest.mark.parametrize(
    "ask",
    [
        lambda red, _: assert_ping(red, "192.168.15.77", within=LATE, timeout=0.02),
        lambda red, _: assert_arp(red, "192.168.15.77", within=LATE, timeout=0.02),
        lambda red, blue: assert_tcp_open(red, blue, 80, within=LATE, timeout=0.02),
        lambda red, blue: assert_no_ping(red, blue, within=LATE),
        lambda red, blue: assert_udp(red, blue, 53, within=LATE, timeout=0.02),
        lambda red, blue: assert_path(red, blue, ["nowhere", "blue"][1:] * 2, within=LATE),
    ],
)
def test_within_that_is_over_says_how_often_it_was_tried(
    pair: tuple[Host, Host], ask: Callable[[Host, Host], object]
) -> None:
    def tries() -> int:
        return int(failure(lambda: ask(*pair)).partition("(tried ")[2].partition(f" times in {LATE:g} s)")[0])

    eventually(lambda: tries() > 1, within=60)  # a busy machine leaves no time for a second one, at times


# ------------------------------------------------------------------ eventually


def test_eventually_gives_the_first_true_value() -> None:
    values = iter([0, None, "there", "later"])
    assert eventually(lambda: next(values), within=60, every=0) == "there"


def test_eventually_takes_assertions_too() -> None:
    tries: list[int] = []

    def three_tries() -> bool:
        tries.append(1)
        assert len(tries) == 3, "too early"
        return True

    assert eventually(three_tries, within=60, every=0)


def test_eventually_shows_the_last_reason() -> None:
    def never() -> bool:
        raise AssertionError("the last reason")

    with pytest.raises(
        ProbeFailure, match=r"never did not hold within 0 s \(1 tries\); at last:\nthe last reason"
    ) as it:
        eventually(never, within=0)
    assert isinstance(it.value.__cause__, AssertionError)
    assert "at last:\n[]" in failure(lambda: eventually(list, within=0))


def test_eventually_lets_other_errors_through_at_once() -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        eventually(broken, within=60)


# ---------------------------------------------------------------------- errors


def test_a_failed_probe_is_an_assertion_and_no_error_of_the_lab() -> None:
    assert issubclass(ProbeFailure, AssertionError)
    assert not issubclass(ProbeFailure, NetnsError)


@pytest.mark.parametrize(
    "ask",
    [
        assert_ping,
        assert_no_ping,
        assert_arp,
        assert_no_arp,
        lambda node, other: assert_tcp_open(node, other, 80),
        lambda node, other: assert_tcp_filtered(node, other, 80),
        lambda node, other: assert_udp(node, other, 80),
        lambda node, other: assert_no_udp(node, other, 80),
        lambda node, other: assert_path(node, other, []),
        lambda node, other: assert_not_path(node, other, []),
    ],
)
@pytest.mark.parametrize("source", ["red", None, 7])
def test_a_source_that_is_no_node_is_an_error(
    pair: tuple[Host, Host], source: object, ask: Callable[[object, Host], object]
) -> None:
    with pytest.raises(TopologyError, match="the source of a probe is a node of a lab, not "):
        ask(source, pair[1])


def test_a_destination_that_cannot_be_is_an_error_and_no_failure(pair: tuple[Host, Host]) -> None:
    with pytest.raises(TopologyError, match="'nowhere' is not an address"):
        assert_ping(pair[0], "nowhere")
    with pytest.raises(TopologyError, match="'nowhere' is not an address"):
        assert_no_ping(pair[0], "nowhere")
