from __future__ import annotations

import threading

import pytest
from slowness import SLOWNESS, patient

from pytest_netns import (
    Host,
    Lab,
    LossResult,
    NetnsError,
    ProbeFailure,
    RttStatistics,
    TopologyError,
    assert_loss,
    assert_rate,
    assert_rtt,
    eventually,
)
from pytest_netns.assertions.conditions import binomial_interval
from pytest_netns.probe import traffic
from pytest_netns.probe.ping_result import PingResult
from pytest_netns.probe.throughput import ThroughputResult
from pytest_netns.probe.traffic_pair import Protocol

Pair = tuple[Host, Host]
TBF = ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "20mbit", "burst", "5kb", "latency", "50ms"]
#: What 20 Mbit/s on the wire cannot be taken for, and what is offered to it. How close to the rate it comes depends on
#: when a busy machine runs the sender and the receiver, which is not what is tested; what differs is a factor.
TOO_FAST, OFFERED = 40e6, "100mbit"
NTH = "numgen inc mod 20 < 1"


@pytest.fixture
def narrow(veth_pair: Pair) -> Pair:
    """``left`` sends 20 Mbit/s and not more."""
    veth_pair[0].run(TBF)
    return veth_pair


def lose(host: Host, which: str) -> None:
    """``host`` drops datagrams that arrive."""
    host.nft(f"table inet lossy {{ chain c {{ type filter hook input priority 0; meta l4proto udp {which} drop; }}; }}")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.netns_requires("program:tc")
def test_udp_shows_the_rate_of_the_wire(lab: Lab, version: int) -> None:
    left, right = lab.host("left"), lab.host("right")
    lab.connect(left, right, "10.9.0.0/24" if version == 4 else "2001:db8::/64")
    left.run(TBF)
    result = lab.throughput(left, right, seconds=0.5, protocol="udp", rate=OFFERED, omit=0.1)
    assert result.address.version == version
    assert 0 < result.wire_rate < TOO_FAST
    payload, frame = (1472, 1514) if version == 4 else (1452, 1514)
    assert result.rate == pytest.approx(result.wire_rate * payload / frame, rel=0.001)
    assert result.rate == pytest.approx(8 * result.bytes / result.seconds)
    assert result.seconds >= 0.5
    assert result.samples
    assert not left.processes
    assert not right.processes


def test_udp_is_sent_as_fast_as_told(veth_pair: Pair) -> None:
    left, right = veth_pair
    result = left.lab.throughput(left, right, seconds=0.3, protocol="udp", rate="5mbit")
    assert 0 < result.wire_rate < 50e6  # unbridled it is hundreds; how even it is depends on how busy the machine is


@pytest.mark.netns_requires("program:tc")
def test_tcp_counts_what_came(narrow: Pair) -> None:
    left, right = narrow
    result = left.lab.throughput(left, right, seconds=0.5, omit=0.1)
    assert result
    assert result.bytes == pytest.approx(result.rate / 8 * result.seconds)
    # The queue is short and drops some. Payload counts when it is complete, what is on the wire when it comes.
    assert 0 < result.rate < TOO_FAST
    assert 0 < result.wire_rate < TOO_FAST
    assert "Mbit/s on the wire" in repr(result)


def test_an_interface_is_a_destination_and_an_address_is_none(veth_pair: Pair) -> None:
    left, right = veth_pair
    assert left.lab.throughput(left, right.interfaces["eth0"], seconds=0.1)
    with pytest.raises(TypeError, match="give the node or its interface"):
        left.lab.throughput(left, str(right.ip4))  # type: ignore[arg-type]


@pytest.mark.netns_requires("nft")
def test_a_blocked_path_is_falsy_and_says_why(veth_pair: Pair) -> None:
    left, right = veth_pair
    with right.block():
        tcp = left.lab.throughput(left, right, seconds=0.1, timeout=0.1)
        assert not tcp
        assert repr(tcp).endswith("nothing came: connect: timed out>")
        udp = left.lab.throughput(left, right, seconds=0.1, protocol="udp", rate="1mbit")
        assert not udp
        assert (udp.bytes, udp.rate, udp.samples) == (0, 0.0, ())
        assert not left.lab.loss(left, right, count=5)
    assert not right.processes


@pytest.mark.netns_requires("tap")
def test_what_came_twice_was_on_the_wire_twice(lab: Lab) -> None:
    left, right = lab.host("left"), lab.host("right")
    lab.connect(left, right).a.impair(rate="4mbit", duplicate="30%", seed=1, engine="relay")
    result = lab.throughput(left, right)
    assert 0 < result.rate < 0.85 * result.wire_rate


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.netns_requires("program:tc", "nft")
def test_a_link_that_dies_meanwhile_is_told(veth_pair: Pair, protocol: Protocol) -> None:
    left, right = veth_pair
    left.run(TBF)
    seconds = patient(2, at_most=10)  # to set the rule takes an emulated processor more than one of them
    path = f"/proc/{right.spawn(['sleep', '1000']).pid}/net/dev"

    def came() -> int:
        with open(path) as file:
            return next(int(line.split()[1]) for line in file if line.split()[0] == "eth0:")

    def die() -> None:
        eventually(lambda: came() > 100_000, within=20 * SLOWNESS)
        right.block()

    cutter = threading.Thread(target=die)
    cutter.start()
    asked = {"protocol": protocol, "rate": "25mbit" if protocol == "udp" else None, "timeout": patient(3)}
    result = left.lab.throughput(left, right, seconds=seconds, omit=0, **asked)  # type: ignore[arg-type]
    cutter.join()
    assert result.seconds == pytest.approx(seconds)
    assert result.stalled is not None
    assert 0 < result.stalled < seconds
    assert result.rate == pytest.approx(8 * result.bytes / seconds)
    assert f", stalled after {result.stalled:.2f} s of {seconds:g} s" in repr(result)


def test_a_rate_is_not_kept_by_a_link_that_died(veth_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = veth_pair
    said: tuple[dict[str, object], dict[str, object]] = (
        {"error": "send: timed out"},
        {"bytes": 1, "seconds": 3.0, "segments": 0, "wire": 375_000, "samples": [], "stalled": 0.6},
    )
    monkeypatch.setattr("pytest_netns.probe.throughput.exchange", lambda *_: said)
    with pytest.raises(ProbeFailure, match=r"stalled after 0.60 s of 3 s: send: timed out"):
        assert_rate(left, right, "1mbit")


def test_the_silence_is_measured() -> None:
    def told(*times: float) -> dict[str, object]:
        meter = traffic._Meter(0.1, 0.5, 2.0)
        for number, moment in enumerate(times, start=1):
            meter.mark(traffic._Count(moment, 100 * number, number, 100 * number))
        return meter.result()

    whole = told(10, 10.5, 11.5, 12.5)
    assert (whole["bytes"], whole["seconds"], whole["stalled"]) == (200, 2.0, None)
    silent = told(10, 10.5, 11.05, 11.1)
    assert (silent["bytes"], silent["seconds"], silent["segments"]) == (200, 2.0, 2)
    assert silent["stalled"] == pytest.approx(0.6)
    late = told(10, 10.5, 14.5)
    assert (late["bytes"], late["seconds"], late["stalled"]) == (100, 4.0, None)
    early = told(10, 10.4)  # before anything is counted
    assert (early["bytes"], early["seconds"], early["stalled"]) == (0, 2.0, 0.0)
    assert told()["seconds"] == 0.0


def test_no_way_there_is_a_result(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, green)
    lab.connect(blue, green).down()
    for way in ((red, blue), (blue, green)):
        found = lab.loss(*way, count=5)
        assert (found.sent, found.error) == (0, "connect: Network is unreachable")
        assert "nothing came: connect: Network is unreachable" in repr(lab.throughput(*way, protocol="udp"))
        with pytest.raises(ProbeFailure, match="connect: Network is unreachable"):
            assert_loss(*way, 0, count=5)


def test_no_message_shows_the_program(veth_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = veth_pair
    monkeypatch.setattr("pytest_netns.probe.traffic_pair._program", lambda: "very = 'long'\nraise SystemExit(3)")
    with pytest.raises(NetnsError, match=r"exit status 3") as caught:
        left.lab.loss(left, right)
    assert "very" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seconds": 0}, "seconds is 0"),
        ({"protocol": "sctp"}, "protocol is 'sctp'"),
        ({"rate": "1mbit"}, "'udp' alone"),
        ({"omit": -1}, "omit is -1"),
        ({"timeout": 0}, "timeout is 0"),
        ({"protocol": "udp", "rate": "fast"}, "rate='fast'"),
    ],
)
def test_bad_numbers_are_named(veth_pair: Pair, arguments: dict[str, object], words: str) -> None:
    left, right = veth_pair
    with pytest.raises((ValueError, TopologyError), match=words):
        left.lab.throughput(left, right, **arguments)  # type: ignore[arg-type]


@pytest.mark.netns_requires("nft")
def test_loss_counts_each_datagram(veth_pair: Pair) -> None:
    left, right = veth_pair
    whole = left.lab.loss(left, right, count=200)
    assert whole
    assert (whole.sent, whole.received, whole.lost, whole.duplicates, whole.reordered) == (200, 200, 0, 0, 0)
    lose(right, NTH)
    result = left.lab.loss(left, right, count=200)
    assert not result
    assert (result.sent, result.lost, result.loss) == (200, 10, 0.05)
    assert " 5% lost" in repr(result)


@pytest.mark.netns_requires("tap")
def test_what_is_still_under_way_is_waited_for(veth_pair: Pair) -> None:
    left, right = veth_pair
    link = left.links[0]
    link.impair(delay="2.5s", toward=right)
    assert left.lab.loss(left, right, count=20).received == 20
    link.impair(rate="96kbit", toward=right)  # a second for a dozen of them
    assert left.lab.loss(left, right, count=60, size=958).received == 60


@pytest.mark.parametrize("count", [10.5, -5, 0, True])
def test_a_count_is_a_whole_number(veth_pair: Pair, count: int) -> None:
    left, right = veth_pair
    with pytest.raises(ValueError, match=f"count is {count}"):
        assert_loss(left, right, 0, count=count)


def test_a_receiver_that_is_too_slow_proves_nothing(veth_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = veth_pair
    said = {"sent": 10}, {"received": 9, "drops": 1}
    monkeypatch.setattr("pytest_netns.probe.loss.exchange", lambda *_: said)
    with pytest.raises(NetnsError, match=r"own socket dropped 1 datagrams.*too slow for 2000 a second"):
        left.lab.loss(left, right)


@pytest.mark.netns_requires("program:tc")
def test_assert_rate_names_what_was_allowed_and_the_samples(narrow: Pair) -> None:
    left, right = narrow
    assert isinstance(assert_rate(left, right, "20mbit", tolerance=1, protocol="udp", seconds=0.5), ThroughputResult)
    with pytest.raises(ProbeFailure, match=r"expected 80 Mbit/s on the wire.*\(76 Mbit/s to 84 Mbit/s\).*samples: "):
        assert_rate(left, right, "80mbit", tolerance="5%", protocol="udp", seconds=0.3)


@pytest.mark.netns_requires("nft")
def test_assert_rtt_is_about_the_median(veth_pair: Pair) -> None:
    left, right = veth_pair
    result = assert_rtt(left, right, 0, tolerance="500ms", count=5)
    assert isinstance(result, PingResult)
    assert result.rtt is not None
    assert result.rtt.count == 5
    with pytest.raises(ProbeFailure, match=r"median round-trip time of 2 s \(1.8 s to 2.2 s\), got rtt min/avg.*of 5"):
        assert_rtt(left, right, "2s", count=5)
    with right.block(), pytest.raises(ProbeFailure, match="got no reply"):
        assert_rtt(left, right, "2s", count=2, timeout=0.05)


@pytest.mark.netns_requires("nft")
def test_assert_loss_states_the_interval(veth_pair: Pair) -> None:
    left, right = veth_pair
    assert isinstance(assert_loss(left, right, 0, count=100), LossResult)
    with pytest.raises(ProbeFailure, match=r"25 to 79 of 1000 datagrams lost, which holds in 0.9999.*: 0 lost"):
        assert_loss(left, right, "5%")
    lose(right, NTH)
    assert_loss(left, right, "5%")
    with pytest.raises(ProbeFailure, match="0 to 0 of 100 datagrams"):
        assert_loss(left, right, 0, count=100)
    with right.block():
        assert_loss(left, right, 1, count=10)
    with pytest.raises(ValueError, match="confidence is 1"):
        assert_loss(left, right, "5%", confidence=1)


@pytest.mark.netns_requires("nft")
def test_where_nothing_comes_it_is_explained(veth_pair: Pair) -> None:
    left, right = veth_pair
    with right.block(), pytest.raises(ProbeFailure, match=r"(?s)no reply.*cause: a netfilter rule on 'right' drops"):
        assert_rtt(left, right, 0, count=1, timeout=0.05)
    with right.block(), pytest.raises(ProbeFailure, match=r"(?s)100% lost.*cause: a netfilter rule on 'right' drops"):
        assert_loss(left, right, 0, count=1)
    with right.block(protocol="tcp"), pytest.raises(ProbeFailure) as caught:
        assert_rate(left, right, "1mbit", seconds=0.1)
    assert "nothing came" in str(caught.value)
    assert "\n  a ping is answered\n  in force: 'right' drops packets protocol tcp" in str(caught.value)


@pytest.mark.netns_requires("tap")
def test_what_is_in_force_is_told_when_figures_differ(veth_pair: Pair) -> None:
    left, right = veth_pair
    left.links[0].impair(delay="5ms")
    for check in (
        lambda: assert_rtt(left, right, "1s", count=2),
        lambda: assert_loss(left, right, "50%", count=100),
        lambda: assert_rate(left, right, "8bit", seconds=0.1),
    ):
        with pytest.raises(ProbeFailure, match=r"\n  in force: left:eth0 is impaired: delay 5ms by "):
            check()


def test_statistics_are_those_of_ping() -> None:
    found = RttStatistics.of([0.001, 0.002, 0.006])
    assert (found.count, found.min, found.max, found.median) == (3, 0.001, 0.006, 0.002)
    assert found.avg == pytest.approx(0.003)
    assert found.mdev == pytest.approx(0.0021602469)
    assert str(found) == "rtt min/avg/max/mdev = 1.000/3.000/6.000/2.160 ms, median 2.000 ms of 3"


def test_the_interval_holds_what_it_says() -> None:
    # scipy.stats.binom.interval(0.99, 2000, 0.05) and (0.9999, 1000, 0.05)
    assert binomial_interval(2000, 0.05, 0.99) == (76, 126)
    assert binomial_interval(1000, 0.05, 0.9999) == (25, 79)
    assert binomial_interval(10, 0, 0.99) == (0, 0)
    assert binomial_interval(10, 1, 0.99) == (10, 10)
    assert binomial_interval(10, 0.5, 0.9999) == (0, 10)
