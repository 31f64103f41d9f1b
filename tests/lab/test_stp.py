"""Spanning trees (IEEE 802.1D): a loop of bridges is cut, and opened again when a trunk fails."""

from __future__ import annotations

import time

import pytest

from pytest_netns import Bridge, Lab, TopologyError, WaitTimeout, assert_ping
from pytest_netns.lab.switch import SwitchSettings

#: The least that the kernel takes: four seconds until a port forwards.
FAST = {"stp": True, "forward_delay": 2, "hello_time": 1, "max_age": 6}


def triangle(lab: Lab) -> list[Bridge]:
    first = lab.bridge("s1", "192.168.15.0/24", priority=4096, **FAST)  # type: ignore[arg-type]
    others = [lab.bridge(name, first, **FAST) for name in ("s2", "s3")]  # type: ignore[arg-type]
    return [first, *others]


@pytest.mark.netns_requires("libpcap")
def test_a_loop_is_cut_and_opened_when_a_trunk_fails(lab: Lab) -> None:
    s1, s2, s3 = triangle(lab)
    trunks = [lab.connect(s1, s2), lab.connect(s2, s3), lab.connect(s3, s1)]
    red, blue = s2.host("red"), s3.host("blue")
    started = time.monotonic()
    assert s2.port_states["red"] in ("listening", "learning")
    assert not red.ping(blue, timeout=0.05)
    s3.wait_converged()
    assert time.monotonic() - started > 2
    assert [bridge.root for bridge in (s1, s2, s3)] == [s1, s1, s1]
    states = [state for bridge in (s1, s2, s3) for state in bridge.port_states.values()]
    assert sorted(states) == ["blocking"] + ["forwarding"] * 7
    with lab.capture(filter="icmp") as capture:
        assert red.ping(blue, timeout=1)
    assert len(capture) < 40  # no storm
    assert "blocking" not in s1.port_states.values()
    trunks[2].down()
    s3.wait_converged()
    assert_ping(red, blue, within=10)  # what was learned on the old way has to age first
    assert "blocking" not in [*s2.port_states.values(), *s3.port_states.values()]


def test_the_lowest_priority_is_the_root(lab: Lab) -> None:
    one = lab.bridge("one", False, stp=True, forward_delay=2)
    two = lab.bridge("two", False, stp=True, forward_delay=2, priority=0)
    assert (one.root, two.root) == (one, two)
    lab.connect(one, two)
    two.wait_converged()
    assert (one.root, two.root) == (two, two)


def test_without_a_tree_nothing_has_to_be_awaited(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    bridge.host("red")
    assert bridge.port_states == {"red": "forwarding"}
    bridge.wait_converged(timeout=0)
    assert bridge.root is bridge


def test_what_is_not_settled_is_said(lab: Lab) -> None:
    bridge = lab.bridge("br0", stp=True)
    red = bridge.host("red")
    bridge.add_address(f"{bridge.subnet[9]}/24")
    with pytest.raises(
        WaitTimeout, match=r"bridge 'br0': waited 0.1 s .*; port 'red' of 'br0' is (listening|learning)"
    ):
        bridge.wait_converged(timeout=0.1)
    bridge.detach(red)
    bridge.attach(red)
    assert red.links[0].is_up


def test_a_bad_value_leaves_no_bridge(lab: Lab) -> None:
    for bad, match in (
        ({"forward_delay": 1}, r"bridge 'br0': forward_delay is 1; it can be 2 to 30 seconds"),
        ({"hello_time": 11}, r"hello_time is 11; it can be 1 to 10 seconds"),
        ({"max_age": True}, r"max_age is True; it can be 6 to 40 seconds"),
        ({"priority": 1 << 16}, r"priority is 65536; it can be 0 to 65535"),
    ):
        with pytest.raises(TopologyError, match=match):
            lab.bridge("br0", "192.168.15.0/24", stp=True, **bad)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"forward_delay, priority needs stp=True"):
        lab.bridge("br0", "192.168.15.0/24", priority=1, forward_delay=4)
    assert len(lab) == 0
    lab.bridge("br0", "192.168.15.0/24")  # name and subnet are free


def test_times_reach_the_kernel_in_its_unit() -> None:
    settings = SwitchSettings(stp=True, priority=1, forward_delay=2.5, hello_time=1, max_age=6)
    assert settings.options("") == {"forward_delay": 250, "hello_time": 100, "max_age": 600, "priority": 1, "stp": 1}
    assert SwitchSettings().options("") == {}
