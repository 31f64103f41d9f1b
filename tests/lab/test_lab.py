from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import pytest
from slowness import patient

from pytest_netns import Bridge, Host, KernelError, Lab, Link, Namespace, ProcessDied, eventually

GROUP_LINK = 1
DELETED = 17  # RTM_DELLINK


def test_an_empty_lab_is_a_lab(lab: Lab) -> None:
    assert lab
    assert len(lab) == 0
    assert list(lab) == []
    assert lab.links == ()


def test_nodes_are_found_by_name_and_listed_in_order(lab: Lab) -> None:
    red, br0, blue = lab.host("red"), lab.bridge("br0"), lab.host("blue")
    assert list(lab) == [red, br0, blue]
    assert lab["br0"] is br0
    assert len(lab) == 3
    assert "red" in lab
    assert red in lab
    assert "green" not in lab
    assert isinstance(red, Host)
    assert isinstance(br0, Bridge)
    assert isinstance(red, Namespace)


def test_it_says_what_is_in_it(lab: Lab) -> None:
    lab.connect(lab.host("red"), lab.host("blue"))
    assert repr(lab) == "<Lab 'lab': 2 nodes, 1 links>"


def test_connect_gives_addresses_in_order_and_names_interfaces(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    first = lab.connect(red, blue, "192.168.15.0/24")
    second = lab.connect(red, green)
    assert (str(first.a), str(first.b), str(second.a), str(second.b)) == (
        "red:eth0",
        "blue:eth0",
        "red:eth1",
        "green:eth0",
    )
    assert [str(a) for a in first.a.addresses[:2]] == ["192.168.15.1/24", "fd00::1/64"]
    assert [str(a) for a in first.b.addresses[:2]] == ["192.168.15.2/24", "fd00::2/64"]
    assert [str(a) for a in second.b.addresses[:2]] == ["10.0.0.2/24", "fd00:0:0:1::2/64"]
    assert red.ping(blue.ip4)
    assert red.ping(green.ip6)


def test_an_ipv6_subnet_alone_means_no_ipv4(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"), "2001:db8::/64")
    assert link.a.ip4 is None
    assert str(link.a.ip6) == "2001:db8::1"


def test_addresses_can_be_given_one_by_one_and_may_disagree(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue, addresses=(["10.1.0.1/24", "fd01::1/64"], "10.1.0.2/25"))
    assert [str(a) for a in link.a.addresses[:2]] == ["10.1.0.1/24", "fd01::1/64"]
    assert [str(a) for a in link.b.addresses if not a.is_link_local] == ["10.1.0.2/25"]
    assert red.ping("10.1.0.2")


def test_addresses_of_a_subnet_need_no_prefix(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"), "10.1.0.0/24", addresses=("10.1.0.77", "10.1.0.78/24"))
    assert [str(a) for a in link.a.addresses if a.version == 4] == ["10.1.0.77/24"]
    assert [str(a) for a in link.b.addresses if a.version == 4] == ["10.1.0.78/24"]


def test_no_addresses_if_so_wished(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"), subnet=False)
    assert all(a.is_link_local for end in link.interfaces for a in end.addresses)


def test_two_nodes_may_have_several_links(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    links = [lab.connect(red, blue) for _ in range(3)]
    assert [link.a.name for link in links] == ["eth0", "eth1", "eth2"]
    assert all(red.ping(link.b) for link in links)
    assert red.links == blue.links == links


def test_interfaces_have_locally_administered_macs_all_different(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    hosts = [bridge.host(f"h{n}") for n in range(5)]
    macs = [i.mac for node in (bridge, *hosts) for n, i in node.interfaces.items() if n != "lo"]
    assert len(set(macs)) == len(macs) == 11
    assert all(mac.startswith("02:") for mac in macs)


@pytest.mark.netns_requires("program:ip")
def test_the_devices_of_kernel_modules_do_not_get_in_the_way(lab: Lab) -> None:
    red = lab.host("red")
    for number in range(5):
        red.run(["ip", "link", "add", f"extra{number}", "type", "bridge"])
    assert red.ping(lab.connect(red, lab.host("blue")).b)


@pytest.mark.netns_requires("program:ip")
def test_hosts_do_not_forward(lab: Lab) -> None:
    left, middle, right = lab.host("left"), lab.host("middle"), lab.host("right")
    lab.connect(left, middle)
    lab.connect(middle, right)
    left.run(["ip", "route", "add", "default", "via", str(middle.ip4)])
    right.run(["ip", "route", "add", "default", "via", str(right.interfaces["eth0"].ip4 - 1)])
    assert not left.ping(right, timeout=0.1)
    middle.sysctl["net.ipv4.ip_forward"] = 1
    assert left.ping(right)


def test_labs_are_strangers_to_each_other(lab_factory: Callable[..., Lab]) -> None:
    with Lab("one") as one, Lab("two") as two:
        for lab in (one, two):
            lab.connect(lab.host("red"), lab.host("blue"), "192.168.15.0/24")
        assert one["red"].ping(one["blue"])
        assert one["red"].mac != two["red"].mac
        assert one["red"].arp("192.168.15.2").mac == one["blue"].mac
        assert two["red"].arp("192.168.15.2").mac == two["blue"].mac


def test_closing_gives_back_every_descriptor(lab_factory: Callable[..., Lab]) -> None:
    def use() -> None:
        with Lab() as lab:
            bridge = lab.bridge("br0")
            red, blue = bridge.host("red"), bridge.host("blue")
            lab.connect(red, blue).down()
            assert red.ping(blue)
            assert red.tcp(blue, 80).state == "closed"
            red.socket()
            red.run(["true"])
            blue.spawn(["sleep", "1000"])

    use()  # what is kept for good is made now
    before = os.listdir("/proc/self/fd")
    use()
    assert set(os.listdir("/proc/self/fd")) <= set(before)


def test_closing_ends_every_thread(lab_factory: Callable[..., Lab]) -> None:
    def threads() -> set[str]:  # the kernel's list: Python's has not those that are hidden
        return set(os.listdir("/proc/self/task"))

    before = threads()
    with Lab() as lab:
        lab.host("red").run(["true"])
        assert threads() - before
    eventually(lambda: threads() <= before, within=20)


@pytest.mark.netns_requires("program:ip")
def test_closing_takes_the_links_away(lab_factory: Callable[..., Lab], netns: Namespace) -> None:
    """The far end is in a namespace that outlives the lab, and tells when it is gone."""
    lab = Lab()
    red = lab.host("red")
    monitor = netns.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    monitor.bind((0, GROUP_LINK))
    monitor.settimeout(10)
    red.run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", netns.path])
    assert "far" in netns.interfaces
    lab.close()
    while int.from_bytes(monitor.recv(65536)[4:6], "little") != DELETED:
        pass
    assert "far" not in netns.interfaces


def test_closing_twice_is_allowed(lab_factory: Callable[..., Lab]) -> None:
    lab = Lab()
    lab.host("red")
    lab.close()
    lab.close()
    assert lab.closed
    assert repr(lab) == "<Lab 'lab': closed>"


def test_an_error_of_one_node_does_not_keep_the_others_open(
    lab_factory: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab()
    red, blue, green = (lab.host(name) for name in ("red", "blue", "green"))

    def fail() -> None:
        Namespace.close(blue)
        raise OSError("blue would not go")

    monkeypatch.setattr(blue, "close", fail)
    process = red.spawn(["false"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ExceptionGroup, match="closing lab 'lab'") as caught:
        lab.close()
    assert red.closed
    assert green.closed
    assert [type(error) for error in caught.value.exceptions] == [ProcessDied, OSError]


def test_the_error_of_the_block_is_not_hidden_by_those_of_closing(lab_factory: Callable[..., Lab]) -> None:
    def block() -> None:
        with Lab() as lab:
            process = lab.host("red").spawn(["false"])
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            raise LookupError("the block's")

    with pytest.raises(LookupError, match="the block's") as caught:
        block()
    assert "while closing lab 'lab'" in caught.value.__notes__[0]
    assert "exited unexpectedly" in caught.value.__notes__[0]


def test_a_lab_can_be_built_by_several_threads(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for each in range(5):
                bridge.host(f"h{number}-{each}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    hosts = [node for node in lab if node is not bridge]
    assert len({host.ip4 for host in hosts}) == len({host.mac for host in hosts}) == 20
    assert all(hosts[0].ping(host) for host in hosts[1:])


def test_a_hundred_hosts_fit_on_a_bridge(bridge: Bridge) -> None:
    hosts = [bridge.host(f"h{number}") for number in range(100)]
    assert hosts[0].ping(hosts[-1], timeout=patient(0.3, at_most=0.9))
    assert hosts[57].ping(hosts[3].ip6, timeout=patient(0.3, at_most=0.9))


def test_an_error_in_closing_does_not_keep_the_rest_open(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, box = Lab(), Namespace("box")
    red, adopted = lab.host("red"), lab.adopt(box, "box")
    lab.connect(red, adopted)

    def refused(_link: Link) -> None:
        raise KernelError(16, "ip link delete eth0", "box")

    monkeypatch.setattr(Link, "remove", refused)
    with pytest.raises(ExceptionGroup) as caught:
        lab.close()
    assert "ip link delete eth0" in str(caught.value.exceptions[0])
    assert lab.closed
    assert red.closed
    assert adopted.closed
    box.close()
