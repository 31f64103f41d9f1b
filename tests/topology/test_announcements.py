"""Who is plugged in again says where he is, and nobody sends to where he was."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from pytest_netns import Bridge, Capture, Host, Lab


@dataclass(frozen=True)
class Town:
    """``home`` -- ``core`` -- ``away``, three switches of one subnet; ``server`` is attached to ``core``."""

    lab: Lab
    home: Bridge
    away: Bridge
    server: Host
    phone: Host


@pytest.fixture
def town(lab: Lab) -> Town:
    core = lab.bridge("core", "10.1.0.0/24")
    home, away = lab.bridge("home", subnet=False), lab.bridge("away", subnet=False)
    server, phone = core.host("server"), lab.host("phone")
    lab.connect(core, home)
    lab.connect(core, away)
    lab.connect(phone, home)
    for address in ("10.1.0.77/24", "fd00::77/64"):
        phone.add_address(address)
    assert phone.ping(server.ip4)
    assert server.ping(phone.ip6)
    return Town(lab, home, away, server, phone)


def learnt_at(town: Town) -> str:
    """The port of ``core`` behind which it takes the phone to be."""
    core = town.lab["core"]
    assert isinstance(core, Bridge)
    return next(entry.port for entry in core.fdb() if entry.mac == town.phone.mac)


def announced(capture: Capture, host: Host) -> dict[str, Packet]:
    """The announcements of a host by address."""
    found = {}
    for packet in capture.packets:
        if packet.src != host.mac:
            continue
        if ARP in packet and packet[ARP].psrc == packet[ARP].pdst:
            found[packet[ARP].psrc] = packet
        elif ICMPv6ND_NA in packet and not packet[ICMPv6ND_NA].S:
            found[packet[ICMPv6ND_NA].tgt] = packet
    return found


def test_the_first_packet_for_who_has_roamed_arrives(town: Town) -> None:
    town.home.detach(town.phone)
    town.away.attach(town.phone, "keep")
    assert learnt_at(town) == "away"
    assert town.server.ping(town.phone.ip4)
    assert town.server.ping(town.phone.ip6)


def test_without_it_others_send_to_where_he_was(town: Town) -> None:
    town.phone.sysctl["net.ipv6.conf.eth0.disable_ipv6"] = 1  # its solicitations would tell as well, by chance
    town.home.detach(town.phone)
    town.away.attach(town.phone, "keep", announce=False)
    assert learnt_at(town) == "home"
    assert not town.server.ping(town.phone.ip4, timeout=0.1)
    assert town.phone.ping(town.server.ip4)
    assert town.server.ping(town.phone.ip4)


def test_it_is_what_the_standards_say(town: Town) -> None:
    town.home.detach(town.phone)
    with town.server.capture(chatter=True) as capture:
        town.away.attach(town.phone, "keep")
        capture.expect(ICMPv6ND_NA(tgt="fd00::77"))
    found = announced(capture, town.phone)
    assert found.keys() == {str(address.ip) for address in town.phone.addresses()}
    arp = found["10.1.0.77"]
    assert (arp.dst, arp[ARP].op, arp[ARP].hwsrc) == ("ff:ff:ff:ff:ff:ff", 1, town.phone.mac)
    advertisement = found["fd00::77"]
    assert (advertisement.dst, advertisement[IPv6].dst, advertisement[IPv6].hlim) == (
        "33:33:00:00:00:01",
        "ff02::1",
        255,
    )
    body = advertisement[ICMPv6ND_NA]
    assert (body.R, body.S, body.O, body[ICMPv6NDOptDstLLAddr].lladdr) == (0, 0, 1, town.phone.mac)
    sent = body.cksum
    again = Ether(bytes(advertisement))
    del again[ICMPv6ND_NA].cksum
    assert Ether(bytes(again))[ICMPv6ND_NA].cksum == sent


def test_neighbours_learn_a_new_mac_address(lab: Lab) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    old, new, peer = away.host("old", "10.2.0.50"), home.host("new"), away.host("peer")
    assert peer.ping(old.ip4)
    assert peer.ping(old.ip6)
    address4, address6 = old.ip4, old.ip6
    old.links[0].remove()
    home.detach(new)
    away.attach(new, "10.2.0.50")
    assert isinstance(address4, IPv4Address)
    assert isinstance(address6, IPv6Address)
    assert new.ip4 == address4
    macs = {each.address: each.mac for each in peer.neighbours()}
    assert macs[address4] == new.mac


def test_a_router_says_that_it_is_one(lab: Lab) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    router, peer = lab.router("router", home), away.host("peer")
    home.detach(router)
    with peer.capture(chatter=True) as capture:
        away.attach(router)
        packet = capture.expect(ICMPv6ND_NA(tgt=str(router.ip6)))
    assert packet[ICMPv6ND_NA].R == 1


def test_what_lies_upon_the_interface_is_announced_too(lab: Lab) -> None:
    home, away = lab.bridge("home", "10.1.0.0/24"), lab.bridge("away", "10.2.0.0/24")
    host, peer = home.host("host"), away.host("peer")
    upper = host.add_macvlan("mv0", link=host._primary, address="10.9.0.1/24")
    home.detach(host)
    with peer.capture(filter=ARP) as capture:
        away.attach(host)
        packet = capture.expect(ARP(psrc="10.9.0.1", pdst="10.9.0.1"))
    assert packet.src == upper.mac


def test_who_is_plugged_in_where_he_was_announces_himself(town: Town) -> None:
    with town.server.capture(chatter=True) as capture:
        with town.home.detach(town.phone):
            pass
        capture.expect(ARP(psrc="10.1.0.77", pdst="10.1.0.77"))


def test_nothing_is_said_where_nothing_can_be(town: Town) -> None:
    town.home.detach(town.phone)
    with town.phone.links[0].down():
        town.away.attach(town.phone, "keep")
    assert town.phone.ping(town.server.ip4)


def test_who_is_new_says_nothing(town: Town) -> None:
    with town.server.capture(filter=ARP) as capture:
        new = town.lab.host("new")
        town.lab.connect(new, town.away)
        new.add_address("10.1.0.78/24")
        assert new.ping(town.server.ip4)
    assert not announced(capture, new)
