from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns import TopologyError
from pytest_netns.units import (
    bits_per_second,
    fraction,
    measured_rate,
    measured_time,
    rate_text,
    seconds,
    time_text,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20ms", 0.02),
        ("20 ms", 0.02),
        ("20MSECS", 0.02),
        ("1s", 1),
        ("1.5 sec", 1.5),
        ("3us", 3e-6),
        ("250usec", 0.00025),
        ("7NS", 7e-9),
        (0.25, 0.25),
        (0, 0),
        (".5ms", 5e-4),
        ("1e-3s", 0.001),
    ],
)
def test_times(text: str | float, value: float) -> None:
    assert seconds("delay", text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10mbit", 10**7),
        ("10Mbit", 10**7),
        ("1kbit", 1000),
        ("1Kibit", 1024),
        ("1Mibit", 1 << 20),
        ("1tbit", 10**12),
        ("100kbps", 800_000),
        ("1Mibps", 8 << 20),
        ("10bps", 80),
        ("8bit", 8),
        ("1.5gbit", 1_500_000_000),
        (1e6, 10**6),
    ],
)
def test_rates(text: str | float, value: int) -> None:
    assert bits_per_second("rate", text) == value


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0.1 %", 0.001), (0.5, 0.5), ("100%", 1), (0, 0)])
def test_fractions(text: str | float, value: float) -> None:
    assert fraction("loss", text) == value


@pytest.mark.parametrize(
    ("convert", "value", "words"),
    [
        (seconds, -1, "delay=-1 is out of range; allowed are 0 to 3600 s"),
        (seconds, "20", "lacks its unit"),
        (seconds, "20mbit", "unknown unit 'mbit'; known are s, sec"),
        (seconds, "soon", "is no number"),
        (seconds, True, "expected seconds"),
        (seconds, float("nan"), "is no number"),
        (fraction, "150%", "out of range"),
        (fraction, 5, "did you mean '5%'"),
        (fraction, None, "expected a fraction"),
        (bits_per_second, 0, r"out of range.*loss='100%'"),
        (bits_per_second, "10", "lacks its unit"),
        (bits_per_second, "2tbit", "out of range"),
    ],
)
def test_what_is_no_value_is_told(convert: object, value: object, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        convert("delay", value)  # type: ignore[operator]


@given(st.floats(1e-9, 3600).map(lambda value: round(value, 9)))
def test_a_time_survives_its_text(value: float) -> None:
    assert seconds("delay", time_text(value)) == pytest.approx(value, rel=1e-6, abs=1e-9)


@given(st.integers(8, 10**12))
def test_a_rate_survives_its_text(value: int) -> None:
    assert bits_per_second("rate", rate_text(value)) == value


def test_what_was_measured_is_for_people() -> None:
    assert [measured_rate(x) for x in (9.5678e6, 1.2e9, 1500, 10)] == [
        "9.568 Mbit/s",
        "1.2 Gbit/s",
        "1.5 kbit/s",
        "10 bit/s",
    ]
    assert [measured_time(x) for x in (0.0402, 2)] == ["40.2 ms", "2 s"]
