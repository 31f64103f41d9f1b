"""Attempted: why a destination that the user's own code, a command or a daemon tried to reach was unreachable."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Literal

from pytest_netns.addresses import Address
from pytest_netns.explain.checks.works_now import WORKS_NOW
from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.explain import explain
from pytest_netns.explain.questions import Question
from pytest_netns.lab.lab import lab_of
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.dns import ask_dns
from pytest_netns.probe.tcp import ask_tcp
from pytest_netns.probe.udp import ask_udp
from pytest_netns.topology.network import names_of, network_of

_DNS = 53


def explain_attempt(
    node: Node, kind: Literal["tcp", "udp", "name"], host: str, port: int, *, refused: bool = False
) -> Explanation | None:
    """Repeat an attempt as a probe and explain it. None if that is not possible, or if it works now.

    Args:
        node: the node that made the attempt.
        kind: a TCP connection, a UDP datagram, or a name to be resolved.
        host: the destination address, or the name.
        port: the destination port; 0 for a name.
        refused: whether the attempt was refused: then an explanation is given even if it works now.
    """
    if kind == "name":
        return _name(node, host)
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if kind == "tcp":
        question = Question(
            node, address, "tcp", lambda t: ask_tcp(node, host, port, timeout=t), port=port, closed=refused
        )
    else:
        question = Question(node, address, "udp", _datagram(node, host, port), port=port, closed=refused)
    found = explain(lab_of(node), question)
    found.observed = f"{node.name} -> {host} {kind} port {port}: {found.observed}"
    works = found.cause is None or found.cause.startswith(WORKS_NOW)
    return None if works and not (refused and found.cause is not None) else found


def _datagram(node: Node, host: str, port: int) -> Callable[[float], object]:
    """How to send a datagram again: an empty one, or a query to a name server, which would ignore an empty one."""
    if port == _DNS:
        return lambda timeout: ask_dns(node, host, "localhost", timeout=timeout).udp
    return lambda timeout: ask_udp(node, host, port, b"", timeout=timeout)


def _name(node: Node, name: str) -> Explanation | None:
    """Explain why a name was not resolved: whether the node's name servers are reachable."""
    servers = _servers(node)
    asked = f"{node.name!r} could not resolve {name!r}"
    if not servers:
        return Explanation(asked, f"{asked}: its /etc/resolv.conf names no server", node.name)
    server = servers[0]

    def again(timeout: float) -> bool:
        return bool(ask_dns(node, str(server), name, timeout=timeout).udp)

    found = explain(lab_of(node), Question(node, server, "udp", again, port=_DNS))
    if found.cause is None:
        return None
    found.observed = f"{asked}, by the server {server}: {found.observed}"
    if found.cause.startswith(WORKS_NOW):
        answer = ask_dns(node, str(server), name)
        if answer:
            return None
        found.cause = f"{asked}: the server {server} answers {answer.rcode or 'nothing that is DNS'}"
        found.node = names_of(network_of(node)).get(server)
    else:
        found.cause = f"{asked}, as its name server {server} cannot be asked: {found.cause}"
    return found


def _servers(node: Node) -> list[Address]:
    def read() -> str:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return file.read()

    try:
        words = [line.split() for line in node.call(read).splitlines()]
        return [ip_address(line[1].partition("%")[0]) for line in words if line[:1] == ["nameserver"] and len(line) > 1]
    except (OSError, ValueError):
        return []
