"""Assertions about the network. A failure says what was asked, what came back, and why, node by node.

A negative assertion first proves that its instrument works: no answer is not evidence.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from pytest_netns.errors import NetnsError, ProbeFailure, TopologyError
from pytest_netns.lab.node import Node

if TYPE_CHECKING:
    from pytest_netns.capture.frame import Frame
    from pytest_netns.explain.questions import Question
    from pytest_netns.kernel.rtnetlink import Address
    from pytest_netns.probe.arp import ArpResult
    from pytest_netns.probe.destination import Destination
    from pytest_netns.probe.ping import PingResult
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.trace import TraceResult
    from pytest_netns.probe.udp import UdpResult

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
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + within
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
        left = deadline - time.monotonic()
        if left <= 0:
            name = getattr(check, "__qualname__", repr(check))
            raise ProbeFailure(
                f"{name} did not hold within {within:g} s ({tries} tries); at last:\n{shown}"
            ) from reason
        _never.wait(min(every, left))


def _until(ask: Callable[[], _R], good: Callable[[_R], bool], within: float | None) -> tuple[_R, str]:
    """The first good result, or the last one; and how often it was asked, for the message."""
    deadline = time.monotonic() + (within or 0)
    tries = 1
    result = ask()
    while not good(result) and (left := deadline - time.monotonic()) > 0:
        _never.wait(min(PAUSE, left))
        result, tries = ask(), tries + 1
    return result, f" (tried {tries} times in {within:g} s)" if within else ""


def _why(source: Node, question: Callable[[ModuleType], Question]) -> str:
    # Imported on use, as the probes are: it needs scapy.
    from pytest_netns.explain import questions
    from pytest_netns.explain.explain import explain

    try:
        return str(explain(source.lab, question(questions)))
    except NetnsError as error:
        return f"explaining it failed: {error}"


def _check_node(source: object) -> None:
    __tracebackhide__ = True
    if not isinstance(source, Node):
        raise TopologyError(f"the source of a probe is a node of a lab, not {source!r}")


# -------------------------------------------------------------------- ping


def assert_ping(source: Node, destination: Destination, *, within: float | None = None, **probe: Any) -> PingResult:
    """``destination`` answers every echo request of ``source``; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        within: retry for so many seconds; None: ask once.
        **probe: as for ``Node.ping``.

    Raises:
        ProbeFailure: with the cause.
    """
    __tracebackhide__ = True
    _check_node(source)
    result, tries = _until(lambda: source.ping(destination, **probe), bool, within)
    if result:
        return result
    raise ProbeFailure(f"{_asked(result)}{tries}\n{_why(source, lambda q: q.ping_question(source, result, probe))}")


def _asked(result: object) -> str:
    return repr(result)[1:-1]


def assert_no_ping(source: Node, destination: Destination, *, within: float | None = None, **probe: Any) -> PingResult:
    """``destination`` answers no echo request of ``source``, though something was sent; returns the result.

    Args and errors as for ``assert_ping``; with ``within``, retried until no answer comes.
    """
    __tracebackhide__ = True
    _check_node(source)
    with _Silence(source) as silence:
        ask = silence.asking(lambda: source.ping(destination, **probe))
        result, tries = _until(ask, lambda r: r.received == 0, within)
    if result.received:
        raise ProbeFailure(f"expected no answer, and there was one{tries}: {_asked(result)}\n{_way(source, result)}")
    silence.prove(result.error, "echo request", lambda f, d: d.has_left(f, "ping", source, result.address))
    return result


def _way(source: Node, result: _Result) -> str:
    try:
        return f"the way: {' -> '.join([source.name, *source.trace(result.address, timeout=0.2).path])}"
    except NetnsError as error:
        return f"the way could not be traced: {error}"


class _Silence:
    """Captures what leaves a node while it is asked, to tell silence from a question that was never put."""

    def __init__(self, source: Node) -> None:
        self._source = source
        self._capture = source.capture(chatter=True)
        self._since = 0

    def __enter__(self) -> Self:
        self._capture.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._capture.stop()

    def asking(self, ask: Callable[[], _R]) -> Callable[[], _R]:
        """``ask``, noting when: only the last try counts."""

        def noted() -> _R:
            self._since = time.time_ns()
            return ask()

        return noted

    def prove(self, error: object, what: str, left: Callable[[Sequence[Frame], ModuleType], bool]) -> None:
        """Silence counts only if the question, or the search for the next hop, has left the node."""
        __tracebackhide__ = True
        # Somebody has spoken, be it the node's own kernel. ENOBUFS is what it says if a device's queue, or a rule
        # there, throws away what it was to send.
        if error is not None and getattr(error, "errno", None) != errno.ENOBUFS:
            return
        from pytest_netns.explain import departure

        if not left([frame for frame in self._capture.frames if frame.time >= self._since], departure):
            raise ProbeFailure(
                f"nothing answered {self._source.name!r}, but no {what} has left it either: that proves nothing. Is "
                "its traffic dropped on the way out, or its capture deaf?"
            )


# --------------------------------------------------------------------- arp


def assert_arp(source: Node, destination: Destination, *, within: float | None = None, **probe: Any) -> ArpResult:
    """Somebody on the link of ``source`` answers ARP, or neighbour discovery, for an address; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        within: retry for so many seconds; None: ask once.
        **probe: as for ``Node.arp``.

    Raises:
        ProbeFailure: with the cause.
    """
    __tracebackhide__ = True
    _check_node(source)
    result, tries = _until(lambda: source.arp(destination, **probe), bool, within)
    if result:
        return result
    from pytest_netns.explain.neighbours import deafness
    from pytest_netns.explain.walk import link_fault

    question = source.lab, source, source.interface(result.interface), result.address
    fault = link_fault(*question) or deafness(*question)
    why = f"cause: {fault.cause}\nevidence:\n" + "\n".join(f"  {line}" for line in fault.evidence) if fault else ""
    raise ProbeFailure(f"{_asked(result)}{tries}\n{why or 'cause: not found: the tables say that it should answer'}")


def assert_no_arp(source: Node, destination: Destination, *, within: float | None = None, **probe: Any) -> ArpResult:
    """Nobody answers ARP, or neighbour discovery, for an address, though the question was sent; returns the result.

    Args and errors as for ``assert_arp``; with ``within``, retried until nobody answers.
    """
    __tracebackhide__ = True
    _check_node(source)
    with _Silence(source) as silence:
        result, tries = _until(silence.asking(lambda: source.arp(destination, **probe)), lambda r: not r, within)
    if result:
        raise ProbeFailure(f"expected that nobody answers, and somebody does{tries}: {_asked(result)}")
    silence.prove(result.error, "question", lambda f, d: d.has_asked(f, result.address))
    return result


# --------------------------------------------------------------------- tcp


def _assert_tcp(
    source: Node,
    destination: Destination,
    port: int,
    wanted: Sequence[str],
    within: float | None,
    probe: dict[str, Any],
) -> TcpResult:
    __tracebackhide__ = True
    _check_node(source)
    with _Silence(source) as silence:
        ask = silence.asking(lambda: source.tcp(destination, port, **probe))
        result, tries = _until(ask, lambda r: r.state in wanted, within)
    if result.state not in wanted:
        expected = " or ".join(wanted)
        head = f"expected {expected}: {_asked(result)}{tries}"
        if wanted == ["open"]:
            raise ProbeFailure(f"{head}\n{_why(source, lambda q: q.tcp_question(source, result))}")
        if result.state == "open":
            raise ProbeFailure(f"{head}\n{_way(source, result)}")
        raise ProbeFailure(f"{head}\n{_why(source, lambda q: q.tcp_question(source, result))}")
    if result.state != "open":
        silence.prove(result.error, "SYN", lambda f, d: d.has_left(f, "tcp", source, result.address, port))
    return result


def assert_tcp_open(
    source: Node,
    destination: Destination,
    port: int,
    *,
    within: float | None = None,
    **probe: Any,
) -> TcpResult:
    """A TCP port is open, seen from ``source``; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        within: retry for so many seconds; None: ask once.
        **probe: as for ``Node.tcp``.

    Raises:
        ProbeFailure: with the cause.
    """
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, ["open"], within, probe)


def assert_tcp_not_open(
    source: Node,
    destination: Destination,
    port: int,
    *,
    within: float | None = None,
    **probe: Any,
) -> TcpResult:
    """A TCP port is closed, filtered or unreachable. Args and errors as for ``assert_tcp_open``."""
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, ["closed", "filtered", "unreachable"], within, probe)


def assert_tcp_closed(
    source: Node,
    destination: Destination,
    port: int,
    *,
    within: float | None = None,
    **probe: Any,
) -> TcpResult:
    """A TCP port is closed: a RST comes back. Args and errors as for ``assert_tcp_open``."""
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, ["closed"], within, probe)


def assert_tcp_filtered(
    source: Node,
    destination: Destination,
    port: int,
    *,
    within: float | None = None,
    **probe: Any,
) -> TcpResult:
    """A SYN is not answered at all, though it was sent. Args and errors as for ``assert_tcp_open``."""
    __tracebackhide__ = True
    return _assert_tcp(source, destination, port, ["filtered"], within, probe)


# --------------------------------------------------------------------- udp


def assert_udp(
    source: Node,
    destination: Destination,
    port: int,
    payload: bytes = b"",
    *,
    within: float | None = None,
    **probe: Any,
) -> UdpResult:
    """A datagram is answered; returns the result.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        port: 1 to 65535.
        payload: bytes to send.
        within: retry for so many seconds; None: ask once.
        **probe: as for ``Node.udp``.

    Raises:
        ProbeFailure: with the cause.
    """
    __tracebackhide__ = True
    _check_node(source)
    result, tries = _until(lambda: source.udp(destination, port, payload, **probe), bool, within)
    if result:
        return result
    raise ProbeFailure(f"{_asked(result)}{tries}\n{_why(source, lambda q: q.udp_question(source, result, payload))}")


def assert_no_udp(
    source: Node,
    destination: Destination,
    port: int,
    payload: bytes = b"",
    *,
    within: float | None = None,
    **probe: Any,
) -> UdpResult:
    """A datagram is not answered, though it was sent. Args and errors as for ``assert_udp``."""
    __tracebackhide__ = True
    _check_node(source)
    with _Silence(source) as silence:
        ask = silence.asking(lambda: source.udp(destination, port, payload, **probe))
        result, tries = _until(ask, lambda r: not r, within)
    if result:
        raise ProbeFailure(f"expected no answer, and there was one{tries}: {_asked(result)}\n{_way(source, result)}")
    silence.prove(result.error, "datagram", lambda f, d: d.has_left(f, "udp", source, result.address, port))
    return result


# -------------------------------------------------------------------- path


def assert_path(
    source: Node,
    destination: Destination,
    hops: Sequence[Node | Address | str],
    *,
    within: float | None = None,
    **probe: Any,
) -> TraceResult:
    """Packets take a certain way; returns the trace.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        hops: the routers in order, by node, name or address; the destination may stand at the end.
        within: retry for so many seconds; None: trace once.
        **probe: as for ``Node.trace``.

    Raises:
        ProbeFailure: they take another way, or do not arrive.
    """
    __tracebackhide__ = True
    _check_node(source)
    wanted = [_name_of(source, hop) for hop in hops]
    result, tries = _until(lambda: source.trace(destination, **probe), lambda r: _same_way(r, wanted), within)
    if _same_way(result, wanted):
        return result
    shown = f"{_asked(result)}{tries}\nexpected: {' -> '.join(wanted)}\nseen:     {' -> '.join(result.path)}"
    if result:
        raise ProbeFailure(shown)
    echo = source.ping(result.address, timeout=0.2)
    why = _why(source, lambda q: q.ping_question(source, echo, {})) if not echo else ""
    raise ProbeFailure(f"{shown}\n{why}".rstrip())


def assert_not_path(
    source: Node,
    destination: Destination,
    hops: Sequence[Node | Address | str],
    *,
    within: float | None = None,
    **probe: Any,
) -> TraceResult:
    """Packets arrive, and not by a certain way. Args and errors as for ``assert_path``."""
    __tracebackhide__ = True
    _check_node(source)
    wanted = [_name_of(source, hop) for hop in hops]
    good: Callable[[TraceResult], bool] = lambda r: bool(r) and not _same_way(r, wanted)  # noqa: E731
    result, tries = _until(lambda: source.trace(destination, **probe), good, within)
    if good(result):
        return result
    raise ProbeFailure(f"expected another way than {' -> '.join(wanted)}{tries}: {_asked(result)}")


def _name_of(source: Node, hop: Node | Address | str) -> str:
    if isinstance(hop, Node):
        return hop.name
    if str(hop) in source.lab:
        return str(hop)
    try:
        address = ip_address(str(hop))
    except ValueError:
        raise TopologyError(f"{hop!r} is neither a node of {source.lab!r} nor an address") from None
    return source.node_names().get(address, str(address))


def _same_way(result: TraceResult, wanted: Sequence[str]) -> bool:
    path = result.path
    return bool(result) and list(wanted) in (path, path[:-1])
