"""Pings and datagrams to a multicast group or a broadcast address that nobody answers."""

from __future__ import annotations

import pytest
from conversation import listen
from explaining import why_no_datagram, why_no_ping

from pytest_netns import Host, Lab

GROUP = "239.1.1.1"
IGNORED = "net.ipv4.icmp_echo_ignore_broadcasts"


@pytest.fixture
def sender(lab: Lab) -> Host:
    """``s`` on a bridge with ``g`` and ``h``."""
    lan = lab.bridge("lan", "10.0.0.0/24")
    sender = lan.host("s")
    lan.host("g")
    lan.host("h")
    sender.add_route("224.0.0.0/4", interface="eth0")
    return sender


def test_members_of_a_group_that_ignore_such_pings_are_named(lab: Lab, sender: Host) -> None:
    g = lab["g"]
    assert isinstance(g, Host)
    g.sysctl[IGNORED] = 1
    with g.join(GROUP, "eth0"):
        found = why_no_ping(sender, GROUP)
    assert found.cause == f"no member of it on the link of s:eth0 answers a ping to {GROUP}: {IGNORED} is 1 on 'g'"
    assert found.cures == [f'g.sysctl["{IGNORED}"] = 0']
    assert found.node == "g"


def test_a_group_that_nobody_has_joined(sender: Host) -> None:
    found = why_no_ping(sender, GROUP)
    assert found.cause == f"no other node of the lab is a member of group {GROUP}"
    assert any(line.startswith("g:eth0: groups: ") for line in found.evidence)


def test_a_member_of_a_group_where_nothing_listens(lab: Lab, sender: Host) -> None:
    g = lab["g"]
    assert isinstance(g, Host)
    with g.join(GROUP, "eth0"):
        found = why_no_datagram(sender, GROUP, 5000)
        assert found.cause == f"no member of it on the link of s:eth0 listens on udp port 5000 for {GROUP}"
        listen(g, 5000, "udp")
        assert "listens on" not in str(why_no_datagram(sender, GROUP, 5000).cause)


def test_a_broadcast_ping_that_all_ignore(lab: Lab, sender: Host) -> None:
    for name in ("g", "h", "lan"):
        lab[name].sysctl[IGNORED] = 1
    found = why_no_ping(sender, "10.0.0.255")
    assert found.cause is not None
    assert found.cause.startswith(f"nobody on the link of s:eth0 answers a ping to 10.0.0.255: {IGNORED} is 1 on ")
    assert {f'{name}.sysctl["{IGNORED}"] = 0' for name in ("g", "h")} <= set(found.cures)


def test_a_member_that_cannot_be_reached_is_not_asked_by_arp(lab: Lab, sender: Host) -> None:
    g = lab["g"]
    assert isinstance(g, Host)
    g.links[0].a.down()
    with g.join(GROUP, "eth0"):
        found = why_no_ping(sender, GROUP)
    assert "ARP" not in str(found.cause)
