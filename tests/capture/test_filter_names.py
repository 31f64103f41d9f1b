"""Names of hosts in filter expressions are those of the lab, whatever the machine's resolver knows."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP

from pytest_netns import Host, Lab
from pytest_netns.capture import bpf
from pytest_netns.capture.filter_names import resolve

pytestmark = pytest.mark.netns_requires("libpcap")

NAMES = {
    name: [ip_address(address) for address in addresses]
    for name, *addresses in (
        ("red", "10.0.0.1"),
        ("blue", "127.0.0.1", "10.0.0.2", "fd00::2"),
        ("six", "fd00::6"),
        ("www.example.com", "10.0.0.9"),
        ("http", "10.0.0.7"),
        ("host", "10.0.0.8"),
        ("a_b-c.d", "10.0.0.6"),
        ("bare", "127.0.0.1"),
    )
}
BLUE = "(10.0.0.2 or fd00::2)"


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("host red", "host 10.0.0.1"),
        ("host blue", f"host {BLUE}"),
        ("host www.example.com or red", "host 10.0.0.9 or 10.0.0.1"),
        ("src blue and dst red", f"src {BLUE} and dst 10.0.0.1"),
        ("src or dst host a_b-c.d", "src or dst host 10.0.0.6"),
        ("tcp port 80 and not host blue", f"tcp port 80 and not host {BLUE}"),
        ("tcp port 80 && !host red", "tcp port 80 && !host 10.0.0.1"),
        ("(src red)or(dst six)", "(src 10.0.0.1)or(dst fd00::6)"),
        ("ip host blue", "ip host 10.0.0.2"),
        ("ip6 host blue", "ip6 host fd00::2"),
        ("arp host blue and host blue", f"arp host 10.0.0.2 and host {BLUE}"),
        # services are no hosts, and a host can be called like one, or like a word of the language
        ("port http and host http", "port http and host 10.0.0.7"),
        ("src port http or ssh", "src port http or ssh"),
        (r"host \host", "host 10.0.0.8"),
        ("portrange ssh-smtp", "portrange ssh-smtp"),
    ],
)
def test_names_are_replaced_by_addresses(text: str, resolved: str) -> None:
    assert resolve(text, NAMES) == resolved
    bpf.compile_filter(resolved)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "icmp[icmptype] == icmp-echo or icmp6 and ip6[40] = icmp6-echo",
        r"ether proto \arp or ip proto \tcp or ip protochain 6",
        "ether host 02:00:00:00:00:01 and ether multicast",
        "vlan 7 and mpls 100",
        "net 10.0.0.0/8 or net 192.168 or dst net 172.16.0.0 mask 255.240.0.0",
        "host 10.0.0.1 and (port 80 or portrange 8000-8080)",
        "host fd00::1 or host ::ffff:10.0.0.1",
        "len <= 100 and greater 60 and ip[6:2] & 0x1fff = 0",
        "igmp or pim or vrrp or rarp or stp or llc",
    ],
)
def test_what_has_no_names_stays_as_it_is(text: str) -> None:
    assert resolve(text, {}) == text
    bpf.compile_filter(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "host www.python.org",
            "syntax error, or an unknown name: 'www.python.org' is neither a word of pcap-filter(7) nor a name",
        ),
        ("tcp port 80 and src localhost", "syntax error, or an unknown name: 'localhost' is neither"),
        ("net loopback", "'loopback' is a name; a network is written by its address"),
        ("gateway red", "'red' is a name; write 'ether host MAC"),
        ("ether host red", "'red' is a name; a MAC address is written itself"),
        ("ether src red", "'red' is a name; a MAC address is written itself"),
        ("ip6 host red", "'red' has no IPv6 address now"),
        ("ip host six", "'six' has no IPv4 address now"),
        ("host bare", "'bare' has no address now"),
    ],
)
def test_other_names_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"filter {text!r}: {words}")):
        resolve(text, NAMES)


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host]:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    lab.dns["www.example.com"] = blue
    return red, blue


def test_captures_of_all_kinds_know_the_names_of_the_lab(lab: Lab, pair: tuple[Host, Host]) -> None:
    red, blue = pair
    with (
        red.capture(filter="src red") as one,
        lab.links[0].capture("host www.example.com") as two,
        lab.capture("dst host blue and not dst host red") as three,
    ):
        assert red.ping(blue)
        one.expect(ICMP(type="echo-request"))
        two.expect(ICMP(type="echo-reply"))
        three.expect(ICMP(type="echo-request"))
    assert not any(ICMP in packet and packet[ICMP].type == 0 for packet in three.packets)


def test_nobody_is_asked(lab: Lab) -> None:
    # A name server of the test's own stands where the C library would ask.
    red = lab.host("red", isolate={"mount"})
    lab.dns.nameservers.append("127.0.0.1")
    server = red.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    server.setblocking(False)

    def ask() -> None:
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("www.python.org", 80)

    def capture() -> None:
        for text in ("host www.python.org", "src printer.local", "net corporation"):
            with pytest.raises(ValueError, match=r"is neither a word|is a name"):
                red.capture(filter=text)

    red.call(capture)
    with pytest.raises(BlockingIOError):
        server.recv(512)
    red.call(ask)
    assert b"python" in server.recv(512)
