"""Impairment as a value: ranges, and what is refused. Its units are those of test_units.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns import Impairment, TopologyError
from pytest_netns.impair.impairment import QUEUE, ActiveImpairment, Counters
from pytest_netns.impair.netem import decode, encode
from pytest_netns.impair.qdisc import differences
from pytest_netns.units import FASTEST, LONGEST, SLOWEST


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"delay": "-20ms"}, "delay='-20ms' is out of range; allowed are 0 to 3600 s"),
        ({"delay": -0.02}, "delay=-0.02 is out of range"),
        ({"delay": float("nan")}, "is no number"),
        ({"delay": float("inf")}, "out of range"),
        ({"delay": "20"}, "delay='20' lacks its unit; write e.g. '20ms', or a plain number: seconds"),
        ({"delay": "20 parsecs"}, "unknown unit 'parsecs'; known are s, sec"),
        ({"delay": "soon"}, "delay='soon' is no number with a unit"),
        ({"delay": ""}, "is no number with a unit"),
        ({"delay": True}, "expected seconds"),
        ({"delay": None}, "expected seconds"),
        ({"delay": "2h"}, "unknown unit 'h'"),
        ({"delay": "3601s"}, "out of range"),
        ({"jitter": "5ms"}, "jitter='5ms' is more than delay=0.0: a frame cannot arrive before it was sent"),
        ({"delay": "1ms", "jitter": -1}, "jitter=-1 is out of range"),
        ({"loss": "150%"}, "loss='150%' is out of range; allowed are 0 to 1 and '0%' to '100%'"),
        ({"loss": "-1%"}, "out of range"),
        ({"loss": "5"}, "lacks its unit; write e.g. '1%', or a plain number: a fraction from 0 to 1"),
        ({"loss": 5}, r"did you mean '5%'\?"),
        ({"loss": "5ms"}, "unknown unit 'ms'; known are %"),
        ({"duplicate": 1.01}, "duplicate=1.01 is out of range"),
        ({"corrupt": "101%"}, "corrupt='101%' is out of range"),
        ({"reorder": "5%"}, "reorder='5%' needs a delay"),
        ({"rate": 0}, r"rate=0 is out of range; allowed are 8 bit/s to 1 tbit; .*loss='100%'"),
        ({"rate": "0mbit"}, "out of range"),
        ({"rate": "-1mbit"}, "out of range"),
        ({"rate": "2tbit"}, "out of range"),
        ({"rate": "10mb"}, "unknown unit 'mb'; known are bit, bps, kbit"),
        ({"rate": "10"}, "lacks its unit"),
    ],
)
def test_bad_values_are_refused(given_: dict[str, object], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        Impairment(**given_)  # type: ignore[arg-type]


def test_it_is_a_value() -> None:
    one, same = Impairment(delay="20ms", loss="1%"), Impairment(loss=0.01, delay=0.02)
    assert one == same
    assert hash(one) == hash(same)
    assert one != Impairment(delay="20ms")
    assert one != "delay 20ms loss 1%"
    with pytest.raises(AttributeError):
        one.delay = 3  # type: ignore[misc]


def test_it_reads_as_tc_shows_it() -> None:
    every = Impairment(
        delay="20ms", jitter="500us", loss="1%", rate="1.5mbit", reorder=0.25, duplicate="2%", corrupt="0.1%"
    )
    assert str(every) == "delay 20ms jitter 500us loss 1% reorder 25% duplicate 2% corrupt 0.1% rate 1.5mbit"
    assert repr(Impairment(delay=1.5, rate=1234567)) == "<Impairment delay 1.5s rate 1234.567kbit>"
    assert str(Impairment(rate=999)) == "rate 999bit"
    assert str(Impairment(delay="20ns")) == "delay 20ns"
    assert str(Impairment()) == "nothing"


def test_another_one_is_made_from_it() -> None:
    one = Impairment(delay="20ms", rate="1mbit")
    assert one.but(loss="1%", rate=None) == Impairment(delay="20ms", loss="1%")
    assert one == Impairment(delay="20ms", rate="1mbit")
    with pytest.raises(TopologyError, match="jitter=1"):
        one.but(jitter=1)


def test_one_in_force_equals_its_value_and_tells_who_does_it() -> None:
    value = Impairment(delay="20ms", loss="1%")
    active = ActiveImpairment(value, "relay", 7, Counters(passed=5, lost=1))
    assert active == value
    assert value == active
    assert hash(active) == hash(value)
    assert (active.engine, active.seed, active.counters.lost) == ("relay", 7, 1)
    assert repr(active) == "<Impairment delay 20ms loss 1% by relay, seed 7: 5 passed, 1 lost>"
    assert type(active.but(loss=0)) is Impairment


def test_how_many_may_be_under_way() -> None:
    assert Impairment(delay="1s").limit == 100_000
    assert Impairment(rate="1mbit").limit == QUEUE
    assert QUEUE < Impairment(rate="1mbit", delay="1s").limit < 2 * QUEUE + 3000


_times = st.floats(0, LONGEST).map(lambda value: round(value, 6))
_fractions = st.floats(0, 1)


@given(
    delay=_times,
    spread=_fractions,
    loss=_fractions,
    rate=st.none() | st.integers(SLOWEST, FASTEST),
    reorder=_fractions,
    duplicate=_fractions,
    corrupt=_fractions,
    seed=st.none() | st.integers(0, (1 << 64) - 1),
)
def test_what_netem_is_told_can_be_read_back(
    delay: float,
    spread: float,
    loss: float,
    rate: int | None,
    reorder: float,
    duplicate: float,
    corrupt: float,
    seed: int | None,
) -> None:
    asked = Impairment(
        delay=delay,
        jitter=delay * spread,
        loss=loss,
        rate=rate,
        reorder=reorder if delay else 0,
        duplicate=duplicate,
        corrupt=corrupt,
    )
    found, got = decode(encode(asked, seed))
    assert differences(asked, found) == []
    assert got == seed


def test_what_netem_has_not_taken_is_told() -> None:
    asked = Impairment(delay="20ms", loss="1%", rate="1mbit")
    assert differences(asked, Impairment(delay="20ms")) == [
        "loss is 0 instead of 0.01",
        "rate is None instead of 1000000 bit/s",
    ]
    assert differences(asked, asked.but(delay="20.000100ms")) == []
    assert differences(asked, asked.but(delay="20.001ms")) == ["delay is 0.020001 instead of 0.02"]
