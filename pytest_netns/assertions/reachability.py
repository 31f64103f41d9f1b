"""Assertions about ping and ARP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from pytest_netns.assertions.blocked import check_arp_by, check_by
from pytest_netns.assertions.retry import (
    Silence,
    arp_way,
    asked,
    check_by_node,
    check_node,
    check_waited,
    until,
    way,
    why,
)
from pytest_netns.errors import ProbeFailure
from pytest_netns.lab.nodes import Node

if TYPE_CHECKING:
    from pytest_netns.assertions.probe_options import ArpOptions, PingOptions
    from pytest_netns.probe.arp import ArpResult
    from pytest_netns.probe.ping_result import PingResult
    from pytest_netns.stack.destination import Destination


def assert_ping(
    source: Node, /, destination: Destination, *, within: float | None = None, **probe: Unpack[PingOptions]
) -> PingResult:
    """Assert that ``destination`` answers every echo request of ``source``; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        within: seconds to retry; None: probe once.
        **probe: count, interval, timeout (seconds), size (bytes), ttl, df, source: keywords of ``Node.ping``.

    Raises:
        ProbeFailure: there was no answer; the message gives the cause.

    Example:
        >>> assert_ping(red, blue, within=5)
    """
    __tracebackhide__ = True
    check_node(source)
    result, tries = until(lambda: source.ping(destination, **probe), bool, within)
    if result:
        return result
    raise ProbeFailure(f"{asked(result)}{tries}\n{why(source, lambda q: q.ping_question(source, result, probe))}")


def assert_no_ping(
    source: Node,
    /,
    destination: Destination,
    *,
    by: Node | None = None,
    within: float | None = None,
    **probe: Unpack[PingOptions],
) -> PingResult:
    """Assert that ``destination`` answers no echo request, and that one was sent; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        by: the node whose rule must have dropped or rejected it; None: any.
        within: seconds to retry until no answer comes; None: probe once.
        **probe: count, interval, timeout (seconds), size (bytes), ttl, df, source: keywords of ``Node.ping``.

    Raises:
        ProbeFailure: an answer came; or nothing was sent.

    Example:
        >>> blue.block(protocol="icmp")
        >>> assert_no_ping(red, blue, by=blue, timeout=0.2)
    """
    __tracebackhide__ = True
    check_node(source)
    check_by_node(by)
    with Silence(source) as silence:
        ask = silence.asking(lambda: source.ping(destination, **probe))
        result, tries = until(ask, lambda r: r.received == 0 and r.in_flight is None, within)
    if result.received:
        raise ProbeFailure(f"expected no answer, but got one{tries}: {asked(result)}\n{way(source, result)}")
    check_waited(result)
    silence.prove(result.error, "echo request", lambda f, d: d.was_sent(f, "ping", source, result.address))
    check_by(source, result, by, probe=probe)
    return result


def assert_arp(
    source: Node, /, destination: Destination, *, within: float | None = None, **probe: Unpack[ArpOptions]
) -> ArpResult:
    """Assert that an address on the link of ``source`` resolves by ARP or neighbour discovery; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        within: seconds to retry; None: probe once.
        **probe: timeout (seconds), dad, source: keywords of ``Node.arp``.

    Raises:
        ProbeFailure: there was no answer; the message gives the cause.

    Example:
        >>> assert assert_arp(red, blue).mac == blue.mac
    """
    __tracebackhide__ = True
    check_node(source)
    result, tries = until(lambda: source.arp(destination, **probe), bool, within)
    if result:
        return result
    from pytest_netns.explain.why import why as explained

    raise ProbeFailure(f"{asked(result)}{tries}\n{explained(result)}")


def assert_no_arp(
    source: Node,
    /,
    destination: Destination,
    *,
    by: Node | None = None,
    within: float | None = None,
    **probe: Unpack[ArpOptions],
) -> ArpResult:
    """Assert that an address does not resolve, and that the request was sent; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        by: the node whose rule must have dropped or rejected it; None: any.
        within: seconds to retry until there is no answer; None: probe once.
        **probe: timeout (seconds), dad, source: keywords of ``Node.arp``.

    Raises:
        ProbeFailure: there was an answer, and which way it came; or nothing was sent.

    Example:
        >>> assert_no_arp(red, "192.168.15.99", timeout=0.2)
    """
    __tracebackhide__ = True
    check_node(source)
    check_by_node(by)
    with Silence(source) as silence:
        result, tries = until(silence.asking(lambda: source.arp(destination, **probe)), _is_unanswered, within)
    if result:
        raise ProbeFailure(f"expected no answer, but got one{tries}: {asked(result)}\n{arp_way(source, result)}")
    check_waited(result)
    silence.prove(result.error, "question", lambda f, d: d.has_asked(f, result.address))
    check_arp_by(source, destination, result.address, by)
    return result


def _is_unanswered(result: ArpResult) -> bool:
    return not result and result.in_flight is None
