"""Questions: how to ask again what a probe asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_netns.explain.explain import Question
from pytest_netns.lab.node import Node
from pytest_netns.probe.ping import PingResult
from pytest_netns.probe.tcp import TcpResult
from pytest_netns.probe.udp import UdpResult


def ping_question(source: Node, result: PingResult, probe: Mapping[str, Any]) -> Question:
    """How to ask again what ``Node.ping`` asked."""
    kept = {key: value for key, value in probe.items() if key in ("size", "ttl", "df")}
    return Question(
        source,
        result.address,
        "ping",
        lambda timeout: source.ping(result.address, timeout=timeout, **kept),
        size=int(kept.get("size", 56)),
        ttl=int(kept.get("ttl", 64)),
        df=bool(kept.get("df", False)),
    )


def tcp_question(source: Node, result: TcpResult) -> Question:
    """How to ask again what ``Node.tcp`` asked."""
    port = result.port
    return Question(
        source,
        result.address,
        "tcp",
        lambda timeout: source.tcp(result.address, port, timeout=timeout),
        port=port,
        closed=result.state == "closed",
    )


def udp_question(source: Node, result: UdpResult, payload: bytes) -> Question:
    """How to ask again what ``Node.udp`` asked."""
    return Question(
        source,
        result.address,
        "udp",
        lambda timeout: source.udp(result.address, result.port, payload, timeout=timeout),
        port=result.port,
        size=len(payload),
        closed=result.state == "closed",
    )
