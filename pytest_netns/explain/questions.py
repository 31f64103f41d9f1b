"""Questions: how to send a probe again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_netns.addresses import Address
from pytest_netns.explain.observation.observed_packets import Kind
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.ping import ask_ping
from pytest_netns.probe.ping_result import PingResult
from pytest_netns.probe.tcp import TcpResult, ask_tcp
from pytest_netns.probe.udp import UdpResult, ask_udp


@dataclass(slots=True)
class Question:
    """A probe that failed, and how to send it again.

    Attributes:
        node: the node that sent it.
        address: the destination address.
        kind: the type of the probe.
        again: sends it again with a timeout in seconds; returns whether it succeeded.
        port: destination port of tcp and udp.
        size: payload in bytes.
        ttl: TTL or hop limit.
        df: whether the Don't Fragment bit is set.
        closed: whether the port was found closed.
        error: how it failed the first time: an ICMP error, or the kernel's error.
    """

    node: Node
    address: Address
    kind: Kind
    again: Callable[[float], object]
    port: int = 0
    size: int = 0
    ttl: int = 64
    df: bool = False
    closed: bool = False
    error: ProbeError | None = None


# These call the probe functions, not the methods of nodes, which record a failure as one of the test's own probes.


def ping_question(source: Node, result: PingResult, probe: Mapping[str, Any]) -> Question:
    """How to repeat a ``Node.ping``."""
    kept = {key: value for key, value in probe.items() if key in ("size", "ttl", "df")}
    return Question(
        source,
        result.address,
        "ping",
        lambda timeout: ask_ping(source, result.address, timeout=timeout, source=result.bound_to, **kept),
        size=int(kept.get("size", 56)),
        ttl=int(kept.get("ttl", 64)),
        df=bool(kept.get("df", False)),
        error=result.error,
    )


def tcp_question(source: Node, result: TcpResult) -> Question:
    """How to repeat a ``Node.tcp``."""
    port = result.port
    return Question(
        source,
        result.address,
        "tcp",
        lambda timeout: ask_tcp(source, result.address, port, timeout=timeout, source=result.bound_to),
        port=port,
        closed=result.state == "closed",
        error=result.error,
    )


def udp_question(source: Node, result: UdpResult, payload: bytes) -> Question:
    """How to repeat a ``Node.udp``."""
    return Question(
        source,
        result.address,
        "udp",
        lambda timeout: ask_udp(source, result.address, result.port, payload, timeout=timeout, source=result.bound_to),
        port=result.port,
        size=len(payload),
        closed=result.state == "closed",
        error=result.error,
    )
