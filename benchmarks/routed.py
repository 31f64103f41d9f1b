"""A router with NAT between two LANs of two hosts each: ours, and the floor for the same requests to the kernel.

The floor is told what to send: it asks for the same interfaces, addresses and routes, and loads the same nftables
ruleset through the same library, without a table of what is there or an error in words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks import floor
from pytest_netns import Lab
from pytest_netns.kernel.nftables import Nftables

_FORWARDING = {
    "/proc/sys/net/ipv4/ip_forward": "1",
    "/proc/sys/net/ipv6/conf/all/forwarding": "1",
    "/proc/sys/net/ipv4/conf/all/send_redirects": "0",
    "/proc/sys/net/ipv4/conf/default/send_redirects": "0",
}
_ICMP = {"/proc/sys/net/ipv4/icmp_ratemask": "0", "/proc/sys/net/ipv6/icmp/ratemask": "\n"}
