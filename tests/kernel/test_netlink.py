from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Callable

import pytest
from devices import made
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns import KernelError, Lab, Namespace, NetnsError
from pytest_netns.kernel.netlink import rtnetlink, tables
from pytest_netns.kernel.netlink import socket as netlink
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, Request, attribute, attributes
from pytest_netns.lab.bridge import Bridge


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=50), max_size=10))
def test_attributes_are_decoded_as_they_were_encoded(values: dict[int, bytes]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in values.items())
    assert len(data) % 4 == 0
    assert attributes(data) == values


@given(st.binary(max_size=200), st.integers(0, 40))
def test_attributes_of_anything_are_decoded_without_an_error(data: bytes, offset: int) -> None:
    assert all(isinstance(value, bytes) for value in attributes(data, offset).values())


@given(st.binary(min_size=20, max_size=200), st.integers(0, 0xFFFF))
def test_the_detail_of_any_refusal_is_text(data: bytes, flags: int) -> None:
    assert isinstance(netlink._detail(data, flags), str)


def test_a_truncated_attribute_is_left_out_and_those_before_it_stay() -> None:
    data = attribute(1, b"whole") + attribute(2, b"cut short")[:-6]
    assert attributes(data) == {1: b"whole"}


def bodies_of(ns: Namespace) -> dict[str, tuple[Callable[[bytes], object], list[bytes], int]]:
    """What the kernel says of a namespace: how it is decoded, the messages, and the size of their fixed part."""
    dump = ns.rtnl.dump
    return {
        "link": (tables.decode_link, dump(rtnetlink.link_dump()), 16),
        "address": (tables.decode_address, dump(rtnetlink.address_dump()), 8 + 8 + 20),
        "route4": (lambda b: tables.decode_route(b, {}), dump(rtnetlink.route_dump(rtnetlink.AF_INET)), 12),
        "route6": (lambda b: tables.decode_route(b, {}), dump(rtnetlink.route_dump(rtnetlink.AF_INET6)), 12),
        "neighbour": (lambda b: tables.decode_neighbour(b, {}), dump(rtnetlink.neighbour_dump(rtnetlink.AF_INET)), 12),
        "fdb": (lambda b: tables.decode_forwarding(b, {}), dump(rtnetlink.neighbour_dump(rtnetlink.AF_BRIDGE)), 12),
    }


def test_truncated_answers_are_decoded_as_far_as_they_go(bridge: Bridge) -> None:
    red, blue = bridge.host("red"), bridge.host("blue")
    assert red.ping(blue)
    for ns in (red, bridge):
        for kind, (decode, bodies, fixed) in bodies_of(ns).items():
            assert bodies or kind in {"neighbour", "fdb", "route4", "address"}
            for body in bodies:
                for size in range(fixed, len(body)):
                    decode(body[:size])


def test_a_refusal_names_the_operation_the_node_and_the_errno(netns: Namespace) -> None:
    with pytest.raises(KernelError) as caught:
        netns.rtnl.batch([rtnetlink.link_up(77, "eth7")])
    error = caught.value
    assert (error.errno, error.operation, error.node) == (errno.ENODEV, "ip link set eth7 up", "netns")
    assert str(error) == "'ip link set eth7 up' in namespace 'netns': No such device (ENODEV)"


def test_the_kernels_own_explanation_is_passed_on(lab: Lab) -> None:
    red = lab.host("red")
    lab.connect(red, lab.host("blue"))
    with pytest.raises(KernelError, match="mtu greater than device maximum") as caught:
        red.interfaces["eth0"].mtu = 1_000_000
    assert caught.value.detail == "mtu greater than device maximum"


def test_a_batch_goes_on_after_a_refusal_and_reports_the_first(netns: Namespace) -> None:
    with pytest.raises(KernelError, match="ip link set first up"):
        netns.rtnl.batch(
            [
                rtnetlink.link_down(1, "lo"),
                rtnetlink.link_up(77, "first"),
                rtnetlink.link_up(78, "second"),
                rtnetlink.link_up(1, "lo"),
            ]
        )
    assert netns.interfaces["lo"].is_up


def test_the_answers_of_one_batch_are_not_taken_for_those_of_the_next(netns: Namespace) -> None:
    for _ in range(20):
        with pytest.raises(KernelError):
            netns.rtnl.batch([rtnetlink.link_up(77, "x"), rtnetlink.link_up(78, "y")])
        netns.rtnl.batch([rtnetlink.link_up(1, "lo")])
        assert tables.decode_link(netns.rtnl.get(rtnetlink.link_get(1, "lo"))).name == "lo"
        with pytest.raises(KernelError, match="ip link show z"):
            netns.rtnl.get(rtnetlink.link_get(79, "z"))


def test_an_answer_that_nobody_awaits_any_more_is_passed_over(netns: Namespace) -> None:
    stale = struct.pack("=IHHIIBxHiII", 32, 16, netlink.NLM_F_REQUEST | netlink.NLM_F_ACK, 0, 0, 0, 0, 1, 1, 1)
    for _ in range(3):
        netns.rtnl._socket.send(stale)
        with pytest.raises(KernelError, match="ip link set x up"):
            netns.rtnl.batch([rtnetlink.link_up(77, "x")])
        netns.rtnl._socket.send(stale)
        assert len(netns.rtnl.dump(rtnetlink.link_dump())) >= 1
        netns.rtnl._socket.send(stale)
        assert tables.decode_link(netns.rtnl.get(rtnetlink.link_get(1, "lo"))).name == "lo"


def test_a_long_batch_and_a_long_dump_are_complete(netns: Namespace) -> None:
    netns.rtnl.batch([rtnetlink.bridge(f"br{i}", 1000 + i, b"\x02\0\0\0\0" + bytes([i])) for i in range(50)])
    assert len(netns.interfaces) == 51
    addresses = [f"10.{i}.{j}.1/24" for i in range(10) for j in range(50)]
    device = netns.interfaces["br0"]
    requests = [rtnetlink.address_add(device.index, "br0", tables.IPv4Interface(address)) for address in addresses]
    for first in range(0, len(requests), 100):
        netns.rtnl.batch(requests[first : first + 100])
    assert {str(address) for address in netns.addresses() if address.version == 4} == set(addresses)


def test_a_socket_can_be_shared_by_threads(netns: Namespace) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(50):
                links = map(tables.decode_link, netns.rtnl.dump(rtnetlink.link_dump()))
                assert made(link.name for link in links) == ["lo"]
                with pytest.raises(KernelError, match=f"ip link set mine-{number} up"):
                    netns.rtnl.batch([rtnetlink.link_up(1, "lo"), rtnetlink.link_up(99, f"mine-{number}")])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_request_that_the_kernel_does_not_know_is_an_error_too(netns: Namespace) -> None:
    with pytest.raises(KernelError, match="ip frobnicate") as caught:
        netns.rtnl.batch([Request(0xFFF, NLM_F_CREATE | NLM_F_EXCL, struct.pack("=I", 0), "ip frobnicate")])
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.EINVAL)
    with pytest.raises(KernelError, match="ip frobnicate"):
        netns.rtnl.dump(Request(0xFFE, 0, struct.pack("=I", 0), "ip frobnicate"))


def test_a_closed_socket_says_whose_it_was(netns: Namespace) -> None:
    netns.rtnl.close()
    netns.rtnl.close()
    with pytest.raises(NetnsError, match="'ip link show': namespace 'netns' is closed"):
        netns.rtnl.dump(rtnetlink.link_dump())
