"""Explaining: what the explanation of a failing probe names, and which lab it is asked in."""

from __future__ import annotations

from dataclasses import dataclass

from conversation import address_of

from pytest_netns import Host, Lab, Link, Router
from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.explain import explain
from pytest_netns.explain.questions import ping_question, tcp_question, udp_question
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.destination import Destination

#: Seconds to wait for an answer that does not come.
SHORT = 0.05


@dataclass(frozen=True)
class Chain:
    """``red`` - ``r1`` - ``r2`` - ``blue`` in a row, with routes."""

    lab: Lab
    red: Host
    r1: Router
    r2: Router
    blue: Host
    links: tuple[Link, Link, Link]


def chain_in(lab: Lab) -> Chain:
    """Build one."""
    red, r1, r2, blue = lab.host("red"), lab.router("r1"), lab.router("r2"), lab.host("blue")
    links = lab.connect(red, r1), lab.connect(r1, r2), lab.connect(r2, blue)
    lab.autoroute()
    return Chain(lab, red, r1, r2, blue, links)


def at(node: Node, version: int) -> str:
    """Its address of a family, as text."""
    return str(address_of(node, version))


def why_no_ping(
    source: Node, destination: Destination, *, size: int = 56, ttl: int = 64, df: bool = False
) -> Explanation:
    """The explanation of a ping that fails."""
    result = source.ping(destination, timeout=SHORT, size=size, ttl=ttl, df=df)
    assert not result, "it was expected to fail"
    return explain(source.lab, ping_question(source, result, {"size": size, "ttl": ttl, "df": df}))


def why_not_open(source: Node, destination: Destination, port: int) -> Explanation:
    """The explanation of a TCP port that is not open."""
    result = source.tcp(destination, port, timeout=SHORT)
    assert not result, "it was expected to fail"
    return explain(source.lab, tcp_question(source, result))


def why_no_datagram(source: Node, destination: Destination, port: int) -> Explanation:
    """The explanation of a datagram that is not answered."""
    result = source.udp(destination, port, b"hello", timeout=SHORT)
    assert not result, "it was expected to fail"
    return explain(source.lab, udp_question(source, result, b"hello"))
