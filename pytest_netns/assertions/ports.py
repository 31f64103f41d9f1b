"""Assertions about TCP and UDP ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from pytest_netns.assertions.blocked import check_by
from pytest_netns.assertions.retry import Silence, asked, check_by_node, check_node, check_waited, until, way, why
from pytest_netns.errors import ProbeFailure
from pytest_netns.lab.nodes import Node

if TYPE_CHECKING:
    from pytest_netns.assertions.probe_options import TcpOptions, UdpOptions
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.udp import UdpResult
    from pytest_netns.stack.destination import Destination


_NOT_OPEN = ("closed", "filtered", "unreachable", "answered-elsewhere", "bad-checksum")


def _assert_tcp(
    source: Node,
    destination: Destination,
    port: int,
    wanted: Sequence[str],
    within: float | None,
    probe: TcpOptions,
    by: Node | None = None,
) -> TcpResult:
    __tracebackhide__ = True
    check_node(source)
    check_by_node(by)
    with Silence(source) as silence:
        ask = silence.asking(lambda: source.tcp(destination, port, **probe))
        result, tries = until(ask, lambda r: r.state in wanted, within)
    if result.state not in wanted:
        expected = " or ".join(wanted)
        head = f"expected {expected}: {asked(result)}{tries}"
        if wanted == ["open"]:
            raise ProbeFailure(f"{head}\n{why(source, lambda q: q.tcp_question(source, result))}")
        if result.state == "open":
            raise ProbeFailure(f"{head}\n{way(source, result)}")
        raise ProbeFailure(f"{head}\n{why(source, lambda q: q.tcp_question(source, result))}")
    if result.state != "open":
        silence.prove(
            result.error,
            "SYN",
            lambda f, d: (
                d.was_sent(f, "tcp", source, result.address, port) or d.drops_its_own(source, result.address, port)
            ),
        )
    check_by(source, result, by)
    return result


def assert_tcp_open(
    source: Node,
    /,
    destination: Destination,
    port: int,
    *,
    within: float | None = None,
    **probe: Unpack[TcpOptions],
) -> TcpResult:
    """Assert that a TCP port is open, seen from ``source``; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        within: seconds to retry; None: probe once.
        **probe: timeout (seconds), source: keywords of ``Node.tcp``.

    Raises:
        ProbeFailure: there was no answer; the message gives the cause.

    Example:
        >>> assert_tcp_open(red, blue, 80, within=5)
    """
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, ["open"], within, probe)


def assert_tcp_not_open(
    source: Node,
    /,
    destination: Destination,
    port: int,
    *,
    by: Node | None = None,
    within: float | None = None,
    **probe: Unpack[TcpOptions],
) -> TcpResult:
    """Assert that a TCP port is closed, filtered or unreachable; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        by: the node whose rule must have dropped or rejected it; None: any.
        within: seconds to retry; None: probe once.
        **probe: timeout (seconds), source: keywords of ``Node.tcp``.

    Raises:
        ProbeFailure: it is open; or nothing was sent.

    Example:
        >>> assert_tcp_not_open(red, blue, 81)
    """
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, _NOT_OPEN, within, probe, by)


def assert_tcp_closed(
    source: Node,
    /,
    destination: Destination,
    port: int,
    *,
    by: Node | None = None,
    within: float | None = None,
    **probe: Unpack[TcpOptions],
) -> TcpResult:
    """Assert that a TCP port is closed: a RST comes back; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        by: the node whose rule must have dropped or rejected it; None: any.
        within: seconds to retry; None: probe once.
        **probe: timeout (seconds), source: keywords of ``Node.tcp``.

    Raises:
        ProbeFailure: it is not, with the cause.

    Example:
        >>> assert_tcp_closed(red, blue, 81)
    """
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, ["closed"], within, probe, by)


def assert_tcp_filtered(
    source: Node,
    /,
    destination: Destination,
    port: int,
    *,
    by: Node | None = None,
    within: float | None = None,
    **probe: Unpack[TcpOptions],
) -> TcpResult:
    """Assert that a SYN gets no answer, and that it was sent; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        by: the node whose rule must have dropped or rejected it; None: any.
        within: seconds to retry; None: probe once.
        **probe: timeout (seconds), source: keywords of ``Node.tcp``.

    Raises:
        ProbeFailure: it was answered; or nothing was sent.

    Example:
        >>> blue.block(protocol="tcp", port=80)
        >>> assert_tcp_filtered(red, blue, 80, by=blue, timeout=0.2)
    """
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, ["filtered"], within, probe, by)


def assert_udp(
    source: Node,
    /,
    destination: Destination,
    port: int,
    payload: bytes = b"",
    *,
    within: float | None = None,
    **probe: Unpack[UdpOptions],
) -> UdpResult:
    """Assert that a datagram is answered; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        payload: bytes to send.
        within: seconds to retry; None: probe once.
        **probe: timeout (seconds), ttl, source: keywords of ``Node.udp``.

    Raises:
        ProbeFailure: there was no answer; the message gives the cause.

    Example:
        >>> assert_udp(red, blue, 7, b"hello", within=5)
    """
    __tracebackhide__ = True
    check_node(source)
    result, tries = until(lambda: source.udp(destination, port, payload, **probe), bool, within)
    if result:
        return result
    raise ProbeFailure(f"{asked(result)}{tries}\n{why(source, lambda q: q.udp_question(source, result, payload))}")


def assert_no_udp(
    source: Node,
    /,
    destination: Destination,
    port: int,
    payload: bytes = b"",
    *,
    by: Node | None = None,
    within: float | None = None,
    **probe: Unpack[UdpOptions],
) -> UdpResult:
    """Assert that a datagram is not answered, and that it was sent; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        payload: bytes to send.
        by: the node whose rule must have dropped or rejected it; None: any.
        within: seconds to retry; None: probe once.
        **probe: timeout (seconds), ttl, source: keywords of ``Node.udp``.

    Raises:
        ProbeFailure: it was answered; or nothing was sent.

    Example:
        >>> assert_no_udp(red, blue, 9, b"hello", timeout=0.2)
    """
    __tracebackhide__ = True
    check_node(source)
    check_by_node(by)
    with Silence(source) as silence:
        ask = silence.asking(lambda: source.udp(destination, port, payload, **probe))
        result, tries = until(ask, lambda r: not r and r.in_flight is None, within)
    if result:
        raise ProbeFailure(f"expected no answer, but got one{tries}: {asked(result)}\n{way(source, result)}")
    check_waited(result)
    silence.prove(result.error, "datagram", lambda f, d: d.was_sent(f, "udp", source, result.address, port))
    check_by(source, result, by, payload)
    return result
