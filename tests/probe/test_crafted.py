from __future__ import annotations

import errno
import os
from ipaddress import ip_address

import pytest
from awaiting import await_reaper
from conversation import address_of, listen
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.plist import PacketList, SndRcvList
from slowness import patient

from pytest_netns import Host, KernelError, Lab, TopologyError

versions = pytest.mark.parametrize("version", [4, 6])


def ip_to(host: Host, version: int) -> Packet:
    """The IP layer of a packet to a host, its source left open."""
    return (IP if version == 4 else IPv6)(dst=str(address_of(host, version)))


# ---------------------------------------------------------------------- sr


@versions
def test_a_syn_is_answered_by_an_open_and_by_a_closed_port(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    with listen(right, 80):
        for port, flags in ((80, "SA"), (81, "RA")):
            answered, unanswered = left.sr(ip_to(right, version) / TCP(dport=port, flags="S"))
            assert isinstance(answered, SndRcvList)
            assert isinstance(unanswered, PacketList)
            ((question, answer),) = answered
            assert not unanswered
            assert question[TCP].dport == port
            assert (answer[TCP].sport, str(answer[TCP].flags)) == (port, flags)
            assert answer[Ether].src == right.mac


def test_addresses_of_ipaddress_may_stand_in_the_fields(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    packet = IP(dst=right.ip) / ICMP()
    assert left.sr1(packet)[IP].src == str(right.ip4)
    assert packet.dst == right.ip  # the packet is as it was written
    assert "src" not in packet.fields
    assert left.sr1(IPv6(dst=right.ip6) / ICMPv6EchoRequest())
    assert left.sr1(ARP(pdst=right.ip4))[ARP].hwsrc == right.mac


@versions
def test_the_source_is_the_namespaces_and_not_the_machines(lab: Lab, version: int) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    with blue.capture("eth0", UDP) as capture:
        assert red.send(ip_to(blue, version) / UDP(dport=9)) == 1
        packet = capture.expect(UDP(dport=9))
    layer = packet[IP] if version == 4 else packet[IPv6]
    assert layer.src == str(address_of(red, version))
    assert packet[Ether].src == router.interfaces["eth1"].mac


def test_of_several_sources_the_one_towards_the_destination_is_taken(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue)
    lab.connect(red, green)
    for far, near in ((blue, "eth0"), (green, "eth1")):
        assert red.sr1(IP(dst=far.ip4) / ICMP())[IP].dst == str(red.interfaces[near].ip4)


@versions
def test_a_source_that_was_written_is_kept(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    spoofed = {4: "192.0.2.1", 6: "2001:db8::1"}[version]
    packet = ip_to(right, version)
    packet.src = spoofed
    with right.capture("eth0", UDP) as capture:
        left.send(packet / UDP(dport=9))
        assert capture.expect(UDP(dport=9))[1].src == spoofed


def test_an_echo_request_over_ipv6_is_answered(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    answer = left.sr1(IPv6(dst=right.ip6) / ICMPv6EchoRequest(id=7, seq=8, data=b"some data"))
    assert (answer[ICMPv6EchoReply].id, answer[ICMPv6EchoReply].data) == (7, b"some data")


def test_an_icmp_error_is_an_answer(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    answer = left.sr1(IP(dst=right.ip4) / UDP(dport=7, sport=7))
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)


@pytest.mark.netns_requires("nft")
def test_who_does_not_answer_is_among_the_unanswered(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.nft("table ip wall { chain c { type filter hook input priority 0; tcp dport 80 drop; }; }")
    answered, unanswered = left.sr(IP(dst=right.ip4) / TCP(dport=80, flags="S"), timeout=0.05)
    assert not answered
    assert [packet[TCP].dport for packet in unanswered] == [80]
    assert left.sr1(IP(dst=right.ip4) / TCP(dport=80, flags="S"), timeout=0.05) is None


def test_a_packet_does_not_answer_itself(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    nothing_known = Ether(src=left.mac, dst=right.mac, type=0x88B6) / Raw(b"to scapy, any bytes answer any others")
    assert left.sr1(nothing_known, timeout=0.05) is None


def test_ranges_stand_for_several_packets(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with listen(right, 82):
        answered, unanswered = left.sr(IP(dst=right.ip4) / TCP(dport=[80, (81, 84)], flags="S"))
    assert not unanswered
    found = {question[TCP].dport: str(answer[TCP].flags) for question, answer in answered}
    assert found == {80: "RA", 81: "RA", 82: "SA", 83: "RA", 84: "RA"}


def test_a_subnet_as_destination_stands_for_its_hosts(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    first = right.ip4 - 2  # of four: the network, left, right, broadcast
    answered, unanswered = left.sr(IP(dst=f"{first}/30") / ICMP(), timeout=patient(0.1))
    assert str(right.ip4) in {answer[IP].src for _, answer in answered}
    assert len(answered) + len(unanswered) == 4


def test_send_says_how_many_went_out(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with right.capture("eth0", UDP) as capture:
        assert left.send(IP(dst=right.ip4) / UDP(dport=(1, 20))) == 20
    assert [packet[UDP].dport for packet in capture.packets] == list(range(1, 21))


# --------------------------------------------------------------------- ARP


def test_a_hand_made_arp_request_is_answered(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with right.capture("eth0", ARP(op=1)) as capture:
        answer = left.sr1(ARP(pdst=str(right.ip4)))
        asked = capture.expect(ARP(op=1))
    assert (answer[ARP].hwsrc, answer[ARP].psrc) == (right.mac, str(right.ip4))
    assert (asked[Ether].src, asked[Ether].dst) == (left.mac, "ff:ff:ff:ff:ff:ff")
    assert (asked[ARP].hwsrc, asked[ARP].psrc) == (left.mac, str(left.ip4))


def test_arp_goes_out_of_the_interface_on_whose_link_the_address_is(lab: Lab) -> None:
    red, blue, green = lab.host("red"), lab.host("blue"), lab.host("green")
    lab.connect(red, blue)
    lab.connect(red, green)
    for far, near in ((blue, "eth0"), (green, "eth1")):
        answer = red.sr1(ARP(pdst=far.ip4))
        assert answer[ARP].hwsrc == far.mac
        assert answer[ARP].pdst == str(red.interfaces[near].ip4)


def test_a_neighbour_solicitation_by_hand_is_answered(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    question = Ether(dst=right.mac) / IPv6(dst=str(right.ip6), hlim=255) / ICMPv6ND_NS(tgt=str(right.ip6))
    assert left.sr1(question, "eth0")[ICMPv6ND_NA].tgt == str(right.ip6)


# ------------------------------------------------------------------ frames


def test_with_an_interface_it_goes_out_there_as_it_was_written(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    frame = Ether(src="02:00:00:00:00:77", dst="02:00:00:00:00:99", type=0x88B6) / Raw(b"experimental")
    with right.capture("eth0") as capture:
        assert left.send(frame, "eth0") == 1
        assert left.send(frame, left.interfaces["eth0"]) == 1
    assert [each.data for each in capture.frames] == [bytes(frame)] * 2


def test_an_ip_packet_with_an_interface_gets_an_ethernet_header(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with right.capture("eth0", UDP) as capture:
        left.send(IP(dst=str(right.ip4)) / UDP(dport=9), "eth0")
    (packet,) = capture.packets
    assert (packet.src, packet.dst, packet[IP].src) == (left.mac, "ff:ff:ff:ff:ff:ff", str(left.ip4))


def test_what_is_open_in_an_ethernet_header_is_filled_in(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with right.capture("eth0") as capture:
        left.send(Ether() / Dot1Q(vlan=7) / IP(src="10.9.0.1", dst="10.9.0.2") / UDP(dport=9))
    (packet,) = capture.packets
    assert (packet.src, packet.dst, packet[Dot1Q].vlan) == (left.mac, "ff:ff:ff:ff:ff:ff", 7)


def test_a_whole_frame_is_answered_by_one(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    answer = left.sr1(Ether(dst=right.mac) / IP(dst=str(right.ip4)) / ICMP(id=5) / b"x", "eth0")
    assert (answer[Ether].src, answer[Ether].dst, answer[ICMP].id) == (right.mac, left.mac, 5)


# ------------------------------------------------------------------ errors


@versions
def test_without_a_route_the_kernel_says_so(veth_pair: tuple[Host, Host], version: int) -> None:
    left, _ = veth_pair
    nowhere = IP(dst="198.51.100.1") if version == 4 else IPv6(dst="2001:db8::1")
    for ask in (left.send, left.sr, left.sr1):
        with pytest.raises(KernelError, match=r"in namespace 'left': Network is unreachable") as error:
            ask(nowhere / UDP(dport=9))
        assert error.value.errno == errno.ENETUNREACH
        nowhere.src = {4: "192.0.2.1", 6: "2001:db8::2"}[version]  # then it is sending that fails


def test_an_interface_that_is_down_is_a_kernel_error(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    left.interfaces["eth0"].down()
    with pytest.raises(KernelError, match=r"'send .*' in namespace 'left': Network is down"):
        left.send(Ether(dst=right.mac) / IP(src="10.0.0.1", dst="10.0.0.2"), "eth0")


def test_a_packet_that_is_too_long_is_a_kernel_error(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with pytest.raises(KernelError, match="Message too long") as error:
        left.send(IP(dst=right.ip4) / UDP(dport=9) / bytes(2000))
    assert error.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize("wrong", [b"bytes", "IP()", None, IP, 3])
def test_what_is_no_packet_is_a_type_error(veth_pair: tuple[Host, Host], wrong: Packet) -> None:
    left, _ = veth_pair
    for ask in (left.send, left.sr, left.sr1):
        with pytest.raises(TypeError, match="expected a scapy packet, not "):
            ask(wrong)


def test_a_destination_that_is_missing_is_asked_for(veth_pair: tuple[Host, Host]) -> None:
    with pytest.raises(TopologyError, match="its destination address is not set"):
        veth_pair[0].send(IP() / UDP(dport=9))


def test_which_interface_has_to_be_said_where_it_is_not_clear(lab: Lab) -> None:
    red = lab.host("red")
    lab.connect(red, lab.host("blue"))
    lab.connect(red, lab.host("green"))
    with pytest.raises(TopologyError, match=r"'red' has 2 interfaces; say which one .* goes out of: interface='eth0'"):
        red.send(Ether(type=0x88B6) / b"x")
    with pytest.raises(TopologyError, match=r"'lonely' has 0 interfaces"):
        lab.host("lonely").send(Ether(type=0x88B6) / b"x")


def test_a_foreign_or_unknown_interface_is_named(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with pytest.raises(TopologyError, match="is not an interface of 'left'"):
        left.send(Ether() / b"x", right.interfaces["eth0"])
    with pytest.raises(TopologyError, match="'left' has no interface 'eth7'"):
        left.send(Ether() / b"x", "eth7")


@pytest.mark.parametrize("timeout", [-1, True, 3601])
def test_a_timeout_out_of_range_is_a_value_error(veth_pair: tuple[Host, Host], timeout: float) -> None:
    with pytest.raises(ValueError, match=r"timeout is .*; it can be 0 to 3600"):
        veth_pair[0].sr(IP(dst=veth_pair[1].ip4) / ICMP(), timeout=timeout)


def test_what_it_is_told_by_text_is_an_address(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    assert ip_address(left.sr1(IP(dst=str(right.ip4)) / ICMP())[IP].src) == right.ip4


def test_no_descriptor_is_left(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    left.sr1(IP(dst=right.ip4) / ICMP())
    await_reaper()
    before = set(os.listdir("/proc/self/fd"))
    left.sr1(IP(dst=right.ip4) / ICMP())
    left.send(Ether(dst=right.mac) / b"x", "eth0")
    with pytest.raises(KernelError):
        left.send(IP(dst="198.51.100.1"))
    await_reaper()
    assert set(os.listdir("/proc/self/fd")) <= before


# --------------------------------------------------------------- TCP by hand


@versions
def test_a_handshake_made_by_hand_is_not_reset(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    with listen(right, 80) as server, right.capture(filter=lambda packet: TCP in packet) as capture:
        with left.without_rst(4000):
            answer = left.sr1(ip_to(right, version) / TCP(sport=4000, dport=80, flags="S", seq=10))
            ack = {"seq": 11, "ack": answer[TCP].seq + 1}
            left.send(ip_to(right, version) / TCP(sport=4000, dport=80, flags="PA", **ack) / Raw(b"hello"))
            connection, peer = server.accept()
            with connection:
                connection.settimeout(patient(10))
                assert (connection.recv(100), peer[1]) == (b"hello", 4000)
            capture.expect_none(TCP(flags="R"), within=0)
        left.send(ip_to(right, version) / TCP(sport=4000, dport=80, flags="S", seq=10))
        capture.expect(TCP(sport=4000, flags="R"), timeout=patient(10))  # all is as before


def test_a_server_played_by_hand(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    client = left.socket()
    client.setblocking(False)
    with right.without_rst(80, 81), right.capture(filter=lambda packet: TCP in packet) as capture:
        client.connect_ex((str(right.ip4), 80))
        syn = capture.expect(TCP(dport=80, flags="S"), timeout=patient(10))
        answer = TCP(sport=80, dport=syn[TCP].sport, flags="SA", seq=5, ack=syn[TCP].seq + 1)
        right.send(IP(dst=left.ip4) / answer)
        capture.expect(TCP(dport=80, flags="A"), timeout=patient(10))
        capture.expect_none(TCP(flags="R"), within=0)
    assert client.getpeername() == (str(right.ip4), 80)


def test_a_port_that_is_taken_cannot_be_played(lab: Lab) -> None:
    red = lab.host("red")
    said = r"'bind tcp port 80' in namespace 'red'.*has the port"
    with listen(red, 80), pytest.raises(KernelError, match=said), red.without_rst(80):
        pass
    with pytest.raises(ValueError, match="ports is empty"), red.without_rst():
        pass
