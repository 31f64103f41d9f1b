"""Observing: the probe is sent again while every interface, rule and counter of its lab is watched."""

from __future__ import annotations

import os
import warnings

from pytest_netns.capture.frame import Frame, is_search
from pytest_netns.errors import KernelError, NetnsError, NetnsWarning
from pytest_netns.explain.look.counters import counters, grown
from pytest_netns.explain.look.drop_reasons import drop_reasons, told
from pytest_netns.explain.look.encapsulation import carriers, protocols
from pytest_netns.explain.nft_trace.rule_trace import RuleTrace
from pytest_netns.explain.observation.observation import Observation, number_of
from pytest_netns.explain.observation.observed_packets import ObservedPacket, observed_packets
from pytest_netns.explain.questions import Question
from pytest_netns.explain.way.impairments import extra_patience
from pytest_netns.kernel.netlink.neighbour_table import neighbour_tables
from pytest_netns.kernel.perf.packet_log import DroppedPacket, PacketLog
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.icmp import ProbeError

#: Seconds to wait for the answer when the probe is sent again.
PATIENCE = 0.15

#: Rows of the sequence diagram.
_ROWS = 16


def observe(lab: Lab, question: Question, log: PacketLog | None = None) -> Observation:
    """Send a probe again and watch every interface, rule and counter of its lab. Changes nothing there.

    Args:
        lab: of the probe.
        question: the probe.
        log: what tells the kernel's reasons for drops, if that can be had.
    """
    by_namespace: dict[int, Node] = {question.node.inode: question.node}
    for node in lab:
        if not node.closed:
            by_namespace.setdefault(node.inode, node)
    result: object = None
    error: ProbeError | None = None
    dropped: list[DroppedPacket] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetnsWarning)  # a capture that lost frames shows less, which is not news here
        capture = lab.capture(chatter=True)
        capture.internal = True
        trace = RuleTrace(lab, {number_of(question), *protocols(lab)}, _ports(lab, question))
        before = {inode: counters(node) for inode, node in by_namespace.items()}
        version = question.address.version
        table_before = neighbour_tables(question.node.rtnl).get(version)
        with trace, capture:
            if log is not None:
                log.start()
            try:
                result = question.again(PATIENCE + extra_patience(lab))
            except KernelError as refused:
                error = ProbeError(os.strerror(refused.errno), errno=refused.errno)
            except NetnsError:
                pass
            finally:
                dropped = told(log)
            table = neighbour_tables(question.node.rtnl).get(version)
            trace.read()
        grown_by = {node.name: grown(node, before[inode], counters(node)) for inode, node in by_namespace.items()}
    frames = capture.frames
    names = {node.inode: node.name for node in by_namespace.values()}
    shared = {node.name: names[node.inode] for node in lab if not node.closed}
    for frame in frames:
        frame.node = shared.get(frame.node, frame.node)
    seen = observed_packets(frames, question.kind, question.node.name, question.address, question.port)
    shown = _shown(frames, seen)
    found = getattr(result, "error", None)
    if error is None:
        error = found if isinstance(found, ProbeError) else question.error
    return Observation(
        lab,
        question,
        bool(result),
        seen,
        trace,
        capture.ladder(shown, most=_ROWS, order=_columns(question.node, seen, shown)) if shown else "",
        frames,
        error,
        {name: each for name, each in grown_by.items() if each},
        names,
        table,
        table.refusals - table_before.refusals if table is not None and table_before is not None else 0,
        drop_reasons(dropped, frames, seen, names[question.node.inode], version),
    )


def _ports(lab: Lab, question: Question) -> set[int]:
    """The ports of what is traced: those of the probe, and of tunnels that may carry it. None for a ping: all."""
    if not question.port:
        return set()
    return {question.port, *(outer.port for outer in carriers(lab) if outer.port is not None)}


def _columns(asker: Node, seen: list[ObservedPacket], shown: list[Frame]) -> list[str]:
    """Nodes in the order of the way: that of the request, or else of who asks first."""
    requests = sorted((each for each in seen if each.role == "request"), key=lambda each: each.frame.time)
    way = [asker.name, *(each.frame.node for each in requests)]
    return list(dict.fromkeys([*way, *(frame.node for frame in shown if frame.node == asker.name)]))


def _shown(frames: list[Frame], seen: list[ObservedPacket]) -> list[Frame]:
    ours = {id(each.frame) for each in seen}
    return [frame for frame in frames if id(frame) in ours or is_search(frame.data, frame.ethernet)]
