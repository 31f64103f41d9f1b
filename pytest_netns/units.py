"""Units of tc(8), "PARAMETERS": times, rates and probabilities, from text or plain numbers, and back to text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pytest_netns.errors import TopologyError

#: In seconds and in bit/s. As with tc(8), upper and lower case are the same.
TIMES = {
    **dict.fromkeys(("s", "sec", "secs"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs"), 1e-3),
    **dict.fromkeys(("us", "usec", "usecs"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nsecs"), 1e-9),
}
_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    letter + "i": 1 << 10 * power for power, letter in enumerate("kmgt", start=1)
}
RATES = {
    prefix + unit: factor * bits for prefix, factor in _PREFIXES.items() for unit, bits in (("bit", 1), ("bps", 8))
}

#: Longest time in seconds.
LONGEST = 3600.0
#: Lowest rate in bit/s: the kernel counts whole bytes a second.
SLOWEST = 8
#: Highest rate in bit/s.
FASTEST = 10**12

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z%µ]*)\s*", re.ASCII)

Quantity = str | float


def _number(what: str, value: object, units: Mapping[str, float], example: str, plain: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TopologyError(f"{what}={value!r}: expected {plain}, or text such as {example!r}")
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None:
            raise TopologyError(f"{what}={value!r} is no number with a unit; write e.g. {example!r}")
        number, unit = float(match[1]), match[2].lower()
        if not unit:
            raise TopologyError(f"{what}={value!r} lacks its unit; write e.g. {example!r}, or a plain number: {plain}")
        if unit not in units:
            raise TopologyError(f"{what}={value!r}: unknown unit {match[2]!r}; known are {', '.join(units)}")
        result = number * units[unit]
    else:
        result = float(value)
    if math.isnan(result):
        raise TopologyError(f"{what}={value!r} is no number")
    return result


def seconds(what: str, value: object) -> float:
    """A time in seconds, from a number of seconds or text with a unit of tc(8), e.g. ``"20ms"``.

    Raises:
        TopologyError: negative, longer than an hour, of an unknown unit, or no time at all.
    """
    found = _number(what, value, TIMES, "20ms", "seconds")
    if not 0 <= found <= LONGEST:
        raise TopologyError(f"{what}={value!r} is out of range; allowed are 0 to {LONGEST:.0f} s")
    return round(found, 9)


def fraction(what: str, value: object) -> float:
    """A probability from 0 to 1, from a number or text with a percent sign, e.g. ``"1%"``.

    Raises:
        TopologyError: negative, above 100 %, without its percent sign, or no probability at all.
    """
    found = _number(what, value, {"%": 0.01}, "1%", "a fraction from 0 to 1")
    if not 0 <= found <= 1:
        hint = f"; did you mean '{value}%'?" if not isinstance(value, str) and 1 < found <= 100 else ""
        raise TopologyError(f"{what}={value!r} is out of range; allowed are 0 to 1 and '0%' to '100%'{hint}")
    return found


def bits_per_second(what: str, value: object) -> int:
    """A rate in bit/s, from a number or text with a unit of tc(8): ``"10mbit"``, ``"1Mibit"``, ``"100kbps"`` (bytes).

    Raises:
        TopologyError: below 8 bit/s, above 1 Tbit/s, of an unknown unit, or no rate at all.
    """
    found = _number(what, value, RATES, "10mbit", "bit/s")
    if not SLOWEST <= found <= FASTEST:
        hint = "; for a link that carries nothing use loss='100%', or link.down()" if found < SLOWEST else ""
        raise TopologyError(f"{what}={value!r} is out of range; allowed are {SLOWEST} bit/s to 1 tbit{hint}")
    return round(found)


def time_text(value: float) -> str:
    """A time in tc's words, e.g. ``20ms``."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= factor:
            return f"{round(value / factor, 6):.10g}{unit}"
    return f"{value * 1e9:.6g}ns"


def rate_text(value: int) -> str:
    """A rate in tc's words, exactly: ``10mbit``."""
    for unit, factor in (("tbit", 10**12), ("gbit", 10**9), ("mbit", 10**6), ("kbit", 10**3)):
        if value >= factor and value * 1000 % factor == 0:
            return f"{value / factor:.15g}{unit}"
    return f"{value}bit"


def measured_rate(value: float) -> str:
    """A measured rate for people, e.g. ``9.57 Mbit/s``."""
    for unit, factor in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if value >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value:.4g} bit/s"


def measured_time(value: float) -> str:
    """A measured time for people, e.g. ``40.21 ms``."""
    return f"{value * 1000:.4g} ms" if value < 1 else f"{value:.4g} s"
