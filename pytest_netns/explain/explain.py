"""Explain: send a failed probe again under observation; the first check that finds something names the cause."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pytest_netns.explain.checks import CHECKS
from pytest_netns.explain.checks.multipath import has_alternatives
from pytest_netns.explain.checks.works_now import WORKS_NOW
from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.look import iptables
from pytest_netns.explain.look.drop_reasons import open_log
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observe import observe
from pytest_netns.explain.questions import Question
from pytest_netns.kernel.perf.packet_log import PacketLog
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node

#: The latest explanations, newest last: an error holds only the text of its explanation.
recent: deque[Explanation] = deque(maxlen=8)
#: How often a probe that works now is repeated; and how often if a node on its path has several next hops.
_TRIES, _TRIES_OF_SEVERAL = 3, 7
#: How the line of evidence begins that reports an exception in a check.
CHECK_FAILED = "a check of ours failed, and was left out:"


def explain(lab: Lab, question: Question) -> Explanation:
    """Send the probe again under observation and find out why it fails. Changes nothing in the lab."""
    found = _explain(lab, question)
    recent.append(found)
    return found


def _explain(lab: Lab, question: Question) -> Explanation:
    log = open_log()
    try:
        observation = observe(lab, question, log)
        found = conclude(observation)
        if found.cause is None:  # on a busy machine a packet may still be in flight
            observation = observe(lab, question, log)
            found = conclude(observation)
        if observation.answered and (found.cause or "").startswith(WORKS_NOW):
            return _at_times(lab, question, observation, log) or found
        return found
    finally:
        if log is not None:
            log.close()


def _at_times(lab: Lab, question: Question, observation: Observation, log: PacketLog | None) -> Explanation | None:
    """It works now: repeat it, as it may fail only at times, e.g. with multipath routes or random rules."""
    tries = _TRIES_OF_SEVERAL if has_alternatives(observation) else _TRIES
    for more in range(1, tries + 1):
        again = observe(lab, question, log)
        if again.answered:
            continue
        found = conclude(again)
        if found.cause is None:
            return None
        found.cause = (
            f"it works at times: of {more + 1} times that it was asked again, it failed the last time: {found.cause}"
        )
        return found
    return None


def conclude(observation: Observation) -> Explanation:
    """Run the checks in order; the first diagnosis becomes the explanation. It also lists what was ruled out."""
    found = Explanation(
        observation.observed,
        evidence=once(observation.trace.skipped),
        ladder=observation.drawing,
        way=observation.reached,
    )
    for check, _ in CHECKS:
        try:
            diagnosis = check(observation)
        except Exception as trouble:  # a bug in one check must not keep the others from running
            name = check.__module__.rpartition(".")[2]
            found.evidence.append(f"{CHECK_FAILED} {name}: {trouble!r}")
            continue
        if diagnosis is not None:
            found.cause, found.node = diagnosis.cause, diagnosis.node
            found.evidence += diagnosis.evidence
            # What the test broke on purpose needs no fix.
            found.cures = [] if observation.lab._in_force() else diagnosis.cures
            break
    else:
        found.evidence += observation.there.evidence
        found.evidence += observation.back.evidence if observation.back is not None else []
    found.evidence += [
        f"in force: {each}" for each in observation.lab.faults if f"in force: {each}" not in (found.cause or "")
    ]
    found.evidence += [f"impaired: {each}" for each in observation.impaired]
    if not observation.answered:
        found.evidence += map(str, observation.reasons)
    found.ruled_out = _ruled_out(observation)
    return found


def _ruled_out(observation: Observation) -> list[str]:
    """What was checked and is in order."""
    there, back = observation.there, observation.back
    if there.fault is not None:
        return []
    skipped = observation.trace.skipped
    lost = "; the kernel had more to tell than was read" if observation.trace.lost else ""
    unseen = ", ".join(str(device) for device, outer in there.carriers if outer is None)
    untraced = f"; the packets in which {unseen} carries it were not looked at" if unseen else ""
    found = [
        f"way there: {_names(there.nodes)}; links, ports, routes, neighbours are in order",
        "netfilter: not looked at, see evidence"
        if skipped
        else f"netfilter: no nftables rule dropped it{untraced}{lost}",
    ]
    if back is not None and back.fault is None:
        found.append(f"way back: {_names(back.nodes)}")
    found.append("sockets, tc filters, XDP programs and counters where it ended")
    if not iptables.can_read():
        found.append("rules of iptables-legacy could not be looked at: this user may not")
    question, target = observation.question, observation.target
    if target is None:
        found.append(f"no node of the lab has {question.address}")
    elif question.kind != "ping":
        found.append(f"something listens on {question.kind} port {question.port} of {target.name!r}")
    return found


def once(skipped: list[str]) -> list[str]:
    """Remarks without duplicates: those that apply to all nodes, e.g. a missing libnftables, appear once."""
    reasons = {line.partition(": ")[2] for line in skipped}
    return [f"everywhere: {next(iter(reasons))}"] if len(skipped) > 1 and len(reasons) == 1 else [*skipped]


def _names(nodes: Sequence[Node]) -> str:
    return " -> ".join(node.name for node in nodes)
