"""Link down: a cable that is pulled, for a while or again and again."""

from __future__ import annotations

import sys

from pytest_netns.checks import is_number, is_whole
from pytest_netns.clock import monotonic
from pytest_netns.errors import TopologyError
from pytest_netns.faults.breakable_cable import BreakableCable
from pytest_netns.faults.schedule import pause_until
from pytest_netns.topology.fault import Fault


def down(link: BreakableCable) -> Fault:
    """Set both ends down, as if the cable were pulled. Addresses stay, and ``up()`` brings the routes back.

    Returns:
        The fault: as a context manager it ends with its block. The link comes up when the last fault of this kind
        has ended, or by ``up()``, which ends them all.

    Raises:
        TopologyError: the link was removed, or went with one of its nodes.

    Example:
        >>> with link.down():
        ...     assert not red.ping(blue, timeout=0.1)
    """
    link._check_ends()
    with link._lock:
        _set_down(link)
        cut = Fault(link.lab.faults, f"{link.a} -- {link.b} is down", lambda: _mend(link, cut), [])
        link._cuts.append(cut)
        return cut


def up(link: BreakableCable) -> None:
    """Set both ends up, wait for the carrier, and restore the routes that the kernel removed at ``down()``.

    Every ``down()`` is over then. A route that was set anew since is left as it is. The end in a host that has
    crashed comes up when that is restarted, and the port of a bridge that was detached when it is attached again.

    Raises:
        TopologyError: the link was removed, or went with one of its nodes.
        WaitTimeout: no frame passes within 5 seconds.

    Example:
        >>> link.down()
        >>> link.up()
    """
    link._check_ends()
    with link._lock:
        link._forget_cuts()
        with link.lab.faults.mending():
            for end, node in zip(link.interfaces, link.nodes, strict=True):
                if not node._defer_up(end):
                    end.up()
            link._settle()
            for node in link.nodes:
                node.saved_config.restore()


def flap(link: BreakableCable, times: int = 1, period: float = 1.0) -> None:
    """Let the link go down and come up again, several times; returns when it is up for the last time.

    Where it is down already, by ``down()``, it stays so.

    To go on meanwhile: ``lab.schedule([(0, lambda: link.flap(3, 0.2))])``.

    Args:
        times: how often, 1 or more.
        period: seconds from one going down to the next; it is down for the first half.

    Raises:
        TopologyError: a number out of range, or the link was removed.

    Example:
        >>> link.flap(times=2, period=0.2)
    """
    if not is_whole(times, 1, sys.maxsize):
        raise TopologyError(f"{link!r}: flap(times={times!r}): expected a whole number from 1")
    if not is_number(period, sys.float_info.min, sys.float_info.max):
        raise TopologyError(f"{link!r}: flap(period={period!r}): expected seconds, more than 0")
    began = monotonic()
    for turn in range(times):
        with down(link):
            going_on = pause_until(began + (turn + 0.5) * period)
        if not going_on or not pause_until(began + (turn + 1) * period):
            return  # its schedule was cancelled, or the lab is being closed


def _set_down(link: BreakableCable) -> None:
    for end, node in zip(link.interfaces, link.nodes, strict=True):
        with node.saved_config.saving():
            end.down()
        node.saved_config.restore(routes=False)  # who was adopted may have lost addresses (keep_addr_on_down)


def _mend(link: BreakableCable, ended: Fault) -> None:
    with link._lock:
        link._cuts = [cut for cut in link._cuts if cut is not ended and cut.in_force]
        if not link._cuts and not link._is_gone:
            up(link)
