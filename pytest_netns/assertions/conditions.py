"""Assertions about how well a path carries: rate, round-trip time and loss, each within a tolerance that is stated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_netns.assertions.retry import asked, check_node, standing, why
from pytest_netns.errors import ProbeFailure
from pytest_netns.lab.lab import lab_of
from pytest_netns.lab.nodes import Node
from pytest_netns.units import (
    Quantity,
    bits_per_second,
    fraction,
    measured_rate,
    measured_time,
)
from pytest_netns.units import seconds as seconds_of

if TYPE_CHECKING:
    from pytest_netns.probe.loss import LossResult
    from pytest_netns.probe.ping_result import PingResult
    from pytest_netns.probe.throughput import ThroughputResult
    from pytest_netns.probe.traffic_pair import Protocol
    from pytest_netns.stack.destination import Destination
    from pytest_netns.stack.interface import Interface


def assert_rate(
    source: Node,
    destination: Node | Interface,
    rate: Quantity,
    *,
    tolerance: Quantity = 0.05,
    seconds: float = 1.0,
    protocol: Protocol = "tcp",
    omit: float = 0.25,
) -> ThroughputResult:
    """Assert the rate of a path, counted on the wire as tc(8) does, headers included; returns the result.

    Args:
        source: the sending node.
        destination: the receiving node, or an interface of one.
        rate: in bit/s, or in tc's words: ``"10mbit"``.
        tolerance: share of the rate by which the measured one may differ, 0 to 1, or text: ``"5%"``.
        seconds: how long to measure; the shorter, the more a single burst counts.
        protocol: ``"tcp"``, or ``"udp"``, which is sent a fifth faster than ``rate``, so that a slower path shows.
        omit: seconds at the beginning that are not counted.

    Raises:
        ProbeFailure: with what was allowed, what was measured, for how long, and the samples; or nothing came any more
            before the time was over.

    Example:
        >>> link.impair(rate="10mbit")
        >>> assert_rate(red, blue, "10mbit", tolerance="10%")
    """
    __tracebackhide__ = True
    check_node(source)
    wanted = bits_per_second("rate", rate)
    share = fraction("tolerance", tolerance)
    margin = wanted * share
    result = lab_of(source).throughput(
        source,
        destination,
        seconds=seconds,
        protocol=protocol,
        omit=omit,
        rate=wanted * 1.2 if protocol == "udp" else None,
    )
    if result and result.stalled is None and abs(result.wire_rate - wanted) <= margin:
        return result
    raise ProbeFailure(
        f"expected {measured_rate(wanted)} on the wire, give or take {share:.3g} "
        f"({measured_rate(wanted - margin)} to {measured_rate(wanted + margin)}); {asked(result)}"
        f"{'; samples: ' + ', '.join(map(measured_rate, result.samples)) if result.samples else ''}"
        f"{standing(source) if result else _nothing_came(source, destination)}"
    )


def assert_rtt(
    source: Node,
    destination: Destination,
    rtt: Quantity,
    *,
    tolerance: Quantity | None = None,
    count: int = 20,
    interval: float = 0.0,
    timeout: float = 2.0,
) -> PingResult:
    """Assert the median round-trip time; returns the result.

    Args:
        source: the node that sends the probe.
        destination: a node, an interface or an address.
        rtt: in seconds, or in tc's words: ``"40ms"``. It is there and back: twice a link's ``delay``. A request that is
            not counted goes ahead, for ARP or neighbour discovery take a round trip of their own.
        tolerance: by how much the median may differ, in seconds or tc's words; a tenth of ``rtt`` if None.
        count: how many echo requests.
        interval: seconds between requests; 0 sends the next one when the reply has arrived.
        timeout: seconds to wait for each reply.

    Raises:
        ProbeFailure: with what was allowed, and minimum, mean, median and maximum of so many; or no reply came.

    Example:
        >>> link.impair(delay="20ms")
        >>> assert_rtt(red, blue, "40ms", tolerance="10ms")
    """
    __tracebackhide__ = True
    check_node(source)
    wanted = seconds_of("rtt", rtt)
    margin = wanted / 10 if tolerance is None else seconds_of("tolerance", tolerance)
    source.ping(destination, timeout=timeout)  # finds the neighbours
    result = source.ping(destination, count=count, interval=interval, timeout=timeout)
    found = result.rtt
    if found is not None and abs(found.median - wanted) <= margin:
        return result
    allowed = f"{measured_time(max(0.0, wanted - margin))} to {measured_time(wanted + margin)}"
    raise ProbeFailure(
        f"expected a median round-trip time of {measured_time(wanted)} ({allowed}), got "
        f"{found or 'no reply'}; {asked(result)}"
        f"{standing(source) if found is not None else _unanswered(source, result)}"
    )


def assert_loss(
    source: Node,
    destination: Node | Interface,
    loss: Quantity,
    *,
    count: int = 1000,
    confidence: float = 0.9999,
    per_second: float = 2000.0,
    size: int = 64,
) -> LossResult:
    """Assert the one-way loss probability of a path; returns the result.

    The number that is lost must be within the central interval of the binomial distribution: a path that loses with
    just this probability, each packet by itself, is outside once in ``1 / (1 - confidence)`` runs. The more packets,
    the narrower it is.

    Args:
        source: the sending node.
        destination: the receiving node, or an interface of one.
        loss: 0 to 1, or text: ``"5%"``. 0: none may be lost; 1: none may come.
        count: how many datagrams.
        confidence: more than 0 and less than 1.
        per_second: how many of them a second.
        size: bytes of each.

    Raises:
        ProbeFailure: with the interval, the number of packets and what became of them.
        NetnsError: the receiver was too slow to count reliably.

    Example:
        >>> link.impair(loss="5%", toward=blue)
        >>> assert_loss(red, blue, "5%")
    """
    __tracebackhide__ = True
    check_node(source)
    wanted = fraction("loss", loss)
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; it can be more than 0 and less than 1")
    result = lab_of(source).loss(source, destination, count=count, per_second=per_second, size=size)
    low, high = binomial_interval(count, wanted, confidence)
    if result.sent == count and low <= result.lost <= high:
        return result
    raise ProbeFailure(
        f"expected a loss of {wanted:.4g}: {low} to {high} of {count} datagrams lost, which holds in "
        f"{confidence:.6g} of all runs; {asked(result)}: {result.lost} lost"
        f"{standing(source) if result.received else _nothing_came(source, destination)}"
    )


def _nothing_came(source: Node, destination: Node | Interface) -> str:
    """What a ping tells of the path, as lines for a message."""
    result = source.ping(destination)
    return f"\n  a ping is answered{standing(source)}" if result else _unanswered(source, result)


def _unanswered(source: Node, result: PingResult) -> str:
    return f"\n{why(source, lambda questions: questions.ping_question(source, result, {}))}"


def binomial_interval(count: int, probability: float, confidence: float) -> tuple[int, int]:
    """The central interval that holds a binomially distributed number with at least this confidence."""
    if probability in (0, 1):
        return (0, 0) if probability == 0 else (count, count)
    tail = (1 - confidence) / 2
    logs = math.log(probability), math.log1p(-probability)

    def density(k: int) -> float:
        ways = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        return math.exp(ways + k * logs[0] + (count - k) * logs[1])

    low, below = 0, density(0)
    while below <= tail:
        low += 1
        below += density(low)
    high, above = count, density(count)
    while above <= tail:
        high -= 1
        above += density(high)
    return low, high
