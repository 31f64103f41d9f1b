"""Assertions about who refuses a packet: it reached a node, and a rule of that node dropped or rejected it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pytest_netns.assertions.retry import PAUSE, asked, check_node, pause, way
from pytest_netns.checks import check_port, check_wait
from pytest_netns.clock import monotonic
from pytest_netns.errors import ProbeFailure, TopologyError
from pytest_netns.lab.lab import lab_of
from pytest_netns.lab.nodes import Node

if TYPE_CHECKING:
    from pytest_netns.addresses import Address
    from pytest_netns.explain.diagnosis import Explanation
    from pytest_netns.explain.questions import Question
    from pytest_netns.probe.ping_result import PingResult
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.udp import UdpResult
    from pytest_netns.stack.destination import Destination
    from pytest_netns.stack.source import Source

    Result = PingResult | TcpResult | UdpResult


def assert_blocked(
    node: Node,
    /,
    destination: Destination,
    *,
    by: Node,
    port: int | None = None,
    protocol: Literal["tcp", "udp", "icmp"] | None = None,
    payload: bytes = b"",
    within: float | None = None,
    timeout: float = 0.2,
    source: Source | None = None,
) -> Explanation:
    """Assert that a packet reaches a node, and that a rule there drops or rejects it; returns the explanation.

    The rule is one of nftables of any family (``inet``, ``ip``, ``ip6``, ``bridge``, ``netdev``), of iptables (nft or
    legacy), or of ``Host.block``; a policy counts as a rule. Nothing else passes: no route, forwarding that is off, a
    crashed target, a missing way back, a rule of another node. So the test of a firewall cannot be green because the
    network is broken.

    Args:
        node: the sending node.
        destination: a node, an interface or an address.
        by: the node whose rule it must be.
        port: 1 to 65535, for TCP and UDP.
        protocol: ``"tcp"``, ``"udp"`` or ``"icmp"`` (an echo request, of IPv6 too); None: TCP with a port, else ICMP.
        payload: bytes to send by UDP.
        within: seconds to retry; None: probe once.
        timeout: seconds to wait for an answer.
        source: an address or an interface of that node to send from; None: chosen by the routes.

    Raises:
        ProbeFailure: with what stopped it instead; or nothing did, and it was answered.
        TopologyError: ``by`` is no open node of that lab.
        ValueError: a protocol and a port that do not fit, or out of range.

    Example:
        >>> green.block(protocol="tcp", port=9100)
        >>> assert_blocked(red, green, by=green, port=9100)
    """
    __tracebackhide__ = True
    check_node(node)
    _check_by(node, by)
    check_wait("within", within)
    kind = _kind(port, protocol)
    deadline = monotonic() + (within or 0)
    while True:
        result = _ask(kind, node, destination, port or 0, payload, timeout, source)
        is_blocked, explanation = _observed(node, result, payload, by, {})
        if is_blocked:
            return explanation
        if monotonic() >= deadline:
            raise ProbeFailure(_failure(node, result, by, explanation))
        pause(PAUSE)


def check_by(
    source: Node, result: Result, by: Node | None, payload: bytes = b"", probe: Mapping[str, object] | None = None
) -> None:
    """Raise ProbeFailure unless what a probe has sent was stopped by a rule of ``by``; None: by whatever it was."""
    __tracebackhide__ = True
    if by is None:
        return
    is_blocked, explanation = _observed(source, result, payload, by, probe or {})
    if not is_blocked:
        raise ProbeFailure(_failure(source, result, by, explanation))


def check_arp_by(source: Node, destination: Destination, address: Address, by: Node | None) -> None:
    """The same for a question of ARP or neighbour discovery."""
    __tracebackhide__ = True
    if by is None:
        return
    _check_by(source, by)
    from pytest_netns.explain.blocking_rule import arp_blocked

    is_blocked, words = arp_blocked(source, destination, address, by)
    if not is_blocked:
        raise ProbeFailure(
            f"expected a rule of {by.name!r} to drop the question for {address} of {source.name!r}, and it was not "
            f"that: {words}"
        )


def _kind(port: int | None, protocol: str | None) -> str:
    kind = protocol or ("icmp" if port is None else "tcp")
    if kind not in ("tcp", "udp", "icmp"):
        raise ValueError(f"protocol is {protocol!r}; it can be 'tcp', 'udp' or 'icmp'")
    if kind == "icmp" and port is not None:
        raise ValueError(f"port is {port!r}, and ICMP has no ports")
    if kind != "icmp":
        if port is None:
            raise ValueError(f"port is None; {kind} needs one, 1 to 65535")
        check_port(port)
    return kind


def _ask(
    kind: str,
    node: Node,
    destination: Destination,
    port: int,
    payload: bytes,
    timeout: float,
    source: Source | None,
) -> Result:
    if kind == "tcp":
        return node.tcp(destination, port, timeout=timeout, source=source)
    if kind == "udp":
        return node.udp(destination, port, payload, timeout=timeout, source=source)
    return node.ping(destination, timeout=timeout, source=source)


def _check_by(source: Node, by: object) -> Node:
    lab = lab_of(source)
    found = lab._check_running(by, "ask whether packets are dropped by")
    if not isinstance(found, Node):
        raise TopologyError(f"by={by!r} is no node of {lab!r}")
    return found


def _observed(
    source: Node, result: Result, payload: bytes, by: Node, probe: Mapping[str, object]
) -> tuple[bool, Explanation]:
    _check_by(source, by)
    from pytest_netns.explain.blocking_rule import blocked

    return blocked(lab_of(source), _question(source, result, payload, probe), by)


def _question(source: Node, result: Result, payload: bytes, probe: Mapping[str, object]) -> Question:
    from pytest_netns.explain.questions import ping_question, tcp_question, udp_question
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.udp import UdpResult

    if isinstance(result, TcpResult):
        return tcp_question(source, result)
    if isinstance(result, UdpResult):
        return udp_question(source, result, payload)
    return ping_question(source, result, probe)


def _failure(source: Node, result: Result, by: Node, explanation: Explanation) -> str:
    head = f"expected a rule of {by.name!r} to drop or reject it, but that was not the cause: {asked(result)}"
    if result:
        return f"{head}\nnothing stopped it: it was answered; {way(source, result)}"
    return f"{head}\n{explanation}"
