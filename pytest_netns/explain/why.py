"""Why: the explanation of any result, for users."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.results import KINDS, explain_failure, words
from pytest_netns.lab.history import labs
from pytest_netns.lab.lab import lab_of
from pytest_netns.probe.matrix import PingMatrix
from pytest_netns.topology.failure import Failure


def why(result: object) -> Explanation:
    """Explain why a probe failed: send it again while watching every interface and rule of its lab.

    Nothing in the lab changes, except for counters, and for what one more packet does. A trace that reached its
    destination is explained by the routes that it followed.

    Args:
        result: what ``ping``, ``arp``, ``tcp``, ``udp``, ``dns``, ``trace``, ``path_mtu``, ``ping_all``, ``throughput``
            or ``loss`` returned. Each lab keeps the last 50 that failed.

    Returns:
        Observed, cause, node, evidence, cures, ruled_out; as text, what a failed test shows. The cause is None if
        nothing was found, or nothing failed. Looking never raises.

    Raises:
        TypeError: it is no result of a probe.

    Example:
        >>> print(why(red.tcp(blue, 80)))
    """
    if not isinstance(result, KINDS):
        raise TypeError(f"why({result!r}): expected the result of a probe, such as red.ping(blue)")
    failure = _kept(result)
    if failure is not None:
        return explain_failure(failure)
    if result:
        return Explanation(words(result), ruled_out=["nothing failed"])
    return Explanation(
        words(result), ruled_out=["nothing was looked at: its lab is closed, or has kept 50 others since"]
    )


def _kept(result: object) -> Failure | None:
    """What its lab has kept of it; a result of a matrix is kept with the matrix."""
    for lab in list(labs):
        for failure in reversed(list(lab.failed)):
            if failure.node.closed or lab.closed:
                continue
            if failure.result is result:
                return failure
            if isinstance(failure.result, PingMatrix):
                for pair in failure.result.failed:
                    if pair is result:
                        return Failure(lab_of(failure.node)[pair.source], pair, "ping", (), failure.in_force)
    return None
