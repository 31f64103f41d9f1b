from __future__ import annotations

import errno
import os
import socket
import sys

import pytest

from pytest_netns import KernelError, Lab, Namespace
from pytest_netns.kernel import sysctl
from pytest_netns.kernel.netns import create

FORWARD = "net.ipv4.ip_forward"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
        ("net/ipv4/conf/eth0.1/rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
    ],
)
def test_names_are_those_of_sysctl(name: str, path: str) -> None:
    assert sysctl.path_of(name) == path


@pytest.mark.parametrize("name", ["", "/etc/passwd", "net/../../etc/passwd", ".etc", "net/..", "a\0b"])
def test_names_that_leave_the_tree_are_refused(name: str) -> None:
    with pytest.raises(KeyError):
        sysctl.path_of(name)


def test_a_namespace_is_born_with_the_baseline(netns: Namespace) -> None:
    assert {name: netns.sysctl[name] for name in sysctl.BASELINE} == dict(sysctl.BASELINE)


def test_the_baseline_has_no_duplicate_address_detection_no_filter_and_no_forwarding() -> None:
    assert sysctl.BASELINE["net.ipv6.conf.default.accept_dad"] == "0"
    assert sysctl.BASELINE["net.ipv6.conf.default.dad_transmits"] == "0"
    assert sysctl.BASELINE["net.ipv4.conf.all.rp_filter"] == "0"
    assert sysctl.BASELINE["net.ipv4.ip_forward"] == "0"


def test_what_is_written_is_read_and_the_home_namespace_keeps_its_own(netns: Namespace) -> None:
    with open(f"/proc/sys/{FORWARD.replace('.', '/')}", encoding="ascii") as file:
        home = file.read()
        netns.sysctl[FORWARD] = 1
        assert netns.sysctl[FORWARD] == "1"
        assert netns.run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout == "1\n"
        netns.sysctl[FORWARD] = "0"
        assert netns.sysctl[FORWARD] == "0"
        file.seek(0)
        assert file.read() == home


def test_another_namespace_is_not_touched(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    red.sysctl["net.ipv4.ip_default_ttl"] = 99
    assert blue.sysctl["net.ipv4.ip_default_ttl"] == "64"


@pytest.mark.usefixtures("lab_factory")
def test_the_baseline_can_be_overridden_at_birth() -> None:
    with Lab(sysctls={FORWARD: 1, "net.ipv4.ip_default_ttl": 33}) as lab:
        assert lab.host("all").sysctl[FORWARD] == "1"
        one = lab.host("one", sysctls={FORWARD: 0})
        assert (one.sysctl[FORWARD], one.sysctl["net.ipv4.ip_default_ttl"]) == ("0", "33")
        assert lab.bridge("br0").sysctl["net.ipv4.ip_default_ttl"] == "33"


def test_an_unknown_name_is_a_key_error_that_names_the_namespace(netns: Namespace) -> None:
    with pytest.raises(KeyError, match=r"namespace 'netns' has no sysctl 'net.ipv4.nonsense'"):
        netns.sysctl["net.ipv4.nonsense"]
    with pytest.raises(KeyError, match=r"namespace 'netns' has no sysctl 'net.ipv4.nonsense'"):
        netns.sysctl["net.ipv4.nonsense"] = 1
    assert "net.ipv4.nonsense" not in netns.sysctl
    assert FORWARD in netns.sysctl


def test_an_interface_with_a_dot_in_its_name_gets_the_hint_to_write_a_slash(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, names=("eth0.1.2", "eth0"))
    for family, key in (("ipv4", "forwarding"), ("ipv6", "hop_limit")):
        with pytest.raises(KeyError) as caught:
            red.sysctl[f"net.{family}.conf.eth0.1.2.{key}"] = 1
        right = f"net.{family}.conf.eth0/1/2.{key}"
        assert f"of interface 'eth0.1.2' it is {right!r}" in str(caught.value)
        red.sysctl[right] = 1
        assert red.sysctl[right] == "1"
    with pytest.raises(KeyError, match=r"'net.ipv4.conf.eth9.forwarding'\"$"):
        red.sysctl["net.ipv4.conf.eth9.forwarding"]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_every_group_may_open_icmp_sockets(netns: Namespace, family: socket.AddressFamily) -> None:
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    code = f"import os, socket; os.setgid(os.getgid()); socket.socket({int(family)}, socket.SOCK_DGRAM, {protocol})"
    netns.run([sys.executable, "-c", code])
    netns.socket(family, socket.SOCK_DGRAM, protocol)


def test_in_a_user_namespace_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "_groups", "0 4294967295")  # the last one is nobody's anywhere
    for name in ("first", "second"):
        made = Namespace(name)
        low, high = made.sysctl["net.ipv4.ping_group_range"].split()
        assert int(low) <= os.getegid() <= int(high) <= 2147483647
        made.close()


@pytest.mark.parametrize("name", ["vm.swappiness", "kernel.hostname", "network", "netfoo.bar", "kernel/ostype"])
def test_a_sysctl_of_the_whole_machine_is_never_written(netns: Namespace, name: str) -> None:
    with pytest.raises(KeyError, match=r"is not a sysctl of a network namespace"):
        netns.sysctl[name] = "1"
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(KeyError, match=r"is not a sysctl of a network namespace"):
        Namespace(sysctls={name: "1"})
    assert set(os.listdir("/proc/self/fd")) <= set(descriptors)


def test_a_value_that_the_kernel_refuses_says_which_where_and_why(netns: Namespace) -> None:
    with pytest.raises(KernelError, match=r"sysctl -w net.ipv4.ip_forward=maybe.*'netns'") as caught:
        netns.sysctl[FORWARD] = "maybe"
    assert caught.value.errno == errno.EINVAL


def test_a_sysctl_cannot_be_deleted(netns: Namespace) -> None:
    with pytest.raises(TypeError, match="cannot be deleted"):
        del netns.sysctl[FORWARD]


def test_all_can_be_listed_under_names_that_can_be_read(lab: Lab) -> None:
    red = lab.host("red")
    lab.connect(red, lab.host("blue"), names=("v.1", "eth0"))
    names = list(red.sysctl)
    assert FORWARD in names
    assert "net.ipv4.conf.v/1.rp_filter" in names
    assert red.sysctl["net.ipv4.conf.v/1.rp_filter"] == "0"
    assert len(red.sysctl) == len(names) > 100
