from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conversation import listen
from explaining import why_no_datagram, why_no_ping, why_not_open

from pytest_netns import Host, KernelError, Lab, Namespace, TopologyError, eventually
from pytest_netns.addresses import is_of_link
from pytest_netns.faults import crash as breakable
from pytest_netns.kernel.netns.registry import nodes_of
from pytest_netns.kernel.procfs import stat
from pytest_netns.kernel.syscalls import THREAD_NETNS

SHORT = 0.05
SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]
#: A daemon: forks twice, into a session of its own.
DAEMON = [sys.executable, "-c", "import os, time\nif os.fork() == 0:\n os.setsid()\n os.fork() or time.sleep(1000)"]


@pytest.mark.netns_requires("libpcap")
def test_nothing_of_it_is_left_and_nobody_hears_good_bye(lab: Lab) -> None:
    lan = lab.bridge("lan")
    red, blue = lan.host("red"), lan.host("blue")
    server = blue.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind((str(blue.ip4), 80))
    server.listen()
    client = red.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect((str(blue.ip4), 80))
    process = blue.spawn(SLEEP)
    blue.run(DAEMON)
    inode = blue.inode
    with red.capture(filter="tcp") as capture, blue.crash():
        assert process.returncode == -9
        assert not blue._pids()
        assert not red.ping(blue, timeout=SHORT)
        assert blue.inode != inode
        why = why_no_ping(red, blue)
        assert why.node == "blue"
        assert "'blue' has crashed" in str(why.cause)
    assert red.ping(blue.ip4)
    assert red.ping(blue.ip6)
    assert red.tcp(blue, 80).state == "closed"
    assert not [packet for packet in capture.packets if packet["TCP"].sport == 80 and packet["TCP"].flags & "RF"]


@pytest.mark.netns_requires("nft", "libpcap")
def test_it_comes_back_with_addresses_routes_sysctls_and_nat(lab: Lab) -> None:
    lan, wan = lab.bridge("lan", "192.168.15.0/24"), lab.bridge("wan", "203.0.113.0/24")
    red, outside = lan.host("red"), wan.host("outside")
    router = lab.router("router", lan, wan, sysctls={"net.ipv4.ip_default_ttl": 77})
    red.default_route(via=router)
    router.masquerade(wan)
    router.add_route("198.51.100.0/24", kind="blackhole")
    addresses, routes = router.addresses(), [str(route) for route in router.routes()]
    with router.crash():
        assert [a for a in router.addresses() if not a.is_link_local] == [a for a in addresses if not a.is_link_local]
        assert not red.ping(outside, timeout=SHORT)
    assert router.addresses() == addresses
    assert sorted(str(route) for route in router.routes()) == sorted(routes)
    assert router.sysctl["net.ipv4.ip_default_ttl"] == "77"
    with outside.capture(filter="icmp") as capture:
        assert red.ping(outside.ip4)
    assert capture.packets[0]["IP"].src == str(router.interfaces["eth1"].ip4)


def shown_addresses(host: Host) -> list[str]:
    text = host.run(["ip", "-o", "address"]).stdout
    return sorted(" ".join(line.split()) for line in text.splitlines())


@pytest.mark.netns_requires("program:ip")
def test_addresses_come_back_as_they_were_given(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    for words in (
        "192.0.2.1/32 dev lo",
        "2001:db8::1/128 dev lo",
        "198.51.100.1 peer 198.51.100.2/32 dev eth0",
        "2001:db8:1::1 peer 2001:db8:1::2 dev eth0",
        "203.0.113.1/24 broadcast + dev eth0 scope link label eth0:x",
        "203.0.113.2/24 dev eth0 scope link",
        "2001:db8:2::1/64 dev eth0 nodad noprefixroute",
        "169.254.1.1/16 dev eth0",
    ):
        left.run(["ip", "address", "add", *words.split()])
    before, addresses = shown_addresses(left), left.addresses()
    with left.crash() as crash:
        assert left.addresses() == [address for address in addresses if not is_of_link(address)]
    assert not crash.in_force
    assert shown_addresses(left) == before
    assert left.addresses() == addresses
    assert right.ping(left)


def test_an_address_that_came_meanwhile_does_not_keep_the_rest_away(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    left.add_route("198.51.100.0/24", via=right)
    routes = {str(route) for route in left.routes()}
    with left.crash():
        left.interfaces["eth0"].add_address(f"{left.ip4}/24")
    assert {str(route) for route in left.routes()} == routes
    assert left.ping(right.ip4)
    assert left.ping(right.ip6)


@pytest.mark.netns_requires("program:ip")
def test_what_cannot_be_restored_does_not_keep_the_rest_away(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    left.add_route("198.51.100.0/24", via=right)
    left.run(["ip", "-6", "address", "add", "2001:db8::1/64", "dev", "eth0"])
    left.crash()
    left.sysctl["net.ipv6.conf.eth0.disable_ipv6"] = 1
    with pytest.raises(KernelError, match="ip address restore"):
        left.restart()
    assert "198.51.100.0/24" in {str(route.destination) for route in left.routes()}
    assert left.ping(right.ip4)


def test_a_link_that_was_down_stays_down(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    link.down()
    blue.crash()
    blue.restart()
    assert not link.is_up
    link.up()
    assert red.ping(blue)


def test_nothing_runs_in_it_meanwhile(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.crash()
    for attempt in (lambda: right.run(["true"]), lambda: right.spawn(SLEEP), lambda: right.call(len, "")):
        with pytest.raises(TopologyError, match="'right' has crashed"):
            attempt()
    with pytest.raises(TopologyError, match="crashed already"):
        right.crash()
    right.restart()
    assert right.run(["echo", "up"]).stdout == "up\n"
    assert left.ping(right)


def test_nothing_is_added_to_it_meanwhile(lab: Lab) -> None:
    lan, wan = lab.bridge("lan"), lab.bridge("wan")
    red, blue = lan.host("red"), lan.host("blue")
    red.crash()
    attempts: dict[str, Callable[[], object]] = {
        "with": red.__enter__,
        "socket": red.socket,
        "connect": lambda: lab.connect(blue, red),
        "attach": lambda: wan.attach(red),
        "sidecar": lambda: lab.host("sidecar", shares=red),
        "tap": lambda: red.add_tap("tap0"),
        "dummy": lambda: red.add_dummy("dummy0"),
        "block": red.block,
        "freeze": red.freeze,
    }
    for attempt in attempts.values():
        with pytest.raises(TopologyError, match=r"'red'.* has crashed.*restart\(\) it first"):
            attempt()
    red.restart()
    wan.attach(red)
    assert blue.ping(red)


@pytest.mark.netns_requires("macvlan")
def test_a_device_upon_a_link_of_another_host_falls_silent_at_once(lab: Lab) -> None:
    lan = lab.bridge("lan")
    red, blue, box = lan.host("red"), lan.host("blue"), lab.host("box")
    mac, address = "02:00:5e:10:00:01", str(lan.segment.take("box")[0])

    def plug() -> None:
        box.add_macvlan("eth0", link=blue.interfaces["eth0"], address=address, mac=mac)
        assert red.ping(address.partition("/")[0])

    plug()
    held = box.socket(socket.AF_INET, socket.SOCK_DGRAM)
    copy = held.dup()  # it keeps the namespace that was
    box.crash()
    assert not red.ping(address.partition("/")[0], timeout=SHORT)
    box.restart()
    plug()
    copy.close()


@pytest.mark.netns_requires("tap")
@pytest.mark.netns_requires("libpcap", "nft")
def test_a_bad_link_is_as_bad_afterwards(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    link = left.links[0]
    with link.impaired(delay="20ms"):
        assert left.ping(right)
        for _ in range(2):
            left.restart()
            for end in link.interfaces:
                assert end.impairment is not None
                assert end.impairment.delay == 0.02
            result = left.ping(right, timeout=10)
            assert result
            assert result.rtts[0] >= 0.04
    assert link.impairment is None
    with link.impaired(loss="100%", toward=right):
        left.restart()
        with right.capture(filter="icmp") as capture:
            assert not left.ping(right, timeout=SHORT)
        assert not capture.packets
    assert left.ping(right)


@pytest.mark.netns_requires("nft")
def test_restart_alone_is_a_reboot(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    process = right.spawn(SLEEP)
    right.nft("add table inet mine")
    right.restart()
    assert process.returncode == -9
    assert right.nft_ruleset() == []
    assert left.ping(right)
    listen(right, 80)
    assert left.tcp(right, 80)
    assert right.crashed is None


def test_a_thread_beside_it_never_sees_half_a_restart(lab: Lab) -> None:
    lan = lab.bridge("lan")
    red, blue = lan.host("red"), lan.host("blue")
    addresses, home = red.addresses(), os.stat(THREAD_NETNS).st_ino
    with lab.schedule([(0, red.restart)] * 5) as schedule:
        while not schedule.done:
            blue.ping(red, timeout=0.01)
            red.ping(blue, timeout=0.01)
            blue.tcp(red, 80, timeout=0.01)
            assert [a for a in red.addresses() if not a.is_link_local] == [a for a in addresses if not a.is_link_local]
            red.routes()
            with suppress(TopologyError):  # it has crashed
                assert red.call(os.stat, THREAD_NETNS).st_ino != home
                red.socket().close()
    assert red.addresses() == addresses
    assert eventually(lambda: blue.ping(red), within=10)  # ARP that was asked in vain is asked again after a second


def test_its_descriptor_keeps_its_number(veth_pair: tuple[Host, Host]) -> None:
    _, right = veth_pair
    fd, inode = right.fd, right.inode
    right.restart()
    assert right.fd == fd
    assert not os.get_inheritable(fd)
    assert os.fstat(fd).st_ino == right.inode != inode
    assert [entry.inode for entry in nodes_of(os.getpid()) if entry.fd == fd] == [right.inode]


def test_a_crash_that_cannot_be_is_none(veth_pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = veth_pair

    def no_birth(*_: object) -> None:
        raise RuntimeError("as asked")

    monkeypatch.setattr(breakable, "create_namespace", no_birth)
    with pytest.raises(RuntimeError, match="as asked"):
        right.crash()
    assert right.crashed is None
    assert not list(left.lab.faults)


def test_isolated_hosts_have_new_files(lab: Lab) -> None:
    lan = lab.bridge("lan")
    red = lab.host("red", lan, isolate={"mount", "uts"})
    blue = lan.host("blue")
    red.run(["touch", "/run/mark"])
    red.restart()
    assert red.run(["ls", "/run/mark"], check=False).returncode != 0
    assert red.run(["hostname"]).stdout == "red\n"
    assert red.ping(blue)


def test_the_lab_can_be_closed_while_it_is_down(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    red.spawn(SLEEP)
    red.crash()


def test_a_crashed_router_can_be_the_next_hop(lab: Lab) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    for host in (red, blue):
        lab.connect(host, router)
    with router.crash():
        for host in (red, blue):
            host.default_route(via=router)
    assert red.ping(blue)


def test_who_cannot_crash_is_told_why(lab: Lab, netns: Namespace) -> None:
    red = lab.host("red")
    lab.host("sidecar", shares=red)
    with pytest.raises(TopologyError, match="shares its namespace with 'sidecar'"):
        red.crash()
    box = lab.adopt(netns, "box")
    with pytest.raises(TopologyError, match="adopted"):
        box.crash()


def is_stopped(pid: int) -> bool:
    found = stat(pid)
    assert found is not None
    return found.state == "T"


def test_frozen_processes_stand_still_and_the_kernel_goes_on(veth_pair: tuple[Host, Host], tmp_path: Path) -> None:
    left, right = veth_pair
    loop = f"import os\nn = 0\nwhile True:\n n += 1\n fd = os.open({str(tmp_path / 'n')!r}, 65)\n"
    loop += " os.pwrite(fd, str(n).encode(), 0); os.close(fd)"
    process = right.spawn([sys.executable, "-c", loop], ready=(tmp_path / "n").exists)
    other = left.spawn(SLEEP)
    right.run(DAEMON)
    with right.freeze():
        assert len(right._pids()) >= 2  # the loop, the daemon, and perhaps who started it
        assert all(map(is_stopped, right._pids()))
        assert not is_stopped(other.pid)
        before = (tmp_path / "n").read_text()
        assert left.ping(right)
        assert (tmp_path / "n").read_text() == before
    process.wait_until(lambda: (tmp_path / "n").read_text() != before)
    right.thaw()


def test_the_last_freezing_that_ends_thaws(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    pid = left.spawn(SLEEP).pid
    with left.freeze() as outer:
        with left.freeze() as inner:
            assert inner is not outer
        assert is_stopped(pid)
    assert not is_stopped(pid)
    first, second = left.freeze(), left.freeze()
    first.undo()
    assert is_stopped(pid)
    first.undo()
    assert is_stopped(pid)
    left.thaw()
    assert not is_stopped(pid)
    assert not second.in_force


def test_hosts_that_share_processes_thaw_when_both_do(lab: Lab) -> None:
    red = lab.host("red")
    sidecar = lab.host("sidecar", shares=red)
    pids = [red.spawn(SLEEP).pid, sidecar.spawn(SLEEP).pid]
    red.freeze()
    with sidecar.freeze():
        assert all(map(is_stopped, pids))
    assert all(map(is_stopped, pids))
    red.thaw()
    assert not any(map(is_stopped, pids))


def test_a_freezing_explains_datagrams_and_no_connections(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    listen(right, 8080)
    server = right.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((str(right.ip4), 53))
    right.freeze()
    why = why_not_open(left, right, 8081)
    assert "nothing listens on tcp port 8081 of 'right'" in str(why.cause)
    why = why_no_datagram(left, right, 53)
    assert "the processes of 'right' are frozen" in str(why.cause)


def test_a_frozen_lab_can_be_closed(veth_pair: tuple[Host, Host]) -> None:
    _, right = veth_pair
    right.spawn(SLEEP)
    right.freeze()
