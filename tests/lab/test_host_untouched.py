"""Nothing ever exists in the namespace where the tests run, not for an instant."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_netns import Lab, Namespace

pytestmark = pytest.mark.usefixtures("lab_factory")

# All the groups of rtnetlink(7) that tell of links, addresses, routes, neighbours and rules.
EVERYTHING = 0x7FFFFFFF


def build_and_use() -> set[int]:
    """A bit of everything that makes interfaces; returns the inodes of all namespaces it made."""
    with Lab("untouched-home") as lab:
        bridge = lab.bridge("br-untouched", "192.168.15.0/24")
        red, blue = bridge.host("red"), bridge.host("blue")
        bridge.add_address("192.168.15.99/24")
        link = lab.connect(red, blue, names=("veth-red", "veth-blue"))
        assert red.ping(blue)
        assert red.arp(blue)
        assert red.tcp(blue, 80).state == "closed"
        red.sysctl["net.ipv4.ip_forward"] = 1
        red.run(["ip", "route", "add", "198.51.100.0/24", "dev", "veth-red"])
        link.down()
        link.up()
        bridge.detach(red)
        bridge.attach(red)
        link.remove()
        return {node.inode for node in lab}


@contextmanager
def a_home() -> Iterator[socket.socket]:
    """The thread is in a namespace that stands for the host's, with a socket that hears of all that happens there.

    The machine's own may change at any time by what others do.
    """
    home = Namespace("home")
    monitor = home.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    monitor.bind((0, EVERYTHING))
    monitor.setblocking(False)
    try:
        with home:
            yield monitor
    finally:
        home.close()


def heard(monitor: socket.socket) -> list[bytes]:
    messages = []
    while True:
        try:
            messages.append(monitor.recv(65536))
        except BlockingIOError:
            return messages


def files_of_home() -> dict[str, str]:
    """What the kernel shows of the namespace of this thread."""
    names = ("dev", "route", "ipv6_route", "if_inet6", "arp", "tcp", "udp", "raw", "packet", "igmp")
    found = {name: Path(f"/proc/thread-self/net/{name}").read_text() for name in names}
    for name in ("ip_forward", "conf/all/rp_filter", "conf/default/rp_filter", "ip_default_ttl"):
        found[name] = Path(f"/proc/sys/net/ipv4/{name}").read_text()
    return found


def test_the_monitor_hears_of_an_interface_that_is_made() -> None:
    with a_home() as monitor:
        from pytest_netns.kernel.netlink.rtnetlink import bridge
        from pytest_netns.kernel.netlink.socket import NetlinkSocket

        link = NetlinkSocket("home")
        link.batch([bridge("seen", 0, b"\x02\0\0\0\0\x01")])
        link.close()
        assert any(b"seen" in message for message in heard(monitor))


@pytest.mark.netns_requires("program:ip")
def test_nothing_happens_at_home_while_a_lab_lives_and_dies() -> None:
    with a_home() as monitor:
        before = files_of_home()
        build_and_use()
        assert heard(monitor) == []
        assert files_of_home() == before


@pytest.mark.netns_requires("program:ip")
def test_the_host_itself_never_hears_of_our_interfaces() -> None:
    monitor = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with monitor:
        monitor.bind((0, EVERYTHING))
        monitor.setblocking(False)
        build_and_use()
        messages = b"".join(heard(monitor))
    assert not [name for name in (b"br-untouched", b"veth-red", b"veth-blue") if name in messages]


def test_no_namespace_gets_a_name_or_a_mount() -> None:
    mounts = Path("/proc/thread-self/mountinfo").read_text().splitlines()
    with Lab() as lab:
        red = lab.host("red")
        red.run(["true"])
        named = Path("/run/netns")
        inodes = {file.stat().st_ino for file in named.iterdir()} if named.is_dir() else set()
        assert red.inode not in inodes
        during = Path("/proc/thread-self/mountinfo").read_text().splitlines()
        assert not [line for line in during if f"net:[{red.inode}]" in line]
        assert [line for line in during if "nsfs" in line] == [line for line in mounts if "nsfs" in line]


@pytest.mark.netns_requires("program:ip")
def test_no_process_stays_in_a_namespace_of_ours() -> None:
    inodes = build_and_use()
    left = []
    for process in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if int(os.readlink(process)[5:-1]) in inodes:
                left.append(process)
        except OSError:
            continue
    assert left == []


@pytest.mark.netns_requires("program:ip")
def test_the_thread_is_at_home_after_everything() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    build_and_use()
    assert os.readlink("/proc/thread-self/ns/net") == before
