"""A rate and nothing else, by the kernel's token bucket. That it keeps the rate is tested with the other engines."""

from __future__ import annotations

import contextlib
import json

import pytest
from slowness import SLOWNESS
from test_impair import Pair, Stream

from pytest_netns import Host, Impairment, KernelError, Lab, Link, TopologyError, UnsupportedError, eventually
from pytest_netns.impair import engine as engines
from pytest_netns.impair import tbf
from pytest_netns.kernel.features.features import Feature, feature

pytestmark = pytest.mark.netns_requires("tbf")


@pytest.fixture
def link(veth_pair: Pair) -> Link:
    return veth_pair[0].links[0]


@pytest.fixture
def without_netem(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = Feature("netem", False, "this kernel lacks it")
    monkeypatch.setattr(
        "pytest_netns.kernel.features.features.feature", lambda name: lacking if name == "netem" else feature(name)
    )
    engines._netem_takes_seeds.cache_clear()


def qdiscs(host: Host) -> str:
    return host.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout


@pytest.mark.parametrize("mtu", [68, 1500, 65535])
@pytest.mark.parametrize("rate", [1, 125_000, 2**32 - 1, 2**32, 2**40])
def test_what_it_is_told_can_be_read_back(rate: int, mtu: int) -> None:
    assert tbf.decode(tbf.encode(rate, mtu)) == rate


@pytest.mark.parametrize("rate", ["8bit", "10kbit", "10mbit", "100gbit"])
def test_the_kernel_keeps_what_was_asked(link: Link, rate: str) -> None:
    link.impair(rate=rate, engine="tbf")
    assert link.impairment == Impairment(rate=rate)
    assert repr(link.impairment) == f"<Impairment rate {rate} by tbf>"


@pytest.mark.usefixtures("without_netem")
@pytest.mark.netns_requires("program:tc", "tap")
def test_it_is_chosen_for_a_rate_alone_where_there_is_no_netem(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    for asked, engine in (
        ({"rate": "10mbit"}, "tbf"),
        ({"rate": "10mbit", "delay": "1ms"}, "relay"),
        ({"rate": "20mbit"}, "tbf"),
        ({"rate": "20mbit", "seed": 1}, "relay"),
        ({"loss": "0.0001%"}, "relay"),  # a ping must come through
    ):
        link.impair(**asked)  # type: ignore[arg-type]
        assert link.impairment is not None
        assert link.impairment.engine == engine
        assert ("tbf" in qdiscs(red)) == (engine == "tbf")
        assert ("mirred" in red.run(["tc", "filter", "show", "dev", "eth0", "egress"]).stdout) == (engine == "relay")
        assert red.ping(blue)


@pytest.mark.kernel
@pytest.mark.netns_requires("netem")
def test_netem_and_tbf_take_turns(link: Link) -> None:
    for engine in ("tbf", "netem", "tbf"):
        link.impair(rate="10mbit", engine=engine)  # type: ignore[arg-type]
        assert link.impairment is not None
        assert link.impairment.engine == engine
    link.heal()
    assert "noqueue" in qdiscs(link.a.node)  # type: ignore[arg-type]


@pytest.mark.netns_requires("program:tc")
def test_it_does_nothing_but_a_rate(link: Link) -> None:
    with pytest.raises(UnsupportedError, match=r"limits a rate.* this was asked: delay 1ms rate 1mbit; use engine="):
        link.impair(delay="1ms", rate="1mbit", engine="tbf")
    with pytest.raises(UnsupportedError, match="tbf leaves nothing to chance at left:eth0"):
        link.impair(rate="1mbit", seed=7, engine="tbf")
    assert link.impairment is None
    assert "noqueue" in qdiscs(link.a.node)  # type: ignore[arg-type]


def test_what_waits_goes_at_once_when_it_is_healed(veth_pair: Pair, link: Link) -> None:
    left, right = veth_pair
    assert left.ping(right)
    link.impair(rate="10kbit", toward=right, engine="tbf")
    stream = Stream(left, right, 1000)
    stream.send(50)  # forty seconds of it
    assert link.a.impairment is not None
    link.heal()
    assert link.impairment is None
    assert stream.all() == list(range(50))
    assert max(stream.delays()) < 20
    assert left.ping(right)


class Flow:
    """TCP without end from one host to another."""

    def __init__(self, source: Host, target: Host) -> None:
        with target.socket() as listener:
            listener.bind(("", 0))
            listener.listen()
            self.outlet = source.socket()
            self.outlet.connect((str(target.ip4), listener.getsockname()[1]))
            self.inlet, _ = listener.accept()
        for end in (self.outlet, self.inlet):
            end.setblocking(False)
        self.taken = 0

    def turn(self) -> int:
        """Send and take what goes; bytes that have come so far."""
        with contextlib.suppress(BlockingIOError):
            while self.outlet.send(bytes(1 << 18)):
                pass
        with contextlib.suppress(BlockingIOError):
            while more := self.inlet.recv(1 << 18):
                self.taken += len(more)
        return self.taken

    def close(self) -> None:
        self.outlet.close()
        self.inlet.close()


def waiting(link: Link) -> int:
    """Bytes in the queue of its end ``a``."""
    shown = json.loads(link.a.node.run(["tc", "-s", "-j", "qdisc", "show", "dev", "eth0"]).stdout)
    found: int = shown[0]["backlog"]
    return found


@pytest.mark.parametrize("lower", ["10mbit", "8mbit", "1mbit"])
@pytest.mark.netns_requires("program:tc")
def test_a_flow_goes_on_when_the_rate_is_lowered(veth_pair: Pair, link: Link, lower: str) -> None:
    left, right = veth_pair
    link.impair(rate="20mbit", engine="tbf")
    with contextlib.closing(Flow(left, right)) as flow:
        eventually(lambda: flow.turn() > 300_000 and waiting(link) > 50_000, within=20 * SLOWNESS)
        link.impair(rate=lower, engine="tbf")
        before = flow.taken + waiting(link)
        eventually(lambda: flow.turn() > before + 10_000, within=20 * SLOWNESS)


@pytest.mark.parametrize("first", [True, False], ids=["at first", "once more"])
@pytest.mark.netns_requires("tap")
def test_what_waits_goes_when_the_relay_takes_over(veth_pair: Pair, link: Link, first: bool) -> None:
    left, right = veth_pair
    assert left.ping(right)
    if not first:
        with link.impaired(delay="1ms", engine="relay"):
            pass
    link.impair(rate="100kbit", engine="tbf")
    stream = Stream(left, right, 1000)
    stream.send(20)
    link.impair(delay="1ms", engine="relay")
    assert stream.all() == list(range(20))


@pytest.mark.netns_requires("program:tc")
def test_what_was_before_is_back_where_the_relay_cannot_take_over(
    veth_pair: Pair, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, _ = veth_pair
    link.impair(rate="100kbit", engine="tbf")
    monkeypatch.setattr("pytest_netns.kernel.tun_driver.PATH", "/dev/net/none")
    with pytest.raises(UnsupportedError):
        link.a.impair(delay="1ms", engine="relay")
    assert link.a.impairment == Impairment(rate="100kbit")
    assert "rate 100Kbit" in qdiscs(left)


@pytest.mark.netns_requires("program:tc")
def test_frames_of_an_earlier_mtu_leave(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, mtu=9000)
    assert red.ping(blue)
    link.impair(rate="200kbit", engine="tbf")  # a third of a second for each
    stream = Stream(red, blue, 8900)
    stream.send(4)
    link.a.mtu = 1500  # the other end takes long ones still
    assert waiting(link) > 8900
    assert stream.all() == list(range(4))
    assert red.ping(blue)


def test_it_counts_what_has_no_room(veth_pair: Pair, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = veth_pair
    assert left.ping(right)
    monkeypatch.setattr(tbf, "QUEUE", 10)
    link.impair(rate="10kbit", toward=right, engine="tbf")  # a second for each
    Stream(left, right, 1400).send(100)
    active = link.a.impairment
    assert active is not None
    assert 80 <= active.counters.overflowed <= 90


def test_its_bucket_holds_the_frames_of_a_new_mtu(veth_pair: Pair, link: Link) -> None:
    left, right = veth_pair
    link.impair(rate="1mbit", engine="tbf")
    for mtu in (9000, 1300):
        link.a.mtu = link.b.mtu = mtu
        assert left.ping(right.ip4, size=mtu - 28, df=True)


@pytest.mark.netns_requires("program:tc")
def test_a_qdisc_of_somebody_else_stays(veth_pair: Pair, link: Link) -> None:
    left, _ = veth_pair
    left.run(["tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "pfifo"])
    with pytest.raises(TopologyError, match="has the queueing discipline 'pfifo', which tbf would replace; remove it"):
        link.impair(rate="1mbit", engine="tbf")
    assert "pfifo" in qdiscs(left)
    assert link.impairment is None


@pytest.mark.netns_requires("program:tc")
def test_its_removal_by_hand_is_told(veth_pair: Pair, link: Link) -> None:
    left, _ = veth_pair
    link.impair(rate="1mbit", engine="tbf")
    left.run(["tc", "qdisc", "delete", "dev", "eth0", "root"])
    with pytest.raises(KernelError, match="tbf was removed by other means"):
        _ = link.a.impairment
    link.heal()
