"""Results: how each kind of probe result is explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from pytest_netns.addresses import Address
from pytest_netns.errors import NetnsError
from pytest_netns.explain.checks import full_neighbour_table
from pytest_netns.explain.checks.works_now import WORKS_NOW
from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.explain import explain
from pytest_netns.explain.link_layer.unresolved_neighbour import why_unresolved
from pytest_netns.explain.questions import Question, ping_question, tcp_question, udp_question
from pytest_netns.explain.way.no_neighbour import link_fault
from pytest_netns.lab.lab import lab_of
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.arp import ArpResult
from pytest_netns.probe.dns import DnsResult
from pytest_netns.probe.loss import LossResult
from pytest_netns.probe.matrix import PingMatrix
from pytest_netns.probe.path_mtu import PathMtuResult
from pytest_netns.probe.ping import ask_ping
from pytest_netns.probe.ping_result import PingResult
from pytest_netns.probe.tcp import TcpResult, ask_tcp
from pytest_netns.probe.throughput import ThroughputResult
from pytest_netns.probe.trace import TraceResult
from pytest_netns.probe.udp import UdpResult, ask_udp
from pytest_netns.topology.failure import Failure
from pytest_netns.topology.network import names_of, network_of

#: How many failed pairs of a ``ping_all`` matrix are explained.
_PAIRS = 3
_TRACE_PORTS = {"tcp": 80, "udp": 33434}
_IP_AND_ICMP = {4: 28, 6: 48}


def words(result: object) -> str:
    """A result as text, without the angle brackets of its repr."""
    return repr(result).removeprefix("<").removesuffix(">")


def question_of(node: Node, result: object) -> Question | None:
    """How to repeat a ping, TCP or UDP probe, given its result; None for other results."""
    if isinstance(result, PingResult):
        return ping_question(node, result, {})
    if isinstance(result, TcpResult):
        return tcp_question(node, result)
    return udp_question(node, result, b"") if isinstance(result, UdpResult) else None


def _ping(node: Node, result: object, *details: object) -> Explanation:
    probe = cast("Mapping[str, object]", details[0]) if details else {}
    return explain(lab_of(node), ping_question(node, cast("PingResult", result), probe))


def _tcp(node: Node, result: object, *_: object) -> Explanation:
    return explain(lab_of(node), tcp_question(node, cast("TcpResult", result)))


def _udp(node: Node, result: object, *details: object) -> Explanation:
    return explain(lab_of(node), udp_question(node, cast("UdpResult", result), cast("bytes", details[0])))


def _arp(node: Node, result: object, *_: object) -> Explanation:
    asked = cast("ArpResult", result)
    place = node.interface(asked.interface)
    protocol = "ARP" if asked.address.version == 4 else "neighbour discovery"
    found = Explanation(f"{protocol} on {place} for {asked.address} is unanswered")
    question = lab_of(node), node, place, asked.address
    if (fault := link_fault(*question) or why_unresolved(*question)) is not None:
        found.cause, found.node, found.evidence, found.cures = fault.cause, fault.node, fault.evidence, fault.cures
    else:
        found.ruled_out.append("the tables say that it should be answered")
    return found


def _dns(node: Node, result: object, *_: object) -> Explanation:
    asked = cast("DnsResult", result)
    if not asked.udp:
        return explain(lab_of(node), udp_question(node, asked.udp, b""))
    server = asked.udp.destination
    what = f"for {asked.name} {asked.qtype}"
    if asked.rcode is None:
        cause = f"what answers on port {asked.udp.port} of {server} does not speak DNS (RFC 1035)"
    elif asked.rcode == "NOERROR":
        cause = f"the server {server} knows the name, and has no record {what}"
    else:
        cause = f"the server {server} answers {asked.rcode} {what}"
    return Explanation(words(result), cause, _owner(node, asked.udp.address))


def _trace(node: Node, result: object, *details: object) -> Explanation:
    asked = cast("TraceResult", result)
    if not asked.reached:
        method, port = details
        found = explain(lab_of(node), _trace_question(node, asked, str(method), cast("int | None", port)))
        if not (found.cause or "").startswith(WORKS_NOW):
            return found
    observed = f"the way: {' -> '.join([node.name, *asked.path])}"
    known = {each.name: each for each in lab_of(node) if not each.closed}
    routes, lines = [], []
    for name in [node.name, *asked.path[:-1]]:
        if (hop := known.get(name)) is None:
            continue
        try:
            route = hop.route_to(asked.address)
        except NetnsError as error:
            lines.append(f"{name}: ip route get {asked.address}: {error}")
            continue
        routes.append(f"{name!r} by {route}")
        lines.append(f"{name}: ip route get {asked.address}: {route}")
    cause = f"the routes lead there: {', '.join(routes)}" if routes else None
    return Explanation(observed, cause, node.name if routes else None, lines)


def _trace_question(node: Node, result: TraceResult, method: str, port: int | None) -> Question:
    address = result.address
    if method == "icmp":
        return Question(
            node,
            address,
            "ping",
            lambda timeout: ask_ping(node, address, timeout=timeout, source=result.bound_to),
            size=56,
        )
    to_port = port or _TRACE_PORTS[method]
    # A trace reaches its destination when a closed port or the node itself answers.
    if method == "tcp":

        def again(timeout: float) -> bool:
            return ask_tcp(node, address, to_port, timeout=timeout, source=result.bound_to).state in ("open", "closed")

        return Question(node, address, "tcp", again, port=to_port)

    def datagram(timeout: float) -> bool:
        return ask_udp(node, address, to_port, timeout=timeout, source=result.bound_to).state in ("answered", "closed")

    return Question(node, address, "udp", datagram, port=to_port)


def _path_mtu(node: Node, result: object, *_: object) -> Explanation:
    asked = cast("PathMtuResult", result)
    address = asked.address
    size = 56
    if asked.mtu is not None:  # one byte more than the path MTU: such packets are lost
        size = asked.mtu + 1 - _IP_AND_ICMP[address.version]
    kept = {"size": size, "df": True}

    def again(timeout: float) -> object:
        return ask_ping(node, address, timeout=timeout, size=size, df=True, source=asked.bound_to)

    found = explain(lab_of(node), Question(node, address, "ping", again, **kept))  # type: ignore[arg-type]
    found.observed = f"{words(result)}; {found.observed}"
    return found


def _ping_all(node: Node, result: object, *_: object) -> Explanation:
    matrix = cast("PingMatrix", result)
    failed = matrix.failed[:_PAIRS]
    found: Explanation | None = None
    others: list[str] = []
    for pair in failed:
        each = _ping(_named(node, pair.source), pair)
        if found is None:
            found = each
        else:
            others.append(f"{pair.source} -> {pair.destination}: {each.cause or 'cause not found'}")
    if found is None:
        return Explanation(words(result))
    good = f"{len(matrix.results) - len(matrix.failed)} of {len(matrix.results)} pairs got through"
    first = f"{failed[0].source} -> {failed[0].destination}"
    return replace(found, observed=f"{good}; of those that did not, {first}: {found.observed}", others=others)


def _measured(node: Node, result: object, *_: object) -> Explanation:
    """Throughput and loss: the processes at both ends have exited, so a ping tests the path."""
    asked = cast("ThroughputResult | LossResult", result)
    address = asked.address

    def again(timeout: float) -> object:
        return ask_ping(node, address, timeout=timeout)

    found = explain(lab_of(node), Question(node, address, "ping", again, size=56))
    found.observed = f"{words(result)}; a ping: {found.observed}"
    if asked.error and (found.cause is None or found.cause.startswith(WORKS_NOW)):
        found.cause, found.node = f"{node.name!r} could not send: {asked.error}", node.name
    elif found.cause is not None and found.cause.startswith(WORKS_NOW):  # one ping puts no load on the path
        found.cause, found.node = None, None
        found.ruled_out.append(f"a single ping from {node.name!r} to {address} is answered")
    return found


def _named(node: Node, name: str) -> Node:
    return next((each for each in lab_of(node) if each.name == name), node)


def _owner(node: Node, address: Address) -> str | None:
    return names_of(network_of(node)).get(address)


_BY_KIND: Mapping[type, Callable[..., Explanation]] = {
    PingResult: _ping,
    TcpResult: _tcp,
    UdpResult: _udp,
    ArpResult: _arp,
    DnsResult: _dns,
    TraceResult: _trace,
    PathMtuResult: _path_mtu,
    PingMatrix: _ping_all,
    ThroughputResult: _measured,
    LossResult: _measured,
}
#: How to explain each type of result.
KINDS = tuple(_BY_KIND)


def explain_result(node: Node, result: object, *details: object) -> Explanation:
    """Explain a result of a node's probe; ``details``: further arguments that are needed to repeat the probe."""
    return _BY_KIND[type(result)](node, result, *details)


def explain_failure(failure: Failure) -> Explanation:
    """Explain a recorded failure of a probe. Never raises: an exception is reported as the explanation instead."""
    try:
        found = explain_result(cast("Node", failure.node), failure.result, *failure.details)
        return _with_undone(failure, _with_crowded(failure, found))
    except Exception as trouble:  # a bug in this package must not hide the test's own failure
        return unexplained(failure.result, trouble)


def unexplained(result: object, trouble: Exception) -> Explanation:
    """The explanation of a result when explaining it raised an exception."""
    return Explanation(words(result), ruled_out=[f"nothing was looked at: explaining it failed: {trouble!r}"])


def _with_crowded(failure: Failure, found: Explanation) -> Explanation:
    """Add that the kernel's neighbour table was full when the probe failed, if that may be the cause."""
    address = getattr(failure.result, "address", None)
    words = failure.crowded.get(getattr(address, "version", 0)) or next(iter(failure.crowded.values()), None)
    if words is not None and (found.cause is None or found.cause.startswith(WORKS_NOW)):
        now = f"{found.cause}; " if found.cause is not None else ""
        found.cause, found.node = f"{now}when it was asked before, {words}", None
        found.cures = list(full_neighbour_table.CURES)
        found.ruled_out.clear()
    elif words is not None:
        found.evidence.append(f"when it was asked, {words}")
    return found


def _with_undone(failure: Failure, found: Explanation) -> Explanation:
    now = lab_of(failure.node)._in_force()
    undone = "; ".join(each for each in failure.in_force if each not in now)
    if undone and (found.cause is None or found.cause.startswith(WORKS_NOW)):
        # It was undone before the report, e.g. by the end of a "with" block.
        found.cause, found.node = f"when it was asked, this was in force, and has been undone since: {undone}", None
        found.ruled_out.clear()
    elif undone:
        found.evidence.append(f"in force when it was asked, and undone since: {undone}")
    return found
