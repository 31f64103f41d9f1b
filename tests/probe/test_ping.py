from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from itertools import pairwise

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from pytest_netns import Bridge, Capture, Host, Lab, PingResult, TopologyError


def test_every_kind_of_destination_is_reached(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    link_local = right.addresses()[-1].ip
    for destination in (
        right,
        right.interfaces["eth0"],
        right.ip4,
        right.ip6,
        str(right.ip4),
        right.addresses()[0],
        link_local,
        f"{link_local}%eth0",
        "127.0.0.1",
        "::1",
        left,
    ):
        result = left.ping(destination)
        assert result
        assert result.error is None


def test_a_result_says_all_of_it(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    result = left.ping(right, count=3, size=100)
    assert (result.source, result.address, result.sent, result.received) == ("left", right.ip4, 3, 3)
    assert (result.loss, result.duplicates, result.ttl, len(result.rtts)) == (0.0, 0, 64, 3)
    assert all(0 < rtt < 10 for rtt in result.rtts)
    assert repr(result).startswith(f"<PingResult left -> right ({right.ip4}): 3 sent, 3 received, rtt ")
    assert [len(reply["ICMP"].payload) for reply in result.replies] == [100] * 3
    assert {reply["IP"].src for reply in result.replies} == {str(right.ip4)}


def test_replies_over_ipv6_are_scapy_packets_too(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    (reply,) = left.ping(right.ip6).replies
    assert reply.type == 129
    assert len(reply.data) == 56


def test_nobody_there_is_no_answer(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    result = left.ping(right.ip4 + 50, timeout=0.1)
    assert not result
    assert (result.sent, result.received, result.loss, result.ttl) == (1, 0, 1.0, None)
    assert repr(result).endswith("1 sent, 0 received: no answer>")


def test_no_route_is_what_the_own_kernel_says(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    for address in ("198.51.100.1", "2001:db8::1"):
        result = left.ping(address)
        assert not result
        assert result.error is not None
        assert (result.error.errno, result.error.sender) == (errno.ENETUNREACH, None)
        assert "Network is unreachable" in repr(result)


@pytest.mark.netns_requires("program:ip")
def test_a_prohibited_destination_is_told_by_the_one_who_prohibits_it(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.sysctl["net.ipv4.ip_forward"] = 1
    left.run(["ip", "route", "add", "198.51.100.0/24", "via", str(right.ip4)])
    right.run(["ip", "route", "add", "prohibit", "198.51.100.0/24"])
    result = left.ping("198.51.100.1")
    assert not result
    assert result.error is not None
    assert (result.error.type, result.error.code, result.error.sender) == (3, 13, right.ip4)
    assert f"Packet filtered, from {right.ip4}" in repr(result)


@pytest.mark.netns_requires("program:ip")
def test_the_time_to_live_can_be_chosen(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.sysctl["net.ipv4.ip_forward"] = 1
    left.run(["ip", "route", "add", "198.51.100.0/24", "via", str(right.ip4)])
    right.run(["ip", "route", "add", "198.51.100.0/24", "via", str(left.ip4)])
    result = left.ping("198.51.100.1", ttl=1)
    assert result.error is not None
    assert (result.error.text, result.error.sender) == ("Time to live exceeded", right.ip4)


def test_the_size_can_be_anything_up_to_the_largest(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    for size in (0, 1, 1472, 1473, 65507):
        assert left.ping(right.ip4, size=size)
    for size in (0, 1, 1452, 1453, 65527):
        assert left.ping(right.ip6, size=size)


@pytest.mark.parametrize("version", [4, 6])
def test_without_fragments_only_what_fits_gets_through(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    address, fits = (right.ip4, 1472) if version == 4 else (right.ip6, 1452)
    assert left.ping(address, size=fits, df=True)
    result = left.ping(address, size=fits + 1, df=True)
    assert not result
    assert result.error is not None
    assert result.error.errno == errno.EMSGSIZE


def test_an_interval_paces_and_every_request_is_counted(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    assert left.ping(right, count=20).received == 20
    assert left.ping(right, count=5, interval=0.002).received == 5


def test_a_partial_answer_is_a_failure_that_shows_the_loss() -> None:
    result = PingResult("red", "blue", ip_address("10.0.0.2"), sent=4, received=3, rtts=(0.001,) * 3, ttl=64)
    assert not result
    assert result.loss == 0.25
    assert " 25% lost" in repr(result)
    assert not PingResult("red", "blue", ip_address("10.0.0.2"), sent=0, received=0)


def test_pings_at_the_same_time_do_not_take_each_others_replies(bridge: Bridge) -> None:
    hub = bridge.host("hub")
    others = [bridge.host(f"h{number}") for number in range(4)]
    results: dict[str, PingResult] = {}

    def work(other: Host) -> None:
        results[other.name] = hub.ping(other, count=50)

    threads = [threading.Thread(target=work, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        result = results[other.name]
        assert (result.received, result.duplicates) == (50, 0)
        assert {reply["IP"].src for reply in result.replies} == {str(other.ip4)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 65536},
        {"count": True},
        {"timeout": -1},
        {"interval": -0.1},
        {"size": -1},
        {"size": 65508},
        {"ttl": 0},
        {"ttl": 256},
    ],
)
def test_a_number_out_of_range_is_named(veth_pair: tuple[Host, Host], wrong: dict[str, int]) -> None:
    left, right = veth_pair
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; it can be"):
        left.ping(right, **wrong)
    assert left.ping(right)


def test_a_host_of_the_other_family_cannot_be_pinged(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, lab.host("x"), addresses=("10.1.0.1/24", "10.1.0.2/24"))
    lab.connect(blue, lab.host("y"), addresses=("fd01::1/64", "fd01::2/64"))
    with pytest.raises(TopologyError, match=r"'blue' has only IPv6 .* and 'red' has only IPv4"):
        red.ping(blue)


def test_a_ping_leaks_no_descriptor(veth_pair: tuple[Host, Host]) -> None:
    import os

    left, right = veth_pair
    left.ping(right)
    before = os.listdir("/proc/self/fd")
    left.ping(right)
    left.ping("198.51.100.1")
    assert set(os.listdir("/proc/self/fd")) <= set(before)


@pytest.fixture
def slow_witted(veth_pair: tuple[Host, Host]) -> tuple[Host, Host, Callable[..., None]]:
    """Two hosts; the right one does not answer by itself but by the function: with which requests, in which order."""
    left, right = veth_pair
    right.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1

    def answer(capture: Capture, sequence: int) -> None:
        asked = capture.expect(ICMP(type=8, seq=sequence), timeout=20)
        echo = ICMP(type=0, id=asked[ICMP].id, seq=sequence) / bytes(asked[ICMP].payload)
        right.send(IP(dst=left.ip4, ttl=33) / echo)

    return left, right, answer


def ping_meanwhile(left: Host, right: Host, answer: Callable[..., None], *sequences: int) -> PingResult:
    """Ping twice while the requests are answered in that order."""
    with right.capture("eth0", ICMP) as capture, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(left.ping, right.ip4, count=2, interval=0.01, timeout=20)
        for sequence in sequences:
            answer(capture, sequence)
        return pending.result()


def test_a_second_reply_to_the_same_request_is_a_duplicate(
    slow_witted: tuple[Host, Host, Callable[..., None]],
) -> None:
    result = ping_meanwhile(*slow_witted, 1, 1, 2)
    assert result
    assert (result.sent, result.received, result.duplicates, result.ttl) == (2, 2, 1, 33)
    assert len(result.rtts) == len(result.replies) == 2
    assert "2 sent, 2 received, 1 duplicates, rtt" in repr(result)


def test_every_request_has_a_time_of_its_own(slow_witted: tuple[Host, Host, Callable[..., None]]) -> None:
    result = ping_meanwhile(*slow_witted, 2, 1)  # the first one is answered last
    assert result
    first, second = result.rtts
    assert first > second
    assert [reply[ICMP].seq for reply in result.replies] == [2, 1]


@pytest.mark.parametrize("version", [4, 6])
def test_what_was_asked_for_is_what_goes_over_the_wire(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    address = right.ip4 if version == 4 else right.ip6
    request = ICMP(type=8) if version == 4 else ICMPv6EchoRequest()
    with right.capture("eth0", request) as capture:
        assert left.ping(address, count=3, size=77, ttl=9, df=True)
        assert left.ping(address)
    *packets, plain = capture.packets
    assert len(packets) == 3
    for number, packet in enumerate(packets, 1):
        if version == 4:
            assert (packet[IP].ttl, packet[ICMP].seq, len(packet[ICMP].payload)) == (9, number, 77)
            assert packet[IP].flags.DF
        else:
            assert (packet[IPv6].hlim, packet[ICMPv6EchoRequest].seq) == (9, number)
            assert len(packet[ICMPv6EchoRequest].data) == 77
    if version == 4:
        assert (plain[IP].ttl, len(plain[ICMP].payload), plain[IP].flags.DF) == (64, 56, False)
        before = IP(bytes(packets[0][IP]))
        del before.chksum, before[ICMP].chksum
        assert bytes(before) == bytes(packets[0][IP])  # both checksums are right
    else:
        assert (plain[IPv6].hlim, len(plain[ICMPv6EchoRequest].data)) == (64, 56)


def test_requests_are_an_interval_apart(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with left.capture("eth0", ICMP(type=8)) as capture:
        assert left.ping(right.ip4, count=4, interval=0.02)
    times = [frame.time for frame in capture.frames]
    assert len(times) == 4
    assert all(later - earlier > 10_000_000 for earlier, later in pairwise(times))


@pytest.mark.parametrize("version", [4, 6])
def test_who_sent_an_error_is_named_for_both_families(lab: Lab, version: int) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    near = router.interfaces["eth0"].ip4 if version == 4 else router.interfaces["eth0"].ip6
    result = red.ping(blue.ip4 if version == 4 else blue.ip6, ttl=1, count=3)
    assert (result.sent, result.received) == (3, 0)
    assert result.error is not None
    assert (result.error.type, result.error.code, result.error.sender) == ({4: 11, 6: 3}[version], 0, near)
    assert result.error.errno is None
    assert repr(result).endswith(f", from {near}>")
