"""The spanning tree of bridges (IEEE 802.1D): its root, the states of its ports, and when it is settled."""

from __future__ import annotations

import struct
from typing import TypeVar

from pytest_netns.checks import A_DAY, check_range
from pytest_netns.clock import monotonic, sleep
from pytest_netns.errors import WaitTimeout
from pytest_netns.kernel.netlink.linkinfo import BRIDGE_ID, BRIDGE_ROOT_ID
from pytest_netns.lab.switch import Switch
from pytest_netns.topology import graph

_S = TypeVar("_S", bound=Switch)

#: Seconds, as the kernel has them by default (IEEE 802.1D-1998 table 8-3).
FORWARD_DELAY, MAX_AGE = 15.0, 20.0
#: Seconds between two looks at ports: a spanning tree takes seconds.
_LOOK = 0.02
_SETTLED = ("forwarding", "blocking")


def port_states_of(bridge: Switch) -> dict[str, str]:
    """By port: ``forwarding``, ``blocking``, ``listening``, ``learning`` or ``disabled`` (IEEE 802.1D 8.4)."""
    return {name: port.state.port_state for name, port in bridge.ports.items()}


def root_of(bridge: _S) -> _S | None:
    """The root of the spanning tree as a bridge sees it; None if that is no bridge of the lab."""
    wanted = bridge._shown().get(BRIDGE_ROOT_ID)
    for node in bridge.lab:
        if isinstance(node, type(bridge)) and not node.closed and node._shown().get(BRIDGE_ID) == wanted:
            return node
    return None


def wait_converged(bridge: Switch, timeout: float | None = None) -> None:
    """Wait until the spanning tree is settled, on this bridge and on all that trunks join with it.

    Then they agree on the root, and each port that has a carrier either forwards or is blocked. After a failure
    that no bridge detects at its own port, the old tree remains for up to ``max_age`` seconds: await what you
    expect, e.g. by ``assert_ping(..., within=60)``. After any change, what bridges have learned on the old way is
    forgotten only ``forward_delay`` seconds later.

    Args:
        timeout: seconds; None for as long as the timers of this bridge can take.

    Raises:
        WaitTimeout: it was not; with the states of the ports.

    Example:
        >>> switch = lab.bridge("switch", stp=True, forward_delay=2)
        >>> switch.wait_converged()
    """
    if timeout is None:
        delay = bridge.settings.forward_delay or FORWARD_DELAY
        timeout = (bridge.settings.max_age or MAX_AGE) + 2 * delay + 5
    check_range("timeout", timeout, 0, A_DAY)
    deadline = monotonic() + timeout
    while (unsettled := _unsettled(bridge)) is not None:
        if monotonic() > deadline:
            raise WaitTimeout(
                f"bridge {bridge.name!r}: waited {timeout:g} s until the spanning tree is settled; {unsettled}"
            )
        sleep(_LOOK)


def _unsettled(asked: Switch) -> str | None:
    bridges = [bridge for bridge in _joined(asked) if bridge.settings.stp]
    for bridge in bridges:
        for name, port in bridge.ports.items():
            state = port.state
            if state.is_up and state.port_state not in _SETTLED:
                return f"port {name!r} of {bridge.name!r} is {state.port_state}"
    roots = {bridge.name: bridge._shown().get(BRIDGE_ROOT_ID, b"") for bridge in bridges}
    if len(set(roots.values())) > 1:
        shown = ", ".join(f"{name}: {_bridge_id(root)}" for name, root in roots.items())
        return f"they see different roots ({shown})"
    return None


def _joined(bridge: Switch) -> list[Switch]:
    """All bridges that trunks join with one, itself included."""

    def further(place: Switch) -> list[Switch]:
        ends = (end.node for link in place.links if link.is_up for end in link.interfaces)
        return [node for node in ends if isinstance(node, Switch)]

    return [way[-1] for way in graph.ways(bridge, further)]


def _bridge_id(raw: bytes) -> str:
    """``8000.02:1f:0a:33:5b:c0``, as ip(8) shows it."""
    return f"{struct.unpack('!H', raw[:2])[0]:x}.{raw[2:].hex(':')}" if len(raw) == 8 else "unknown"
