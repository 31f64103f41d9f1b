from __future__ import annotations

import socket
import struct

import pytest

from pytest_netns import Host, KernelError, Namespace

Pair = tuple[Host, Host]


def test_counters_of_a_namespace_have_the_names_of_nstat(veth_pair: Pair) -> None:
    left, right = veth_pair
    before = right.counters
    assert left.ping(right.ip4)
    assert left.ping(right.ip6)
    after = right.counters
    assert after["IcmpInEchos"] - before["IcmpInEchos"] == 1
    assert after["Icmp6InEchos"] - before["Icmp6InEchos"] == 1
    assert "TcpExtListenDrops" in after
    assert before["IcmpInEchos"] == before["IcmpInEchos"]


def test_a_block_counts_what_happens_in_it(veth_pair: Pair) -> None:
    left, right = veth_pair
    assert left.ping(right.ip4)
    with right.counting() as change:
        assert change["IcmpInEchos"] == 0
        assert left.ping(right.ip4)
        assert change["IcmpInEchos"] == 1
        assert not left.tcp(right.ip4, 9)
    assert left.ping(right.ip4)
    assert change["IcmpInEchos"] == 1
    assert change["TcpOutRsts"] == 1
    assert change["TcpExtListenDrops"] == 0


def test_a_difference_prints_only_what_has_grown(veth_pair: Pair) -> None:
    left, right = veth_pair
    with right.counting() as change:
        assert left.ping(right.ip4)
    assert "IcmpInEchos +1" in repr(change)
    assert "IcmpInEchos" in change
    assert "Tcp" not in repr(change)
    assert all(change.values())
    assert len(change) == len(dict(change))


def test_a_block_without_packets_has_counted_nothing() -> None:

    with Namespace("quiet") as quiet:
        with quiet.counting() as change:
            pass
        assert repr(change) == "<counted by 'quiet': nothing>"
        assert not change
    quiet.close()


def test_interfaces_count_packets_and_bytes(veth_pair: Pair) -> None:
    left, right = veth_pair
    eth0 = left.interfaces["eth0"]
    with eth0.counting() as change:
        assert left.ping(right.ip4, size=1000)
    assert change["tx_packets"] >= 1
    assert change["tx_bytes"] >= 1042
    assert change["rx_dropped"] == 0
    assert eth0.counters["tx_packets"] >= change["tx_packets"]
    assert "tx_bytes" in repr(eth0.counters)
    assert "tx_bytes +" in repr(change)


def test_what_the_kernel_lists_from_the_first_packet_on_is_0_before(veth_pair: Pair) -> None:
    left, right = veth_pair
    assert right.counters["IcmpMsgInType17"] == 0
    with right.counting() as change:
        assert left.ping(right.ip4)
    assert change["IcmpMsgInType17"] == 0
    assert change["IcmpMsgInType8"] == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [("TcpExtListenDrop", "TcpExtListenDrops"), ("TcpExt.ListenDrops", "TcpExtListenDrops"), ("rx_packets", "")],
)
def test_a_counter_that_the_kernel_does_not_have_is_never_0(veth_pair: Pair, name: str, meant: str) -> None:
    left, _ = veth_pair
    with left.counting() as change, pytest.raises(KeyError, match=f"'left' has no counter '{name}'.*{meant}"):
        change[name]
    with pytest.raises(KeyError, match=r"left:eth0.*has no counter 'IpInReceives'"):
        left.interfaces["eth0"].counters["IpInReceives"]


def test_an_interface_that_was_removed_counts_no_more(veth_pair: Pair) -> None:
    left, _ = veth_pair
    eth0 = left.interfaces["eth0"]
    left.links[0].remove()
    with pytest.raises(KernelError, match="ip -statistics link show eth0"):
        _ = eth0.counters


def test_a_host_that_crashed_counts_anew(veth_pair: Pair) -> None:
    left, right = veth_pair
    assert left.ping(right.ip4)
    right.crash()
    right.restart()
    assert right.counters["IcmpInEchos"] == 0
    assert left.ping(right.ip4)
    assert right.counters["IcmpInEchos"] == 1


def test_a_block_in_which_a_host_is_restarted_counts_from_the_restart_on(veth_pair: Pair) -> None:
    left, right = veth_pair
    for _ in range(3):
        assert left.ping(right.ip4)
    eth0 = right.interfaces["eth0"]
    with right.counting() as change, eth0.counting() as bytes_of_eth0:
        assert left.ping(right.ip4)
        right.crash()
        right.restart()
        assert left.ping(right.ip4)
    assert change["IcmpInEchos"] == 1
    assert min(change.values()) > 0
    assert "TTL" not in repr(change)
    assert repr(change).startswith("<counted by 'right' since its restart: ")
    assert bytes_of_eth0["rx_packets"] >= 1
    assert "'right:eth0' since its restart" in repr(bytes_of_eth0)


def test_a_counter_that_has_fallen_is_printed_too(netns: Namespace) -> None:
    with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect(server.getsockname())
            with netns.counting() as change:
                # Closed by reset: no end waits for the other.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
    assert change["TcpCurrEstab"] == -2
    assert "TcpCurrEstab -2" in repr(change)


def test_the_failure_of_a_block_outlasts_the_interface_that_was_counted(veth_pair: Pair) -> None:
    left, _ = veth_pair

    def fail() -> None:
        left.links[0].remove()
        raise AssertionError("what the test says")

    counting = left.interfaces["eth0"].counting()
    with pytest.raises(AssertionError, match="what the test says"), counting as change:
        fail()
    with pytest.raises(KernelError, match="ip -statistics link show eth0"):
        _ = change["rx_packets"]
    assert "cannot be read" in repr(change)
