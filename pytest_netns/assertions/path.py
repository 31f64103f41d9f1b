"""Assertions about the way that packets take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Unpack

from pytest_netns.assertions.retry import asked, check_node, until, why
from pytest_netns.checks import check_several
from pytest_netns.errors import ProbeFailure, TopologyError
from pytest_netns.lab.lab import lab_of
from pytest_netns.lab.nodes import Node
from pytest_netns.topology.network import names_of, network_of

if TYPE_CHECKING:
    from pytest_netns.addresses import Address
    from pytest_netns.assertions.probe_options import TraceOptions
    from pytest_netns.probe.trace import TraceResult
    from pytest_netns.stack.destination import Destination


def assert_path(
    source: Node,
    /,
    destination: Destination,
    hops: Sequence[Node | Address | str],
    *,
    within: float | None = None,
    **probe: Unpack[TraceOptions],
) -> TraceResult:
    """Packets take a certain way; returns the trace.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        hops: the routers in order, by node, name or address; the destination may stand at the end.
        within: seconds to retry; None: trace once.
        **probe: method, port, max_hops, timeout (seconds), source: keywords of ``Node.trace``.

    Raises:
        ProbeFailure: they take another way, or do not arrive.

    Example:
        >>> assert_path(red, green, [router])
    """
    __tracebackhide__ = True
    check_node(source)
    check_several("hops", hops, "routers")
    wanted = [_name_of(source, hop) for hop in hops]
    result, tries = until(lambda: source.trace(destination, **probe), lambda r: _same_way(r, wanted), within)
    if _same_way(result, wanted):
        return result
    shown = f"{asked(result)}{tries}\nexpected: {' -> '.join(wanted)}\nseen:     {' -> '.join(result.path)}"
    if result:
        raise ProbeFailure(shown)
    echo = source.ping(result.address, timeout=0.2)
    reason = why(source, lambda q: q.ping_question(source, echo, {})) if not echo else ""
    raise ProbeFailure(f"{shown}\n{reason}".rstrip())


def assert_not_path(
    source: Node,
    /,
    destination: Destination,
    hops: Sequence[Node | Address | str],
    *,
    within: float | None = None,
    **probe: Unpack[TraceOptions],
) -> TraceResult:
    """Assert that packets arrive, but not by a given path; returns the trace.

    Args:
        source: a node.
        destination: a node, an interface or an address.
        hops: the routers in order, by node, name or address; the destination may stand at the end.
        within: seconds to retry; None: trace once.
        **probe: method, port, max_hops, timeout (seconds), source: keywords of ``Node.trace``.

    Raises:
        ProbeFailure: they take that way, or do not arrive.

    Example:
        >>> assert_not_path(red, blue, [router])
    """
    __tracebackhide__ = True
    check_node(source)
    check_several("hops", hops, "routers")
    wanted = [_name_of(source, hop) for hop in hops]
    good: Callable[[TraceResult], bool] = lambda r: bool(r) and not _same_way(r, wanted)  # noqa: E731
    result, tries = until(lambda: source.trace(destination, **probe), good, within)
    if good(result):
        return result
    raise ProbeFailure(f"expected another way than {' -> '.join(wanted)}{tries}: {asked(result)}")


def _name_of(source: Node, hop: Node | Address | str) -> str:
    if isinstance(hop, Node):
        return hop.name
    if str(hop) in lab_of(source):
        return str(hop)
    try:
        address = ip_address(str(hop))
    except ValueError:
        raise TopologyError(f"{hop!r} is neither a node of {lab_of(source)!r} nor an address") from None
    return names_of(network_of(source)).get(address, str(address))


def _same_way(result: TraceResult, wanted: Sequence[str]) -> bool:
    path = result.path
    return bool(result) and list(wanted) in (path, path[:-1])
