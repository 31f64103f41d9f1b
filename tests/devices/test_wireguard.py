"""WireGuard: keys that the kernel works out, peers, handshakes; and the encoding of its messages, everywhere."""

from __future__ import annotations

import os
import struct
import time
from base64 import b64encode
from ipaddress import ip_address, ip_network

import pytest

from pytest_netns import Host, KernelError, Lab, TopologyError, UnsupportedError
from pytest_netns.devices import wireguard_go
from pytest_netns.devices.wireguard import WireGuard
from pytest_netns.kernel.features.features import feature
from pytest_netns.kernel.netlink import wireguard_genl as wireguard
from pytest_netns.kernel.netlink.socket import attribute, attributes, rows
from pytest_netns.kernel.netlink.wireguard_genl import Peer, PeerChange

QUICK = 1.0
#: The pair of RFC 7748 6.1, Alice's.
PRIVATE = b64encode(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")).decode()
PUBLIC = b64encode(bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")).decode()


@pytest.fixture(params=[pytest.param(False, marks=pytest.mark.kernel, id="kernel"), pytest.param(True, id="program")])
def userspace(request: pytest.FixtureRequest) -> bool:
    """Whose WireGuard: the kernel's, or that of wireguard-go."""
    wanted = bool(request.param)
    if wanted and (packages := wireguard_go.lacking()):
        pytest.skip(f"not installed: {', '.join(packages)}")
    found = feature("tun" if wanted else "wireguard")
    if not found.present:
        pytest.skip(found.reason)
    return wanted


@pytest.fixture
def pair(lab: Lab, userspace: bool) -> tuple[WireGuard, WireGuard]:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    return (
        red.add_wireguard("wg0", userspace=userspace, address=["10.50.0.1/24", "fd50::1/64"]),
        blue.add_wireguard("wg0", userspace=userspace, listen_port=4500, address=["10.50.0.2/24", "fd50::2/64"]),
    )


@pytest.mark.netns_requires("libpcap")
def test_two_peers_shake_hands(pair: tuple[WireGuard, WireGuard]) -> None:
    one, two = pair
    one.add_peer(two)
    two.add_peer(one)
    assert one.peers[0].last_handshake is None
    with one.node.capture("eth0", "udp port 4500") as capture:
        assert one.node.ping(two.ip4, timeout=QUICK)
        assert one.node.ping(two.ip6, timeout=QUICK)
    assert len(capture) >= 4
    (peer,) = one.peers
    assert peer.public_key == two.public_key
    assert peer.endpoint == (ip_address("192.168.15.2"), 4500)
    assert set(peer.allowed_ips) == {ip_network("10.50.0.2/32"), ip_network("fd50::2/128")}
    assert peer.last_handshake is not None
    assert abs(peer.last_handshake - time.time()) < 60
    assert peer.received > 0
    assert peer.sent > 0
    assert two.peer(one).endpoint == (ip_address("192.168.15.1"), 51820)
    assert (one.kind, one.mtu, one.listen_port) == ("wireguard", 1420, 51820)


def test_who_is_not_known_is_not_answered(pair: tuple[WireGuard, WireGuard]) -> None:
    one, two = pair
    one.add_peer(two)
    assert not one.node.ping(two.ip4, timeout=0.3)
    assert one.peer(two).last_handshake is None
    two.add_peer(one)
    assert any(one.node.ping(two.ip4, timeout=1.0) for _ in range(10))
    one.remove_peer(two)
    assert one.peers == []
    assert not one.node.ping(two.ip4, timeout=0.1)
    with pytest.raises(TopologyError, match=r"'wg0' \(wireguard\) of 'red'> has no peer"):
        one.remove_peer(two)


def test_a_caller_and_a_network_behind_it(lab: Lab, pair: tuple[WireGuard, WireGuard]) -> None:
    """By bare keys, as another program's peer is given; the one without an endpoint waits to be called."""
    one, two = pair
    secret = b64encode(bytes(range(32))).decode()
    two.add_peer(one.public_key, allowed_ips=["10.50.0.1/32", "10.60.0.0/24"], preshared_key=secret)
    assert two.peers[0].endpoint is None
    one.add_peer(
        two.public_key,
        endpoint=(two.node, 4500),
        allowed_ips="10.50.0.0/24",
        preshared_key=secret,
        keepalive=25,
    )
    assert one.peers[0].keepalive == 25
    one.add_address("10.60.0.1/32")
    two.node.add_route("10.60.0.0/24", interface=two)
    assert one.node.ping("10.50.0.2", timeout=QUICK)
    assert two.node.ping("10.60.0.1", timeout=QUICK)
    assert two.peers[0].endpoint == (ip_address("192.168.15.1"), 51820)


def test_the_public_key_is_worked_out(lab: Lab, userspace: bool) -> None:
    red = lab.host("red")
    device = red.add_wireguard("wg0", private_key=PRIVATE, userspace=userspace)
    assert device.public_key == PUBLIC
    assert red.add_wireguard("wg1", listen_port=1, userspace=userspace).public_key != PUBLIC


def test_what_is_left_out_is_no_longer_known(
    pair: tuple[WireGuard, WireGuard], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    told: list[PeerChange] = []
    monkeypatch.setattr(one, "set_peer", told.append)
    one.add_peer(two, preshared_key=b64encode(b"k" * 32).decode(), keepalive=25)
    one.add_peer(two)
    assert [(each.preshared_key, each.keepalive) for each in told] == [(b"k" * 32, 25), (bytes(32), 0)]


def test_over_ipv6_with_many_networks(lab: Lab, userspace: bool) -> None:
    """So many that they come in several messages."""
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    one = red.add_wireguard("wg0", userspace=userspace, address="10.50.0.1/24")
    two = blue.add_wireguard("wg0", userspace=userspace, address="10.50.0.2/24")
    networks = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(256, 1256)]
    one.add_peer(two, endpoint=blue.ip6, allowed_ips=["10.50.0.2/32", *networks])
    two.add_peer(one)
    assert len(one.peers[0].allowed_ips) == 1001
    assert one.peers[0].endpoint == (blue.ip6, 51820)
    assert red.ping("10.50.0.2", timeout=QUICK)


def test_it_is_removed_and_bad_values_leave_nothing(pair: tuple[WireGuard, WireGuard]) -> None:
    one, two = pair
    for bad, match in (
        ({"peer": "abc"}, "'abc' is not a key; expected 32 bytes in base64"),
        ({"peer": two, "preshared_key": "x"}, "'x' is not a key"),
        ({"peer": two, "allowed_ips": "10.0.0.1/24"}, "allowed_ips: 10.0.0.1/24 has host bits set"),
        ({"peer": two, "keepalive": 70000}, "keepalive is 70000"),
        ({"peer": two, "endpoint": ("192.168.15.2", 0)}, "port is 0; it can be 1 to 65535"),
        ({"peer": two, "endpoint": "nowhere"}, "'nowhere' is not an address"),
    ):
        with pytest.raises(TopologyError, match=match):
            one.add_peer(**bad)  # type: ignore[arg-type]
    assert one.peers == []
    one.remove()
    assert list(one.node.interfaces) == ["lo", "eth0"]


def test_without_the_kind_nothing_is_left(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    if feature("wireguard").present:
        pytest.skip("this kernel has it")
    red: Host = lab.host("red")
    with pytest.raises(UnsupportedError, match=r"modprobe wireguard$"):
        red.add_wireguard("wg0", userspace=False)
    monkeypatch.setattr(wireguard_go, "PROGRAMS", {"no-such-program": "some-package"})
    with pytest.raises(UnsupportedError, match="modprobe wireguard; or do without it: apt-get install some-package"):
        red.add_wireguard("wg0")
    with pytest.raises(
        UnsupportedError, match="wireguard 'wg0' of 'red' by wireguard-go: apt-get install some-package"
    ):
        red.add_wireguard("wg0", userspace=True)
    assert list(red.interfaces) == ["lo"]


@pytest.mark.netns_requires("tun", "program:wireguard-go", "program:wg")
def test_the_program_stands_in_and_leaves_nothing(lab: Lab) -> None:
    red = lab.host("red")
    before = set(os.listdir("/run"))
    device = red.add_wireguard("wg0", userspace=True, address="10.50.0.1/24", mtu=1300)
    assert (device.userspace, device.kind, device.mtu, device.listen_port) == (True, "wireguard", 1300, 51820)
    (process,) = red.processes
    with pytest.raises(KernelError, match="address add"):
        red.add_wireguard("wg1", userspace=True, listen_port=2, address=["10.1.0.1/24", "10.1.0.1/24"])
    assert [each.returncode is None for each in red.processes] == [True, False]
    device.remove()
    assert process.returncode is not None
    assert list(red.interfaces) == ["lo"]
    assert set(os.listdir("/run")) == before


@pytest.mark.kernel
@pytest.mark.netns_requires("wireguard", "tun", "program:wireguard-go", "program:wg")
def test_kernel_and_program_understand_each_other(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    one = red.add_wireguard("wg0", address="10.50.0.1/24")
    two = blue.add_wireguard("wg0", userspace=True, address="10.50.0.2/24")
    one.add_peer(two)
    two.add_peer(one)
    assert (one.userspace, two.userspace) == (False, True)
    assert any(red.ping(two, timeout=QUICK) for _ in range(10))


# ------------------------------------------------------------------- the encoding


def nested(data: bytes) -> list[dict[int, bytes]]:
    return [attributes(row) for _, row in rows(data)]


def test_what_the_program_answers_is_decoded() -> None:
    """As in https://www.wireguard.com/xplatform/."""
    answer = f"""private_key={"e8" * 32}
listen_port=12912
public_key={"b8" * 32}
preshared_key={"18" * 32}
allowed_ip=192.168.4.4/32
allowed_ip=fd00::/8
endpoint=[abcd:23::33]:51820
last_handshake_time_sec=100
last_handshake_time_nsec=500000000
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=111
public_key={"58" * 32}
endpoint=182.122.22.19:3233
last_handshake_time_sec=0
last_handshake_time_nsec=0
errno=0"""
    rows = [line.partition("=")[::2] for line in answer.splitlines()]
    first, second = wireguard_go.decode(iter(rows)).peers
    assert first == Peer(
        public_key=b64encode(b"\xb8" * 32).decode(),
        endpoint=(ip_address("abcd:23::33"), 51820),
        allowed_ips=(ip_network("192.168.4.4/32"), ip_network("fd00::/8")),
        last_handshake=100.5,
        received=2224,
        sent=38333,
        keepalive=111,
    )
    assert (second.endpoint, second.last_handshake) == ((ip_address("182.122.22.19"), 3233), None)


def test_a_peer_is_encoded_as_the_kernel_has_it() -> None:
    """Numbers of <linux/wireguard.h>."""
    peer = PeerChange(
        b"k" * 32,
        endpoint=(ip_address("192.168.15.2"), 4500),
        allowed_ips=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        preshared_key=b"p" * 32,
        keepalive=25,
    )
    request = wireguard.set_device(30, 1000, "wg0", private_key=b"s" * 32, port=51820, peer=peer)
    assert request.type == 30
    assert request.body[:4] == b"\1\1\0\0"
    found = attributes(request.body, 4)
    assert (found[1], found[3], found[6]) == (struct.pack("=I", 1000), b"s" * 32, struct.pack("=H", 51820))
    (row,) = nested(found[8])
    assert (row[1], row[2], row[3], row[5]) == (b"k" * 32, b"p" * 32, b"\2\0\0\0", b"\x19\0")
    assert row[4] == struct.pack("=H", 2) + struct.pack("!H", 4500) + bytes([192, 168, 15, 2]) + bytes(8)
    four, six = nested(row[9])
    assert (four[1], four[2], four[3]) == (b"\2\0", bytes([10, 0, 0, 0]), b"\x08")
    assert (six[1], six[2], six[3]) == (b"\x0a\0", b"\xfd" + bytes(15), b"\x08")
    assert "s" * 32 not in request.operation


def test_what_is_shown_is_put_together_from_several_messages() -> None:
    key, peer_key = b"q" * 32, b"k" * 32

    def allowed(*networks: str) -> bytes:
        rows = [
            attribute(1, struct.pack("=H", 2 if each.version == 4 else 10))
            + attribute(2, each.network_address.packed)
            + attribute(3, bytes([each.prefixlen]))
            for each in map(ip_network, networks)
        ]
        return attribute(9, b"".join(attribute(0, row) for row in rows))

    first = attribute(1, peer_key) + attribute(6, struct.pack("=qq", 100, 500_000_000))
    first += attribute(
        4, struct.pack("=H", 10) + struct.pack("!HI", 51820, 0) + ip_address("fd00::2").packed + bytes(4)
    )
    first += attribute(7, struct.pack("=Q", 148)) + attribute(8, struct.pack("=Q", 92))
    bodies = [
        b"\0\1\0\0"
        + attribute(4, key)
        + attribute(6, struct.pack("=H", 51820))
        + attribute(8, attribute(0, first + allowed("10.0.0.0/24"))),
        b"\0\1\0\0" + attribute(8, attribute(0, attribute(1, peer_key) + allowed("10.0.1.0/24", "fd00::/64"))),
    ]
    shown = wireguard.decode_device(bodies)
    assert (shown.public_key, shown.port) == (key, 51820)
    assert shown.peers == [
        Peer(
            public_key=b64encode(peer_key).decode(),
            endpoint=(ip_address("fd00::2"), 51820),
            allowed_ips=(ip_network("10.0.0.0/24"), ip_network("10.0.1.0/24"), ip_network("fd00::/64")),
            last_handshake=100.5,
            received=148,
            sent=92,
            keepalive=0,
        )
    ]
