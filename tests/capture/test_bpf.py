from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from pytest_netns import UnsupportedError
from pytest_netns.capture import bpf
from pytest_netns.kernel.libpcap import libpcap

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LOCAL = IP(src="10.0.0.1", dst="10.0.0.2")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing was loaded or compiled before, nor will have been."""
    libpcap.cache_clear()
    bpf.compile_filter.cache_clear()
    yield
    libpcap.cache_clear()
    bpf.compile_filter.cache_clear()


def accepts(code: bytes, packet: Packet) -> bool:
    """Whether the kernel's own interpreter accepts a packet: a filtered datagram socket gets it, or does not."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        right.setblocking(False)
        bpf.attach(right, code)
        try:
            left.send(bytes(packet))
            right.recv(2000)
        except (BlockingIOError, PermissionError):
            return False
        return True


@pytest.mark.parametrize(
    ("text", "accepted", "refused"),
    [
        ("tcp port 80", LOCAL / TCP(dport=80), LOCAL / TCP(dport=81, sport=9)),
        ("icmp", LOCAL / ICMP(), LOCAL / UDP()),
        ("arp", ARP(psrc="10.0.0.1", hwsrc="02:00:00:00:00:01"), LOCAL / UDP()),
        ("host 10.0.0.1 and udp", LOCAL / UDP(), IP(src="10.0.0.2", dst="10.0.0.3") / UDP()),
    ],
)
@pytest.mark.netns_requires("libpcap")
def test_the_kernel_accepts_what_the_expression_means(text: str, accepted: Packet, refused: Packet) -> None:
    code = bpf.compile_filter(text)
    for judge in (accepts, lambda code, packet: bpf.accepts(code, bytes(packet))):  # libpcap's agrees
        assert judge(code, ETHER / accepted)
        assert not judge(code, ETHER / refused)


@pytest.mark.netns_requires("libpcap")
def test_a_syntax_error_is_a_value_error_with_the_text_and_libpcaps_words(fresh: None) -> None:
    with pytest.raises(ValueError, match=r"filter 'tcp prot 80': .*(syntax|parse) error.*; see pcap-filter\(7\)"):
        bpf.compile_filter("tcp prot 80")


def test_without_libpcap_it_says_what_to_install(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(UnsupportedError, match=r"libpcap, which is not installed; .*apt-get install libpcap0\.8"):
        bpf.compile_filter("tcp")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
@pytest.mark.netns_requires("libpcap")
def test_any_text_compiles_or_is_a_value_error(text: str) -> None:
    try:
        code = bpf.compile_filter(text)
    except ValueError:
        return
    assert len(code) > 0
    assert len(code) % struct.calcsize("HBBI") == 0


@pytest.mark.netns_requires("libpcap")
def test_filters_are_compiled_by_many_threads_at_once(fresh: None) -> None:
    expected = [bpf.compile_filter(f"tcp port {port}") for port in range(1, 21)]
    bpf.compile_filter.cache_clear()
    found: dict[int, bytes] = {}

    def work(port: int) -> None:
        found[port] = bpf.compile_filter(f"tcp port {port}")

    threads = [threading.Thread(target=work, args=(port,)) for port in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[port] for port in range(1, 21)] == expected


@given(st.binary(max_size=80), st.sampled_from(["vlan 5 and tcp", "ip6 and udp port 53", "arp", "ether[70] = 1"]))
@pytest.mark.netns_requires("libpcap")
def test_anything_is_accepted_or_not_without_an_error(data: bytes, text: str) -> None:
    assert bpf.accepts(bpf.compile_filter(text), data) in (True, False)
