"""Assertions about the network. A failure says what was asked, what came back, and why, node by node.

A negative assertion first proves that its instrument works: no answer is not evidence.
"""

from pytest_netns.assertions.blocked import assert_blocked
from pytest_netns.assertions.conditions import assert_loss, assert_rate, assert_rtt
from pytest_netns.assertions.path import assert_not_path, assert_path
from pytest_netns.assertions.ports import (
    assert_no_udp,
    assert_tcp_closed,
    assert_tcp_filtered,
    assert_tcp_not_open,
    assert_tcp_open,
    assert_udp,
)
from pytest_netns.assertions.reachability import assert_arp, assert_no_arp, assert_no_ping, assert_ping
from pytest_netns.assertions.retry import eventually

__all__ = [
    "assert_arp",
    "assert_blocked",
    "assert_loss",
    "assert_no_arp",
    "assert_no_ping",
    "assert_no_udp",
    "assert_not_path",
    "assert_path",
    "assert_ping",
    "assert_rate",
    "assert_rtt",
    "assert_tcp_closed",
    "assert_tcp_filtered",
    "assert_tcp_not_open",
    "assert_tcp_open",
    "assert_udp",
    "eventually",
]
