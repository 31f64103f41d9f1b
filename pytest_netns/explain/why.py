"""Why: the public function that explains any result."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Explanation
from pytest_netns.explain.results import KINDS, explain_failure, words
from pytest_netns.lab.history import labs
from pytest_netns.lab.lab import lab_of
from pytest_netns.probe.matrix import PingMatrix
from pytest_netns.topology.failure import Failure


def why(result: object) -> Explanation:
    """Explain why a probe failed: send it again while observing every interface and rule of its lab.

    Nothing in the lab changes except counters and the effects of one more packet. The explanation of a trace that
    reached its destination gives the routes that it followed.

    Args:
        result: what ``ping``, ``arp``, ``tcp``, ``udp``, ``dns``, ``trace``, ``path_mtu``, ``ping_all``, ``throughput``
            or ``loss`` returned. Each lab keeps its last 50 failed results.

    Returns:
        The explanation; printed, it is what the report of a failed test shows. Its cause is None if nothing was found,
        or nothing failed. An exception while explaining is reported in it, not raised.

    Raises:
        TypeError: not the result of a probe.

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
    """The failure that the lab has recorded for a result; for a single pair, that of its matrix."""
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
