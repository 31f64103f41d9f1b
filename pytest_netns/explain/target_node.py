"""Target: what is wrong at the node that receives the request."""

from __future__ import annotations

from ipaddress import ip_address

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observed_packets import ObservedPacket
from pytest_netns.explain.questions import Question
from pytest_netns.explain.way.flow import Flow
from pytest_netns.explain.way.forwarding import rp_filter_fault
from pytest_netns.kernel.netlink.sock_diag import Transport, listeners
from pytest_netns.lab.nodes import Node
from pytest_netns.process.process import Process, exit_words


def arrival(seen: list[ObservedPacket], target: Node) -> ObservedPacket | None:
    """The request as it arrived at the target; None if it did not."""
    of_target = (s for s in reversed(seen) if s.role == "request" and s.frame.node == target.name)
    return next((s for s in of_target if not s.frame.outgoing), None)


def target_fault(
    question: Question, target: Node, seen: list[ObservedPacket], redirected: int | None = None
) -> Diagnosis | None:
    """What is wrong at the node that receives the request; ``redirected``: the port that its NAT rules send it to."""
    arrived = arrival(seen, target)
    if arrived is not None and (place := target.interfaces.get(arrived.frame.interface)) is not None:
        flow = Flow(ip_address(arrived.source), ip_address(arrived.destination))
        if (fault := rp_filter_fault(target, place, flow)) is not None and not replied(seen, target):
            return fault
    if question.kind == "ping":
        return _echo_fault(question, target)
    return _port_fault(question, target, arrived, redirected)


def replied(seen: list[ObservedPacket], target: Node) -> bool:
    """Whether the target answered."""
    return any(s.role == "reply" and s.frame.node == target.name for s in seen)


def _echo_fault(question: Question, target: Node) -> Diagnosis | None:
    name = "net.ipv4.icmp_echo_ignore_all" if question.address.version == 4 else "net.ipv6.icmp.echo_ignore_all"
    if target.sysctl.get(name) == "1":
        return Diagnosis(
            f"{target.name!r} ignores echo requests: {name} is 1",
            target.name,
            [f"{target.name}: {name} = 1"],
            cures=[f'{target.name}.sysctl["{name}"] = 0'],
        )
    return None


def _port_fault(
    question: Question, target: Node, arrived: ObservedPacket | None, redirected: int | None
) -> Diagnosis | None:
    protocol: Transport = "tcp" if question.kind == "tcp" else "udp"
    there = listeners(target.fd, protocol)
    address, port = question.address, question.port
    if arrived is not None:  # after NAT
        address, port = ip_address(arrived.destination), arrived.ports[1]
    if redirected is not None:
        port = redirected
    takers = [listener for listener in there if listener.port == port and listener.takes(address)]
    # A socket on [::] that refuses IPv4 has IPV6_V6ONLY set, which /proc does not show.
    if takers and not (question.closed and all(listener.address.version > address.version for listener in takers)):
        return None
    evidence = [f"{target.name}: listening: {', '.join(map(str, there)) or 'nothing'}"]
    dead = dead_processes(target)
    evidence += [f"{target.name}: {p!r}; its output ends: {p.output.rstrip()[-200:]!r}" for p in dead]
    others = takers or [listener for listener in there if listener.port == port]
    if others:
        bound = ", ".join(str(listener.address) for listener in others)
        return Diagnosis(
            f"the server on {protocol} port {port} of {target.name!r} is bound to {bound} only, not to {address}",
            target.name,
            evidence,
            cures=[f"bind to {'0.0.0.0' if address.version == 4 else '::'} or {address}"],
        )
    what = ", ".join(map(str, there)) or "nothing does on any port"
    if dead:
        process = dead[-1]
        return Diagnosis(
            f"nothing listens on {protocol} port {port} of {target.name!r}; its process {process.argv[0]!r} is dead "
            f"({exit_words(process.returncode)})",
            target.name,
            evidence,
        )
    return Diagnosis(
        f"nothing listens on {protocol} port {port} of {target.name!r} (listening: {what})", target.name, evidence
    )


def silence(question: Question, target: Node, seen: list[ObservedPacket]) -> Diagnosis | None:
    """Whether a datagram arrived at a listening socket whose program did not answer."""
    arrived = arrival(seen, target)
    if question.kind != "udp" or arrived is None or replied(seen, target):
        return None
    return Diagnosis(
        f"the datagram arrives at {target.name!r}, where something listens on udp port {arrived.ports[1]} and does not "
        "answer",
        target.name,
    )


def dead_processes(node: Node) -> list[Process]:
    """Background processes that have exited, of a node and of nodes that share its namespace."""
    sharing = [other for other in node.lab if not other.closed and other.inode == node.inode]
    return [process for each in sharing for process in each.processes if process.returncode is not None]
