"""Search: somebody is asked for by ARP or neighbour discovery, and how far the question and the answer come."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pytest_netns.addresses import Address
from pytest_netns.capture.frame import Frame
from pytest_netns.errors import NetnsWarning
from pytest_netns.explain.look.counters import queue_drops
from pytest_netns.explain.look.encapsulation import protocols
from pytest_netns.explain.nft_trace.rule_trace import RuleTrace
from pytest_netns.explain.sent import answered_for, sought
from pytest_netns.explain.way.on_link import reach
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.arp import ask_arp
from pytest_netns.stack.interface import Interface

#: Seconds to wait for the answer. Between its own questions a kernel waits for one.
_PATIENCE = 0.1


@dataclass(frozen=True)
class Search:
    """A question of ARP or neighbour discovery, asked under observation.

    Attributes:
        lab: where.
        node: who asks.
        out: on which interface.
        hop: for whom.
        owner: the interface on that link whose node has the address; None if there is none.
        answered: whether an answer came.
        questions: the question, wherever it was seen.
        answers: the answer likewise.
        trace: what nftables rules did to them, and to what carries them.
        names: what captures call each namespace, by inode.
        queued: the queueing discipline that has dropped the question or the answer, and where; None if none has.
    """

    lab: Lab
    node: Node
    out: Interface
    hop: Address
    owner: Interface | None
    answered: bool
    questions: list[Frame]
    answers: list[Frame]
    trace: RuleTrace
    names: dict[int, str]
    queued: tuple[str, Interface] | None = None

    @property
    def protocol(self) -> str:
        """ARP, or neighbour discovery."""
        return "ARP" if self.hop.version == 4 else "neighbour discovery"

    def saw(self, frames: Sequence[Frame], interface: Interface, outgoing: bool) -> bool:
        """Whether one of some frames passed an interface."""
        name = self.names.get(interface.node.inode, interface.node.name)
        return any((f.node, f.interface, f.outgoing) == (name, interface.name, outgoing) for f in frames)


def search(lab: Lab, node: Node, out: Interface, hop: Address) -> Search:
    """Ask. Raises NetnsError if it cannot be asked there."""
    names: dict[int, str] = {}
    for each in lab:
        if not each.closed:
            names.setdefault(each.inode, each.name)
    owner = next(iter(reach(lab, out).owners(hop)), None)
    ends = [end for end in (out, owner) if end is not None and isinstance(end.node, Node)]
    before = [queue_drops(cast("Node", end.node)) for end in ends]
    capture = lab.capture(chatter=True)
    capture.internal = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetnsWarning)
        with RuleTrace(lab, protocols(lab)) as trace, capture:
            answered = bool(ask_arp(node, hop, timeout=_PATIENCE))
            trace.read()
    for frame in capture.frames:
        frame.node = next((name for inode, name in names.items() if lab[frame.node].inode == inode), frame.node)
    questions = [frame for frame in capture.frames if sought(frame) == hop.packed]
    answers = [frame for frame in capture.frames if answered_for(frame) == hop.packed]
    queued = None
    for end, known in zip(ends, before, strict=True):
        now = queue_drops(cast("Node", end.node)).get(end.name)
        if now is not None and now[1] > known.get(end.name, ("", 0))[1] and queued is None:
            queued = now[0], end
    return Search(lab, node, out, hop, owner, answered, questions, answers, trace, names, queued)
