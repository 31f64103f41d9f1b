"""What all assertions share: asking until a deadline, proving silence, saying why."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from pytest_netns.checks import A_DAY, check_function, check_range, check_wait
from pytest_netns.clock import monotonic, wall_ns
from pytest_netns.errors import NetnsError, ProbeFailure, TopologyError
from pytest_netns.lab.lab import lab_of
from pytest_netns.lab.nodes import Node

if TYPE_CHECKING:
    from pytest_netns.addresses import Address
    from pytest_netns.capture.frame import Frame
    from pytest_netns.explain.questions import Question
    from pytest_netns.probe.arp import ArpResult


_T = TypeVar("_T")

_never = threading.Event()

#: Seconds between two tries of an assertion that has ``within``.
PAUSE = 0.02


class _Result(Protocol):
    """What all results have."""

    @property
    def address(self) -> Address: ...


_R = TypeVar("_R", bound=_Result)


def eventually(check: Callable[[], _T], within: float = 5.0, *, every: float = PAUSE) -> _T:
    """Call ``check`` until it returns something true, and return that.

    Args:
        check: raises AssertionError, or returns something false, while it is too early.
        within: seconds after which that is a failure.
        every: seconds between two tries.

    Raises:
        ProbeFailure: it never held; with the last reason.

    Example:
        >>> process = blue.spawn(["sh", "-c", "echo converged"])
        >>> eventually(lambda: "converged" in process.output, within=5)
        >>> process.wait()
    """
    __tracebackhide__ = True
    check_function("check", check)
    check_range("within", within, 0, A_DAY)
    check_range("every", every, 0, A_DAY)
    deadline = monotonic() + within
    tries = 0
    while True:
        tries += 1
        reason: AssertionError | None = None
        try:
            value = check()
            if value:
                return value
            shown = repr(value)
        except AssertionError as error:
            reason, shown = error, str(error)
        left = deadline - monotonic()
        if left <= 0:
            name = getattr(check, "__qualname__", repr(check))
            raise ProbeFailure(
                f"{name} did not hold within {within:g} s ({tries} tries); at last:\n{shown}"
            ) from reason
        _never.wait(min(every, left))


def until(ask: Callable[[], _R], good: Callable[[_R], bool], within: float | None) -> tuple[_R, str]:
    """The first good result, or the last one; and how often it was asked, for the message."""
    check_wait("within", within)
    deadline = monotonic() + (within or 0)
    tries = 1
    result = ask()
    while not good(result) and (left := deadline - monotonic()) > 0:
        _never.wait(min(PAUSE, left))
        result, tries = ask(), tries + 1
    return result, f" (tried {tries} times in {within:g} s)" if within else ""


def pause(seconds: float) -> None:
    """Wait between two tries."""
    _never.wait(seconds)


def why(source: Node, question: Callable[[ModuleType], Question]) -> str:
    """The explanation of a failed probe, asked again by a function of ``pytest_netns.explain.questions``."""
    # Imported on use, as the probes are: it needs scapy.
    from pytest_netns.explain import questions
    from pytest_netns.explain.explain import explain

    try:
        return str(explain(lab_of(source), question(questions)))
    except Exception as error:  # whatever it is, it must not take the place of the failure that is reported
        return f"explaining it failed: {error!r}"


def standing(source: Node) -> str:
    """What is broken or impaired on purpose, as lines for a message; empty if nothing is."""
    return "".join(f"\n  in force: {each}" for each in lab_of(source)._in_force())


def check_node(source: object) -> None:
    """Raise TopologyError unless it is a node of a lab."""
    __tracebackhide__ = True
    if not isinstance(source, Node):
        raise TopologyError(f"the source of a probe is a node of a lab, not {source!r}")


def check_by_node(by: object) -> None:
    """Raise TopologyError unless it is None or a node of a lab."""
    __tracebackhide__ = True
    if by is not None and not isinstance(by, Node):
        raise TopologyError(f"by={by!r}: expected a node of the lab")


class _Waited(Protocol):
    @property
    def in_flight(self) -> str | None: ...


def check_waited(result: _Waited) -> None:
    """Raise ProbeFailure if the time was over while the question, or its answer, was on its way."""
    __tracebackhide__ = True
    if result.in_flight is not None:
        raise ProbeFailure(
            f"no answer came in time, but that proves nothing: {asked(result)}. Wait longer: timeout=..."
        )


def asked(result: object) -> str:
    """A result in words, without the brackets of its repr."""
    return repr(result)[1:-1]


def way(source: Node, result: _Result) -> str:
    """The way of packets that arrived against expectation, and which rules let them pass."""
    from pytest_netns.explain.passage import passage
    from pytest_netns.explain.results import question_of

    question = question_of(source, result)
    try:
        if question is not None:
            return passage(question)
        return f"the way: {' -> '.join([source.name, *source.trace(result.address, timeout=0.2).path])}"
    except NetnsError as error:
        return f"the way could not be traced: {error}"


def arp_way(source: Node, result: ArpResult) -> str:
    """The way of a question and an answer of ARP or neighbour discovery that was not to come."""
    from pytest_netns.explain.passage import arp_passage

    try:
        return arp_passage(source, result.interface, result.address)
    except NetnsError as error:
        return f"the way could not be traced: {error}"


def _lost(node: Node) -> int:
    """How many frames of a node its impaired links have lost, as they were told to."""
    impaired = [interface.impairment for interface in node.interfaces.values()]
    return sum(each.counters.lost for each in impaired if each is not None)


class Silence:
    """Captures what leaves a node while it is asked, to tell silence from a question that was never put."""

    def __init__(self, source: Node) -> None:
        self._source = source
        self._capture = source.capture(chatter=True)
        self._capture.internal = True
        self._lost = _lost(source)
        self._since = 0

    def __enter__(self) -> Self:
        self._capture.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._capture.stop()

    def asking(self, ask: Callable[[], _R]) -> Callable[[], _R]:
        """``ask``, noting when: only the last try counts."""

        def noted() -> _R:
            self._since = wall_ns()
            return ask()

        return noted

    def prove(self, error: object, what: str, left: Callable[[Sequence[Frame], ModuleType], bool]) -> None:
        """Silence counts only if the question, or the search for its target, has left the node.

        So does what somebody else has said of it, and the refusal of the node's own firewall (EPERM). That its own
        kernel has nowhere to send it to does not: no route, a link that is down, a next hop that is not there.
        """
        __tracebackhide__ = True
        number, sender = getattr(error, "errno", None), getattr(error, "sender", None)
        own = [address.ip for address in self._source.addresses()]
        if number == errno.EPERM or (sender is not None and sender not in own):
            return
        from pytest_netns.explain import sent

        if _lost(self._source) > self._lost:
            return  # it was lost on the wire, as the link was told to, before a capture sees it
        if not left([frame for frame in self._capture.frames if frame.time >= self._since], sent):
            said = f" (its own kernel: {error})" if error is not None else ""
            raise ProbeFailure(
                f"nothing was sent: nothing answered {self._source.name!r}, but no {what} has left it either{said}: "
                "that proves nothing. Has it a route, a link that is up, a next hop that answers? Is its traffic "
                "dropped on the way out?"
            )
