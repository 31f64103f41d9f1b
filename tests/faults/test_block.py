from __future__ import annotations

import pytest
from conversation import listen
from explaining import why_no_ping

from pytest_netns import Host, Lab, TopologyError

pytestmark = pytest.mark.netns_requires("nft")

SHORT = 0.05


@pytest.fixture
def three(lab: Lab) -> tuple[Host, Host, Host]:
    lan = lab.bridge("lan", "10.9.0.0/24")
    return lan.host("red"), lan.host("blue"), lan.host("green")


def test_everything(three: tuple[Host, Host, Host]) -> None:
    red, blue, green = three
    with blue.block() as block:
        assert not red.ping(blue.ip4, timeout=SHORT)
        assert not red.ping(blue.ip6, timeout=SHORT)
        assert red.ping(green)
        assert blue.ping("127.0.0.1")
        assert block.packets >= 2
    assert red.ping(blue.ip4)
    assert red.ping(blue.ip6)


def test_by_source(three: tuple[Host, Host, Host]) -> None:
    red, blue, green = three
    blue.block(src=red)
    assert not red.ping(blue.ip4, timeout=SHORT)
    assert not red.ping(blue.ip6, timeout=SHORT)
    assert green.ping(blue.ip4)
    assert green.ping(blue.ip6)
    why = why_no_ping(red, blue)
    assert why.node == "blue"
    assert "'blue' drops packets from red" in str(why)


def test_by_destination_on_the_sender(three: tuple[Host, Host, Host]) -> None:
    red, blue, green = three
    with red.block(dst=str(blue.ip4)):
        assert not red.ping(blue.ip4, timeout=SHORT)
        assert red.ping(blue.ip6)
        assert red.ping(green)


def test_on_a_router_it_concerns_what_is_forwarded(lab: Lab) -> None:
    left, right = lab.bridge("left"), lab.bridge("right")
    a, b, c = left.host("a"), left.host("b"), right.host("c")
    router = lab.router("r", left, right)
    lab.autoroute()
    with router.block(src=a, dst=right):
        assert not a.ping(c, timeout=SHORT)
        assert b.ping(c)
    assert a.ping(c)


@pytest.mark.parametrize(("protocol", "blocked"), [("tcp", True), ("udp", False), (None, True), (6, None)])
def test_by_protocol_and_port(three: tuple[Host, Host, Host], protocol: str | int | None, blocked: bool | None) -> None:
    red, blue, _ = three
    listen(blue, 80)
    listen(blue, 81)
    with blue.block(protocol=protocol, port=None if blocked is None else 80):
        assert bool(red.tcp(blue, 80, timeout=SHORT)) is (protocol == "udp")
        assert bool(red.tcp(blue, 81, timeout=SHORT)) is (blocked is not None)
        assert red.ping(blue)


def test_icmp_leaves_neighbour_discovery_alone(three: tuple[Host, Host, Host]) -> None:
    red, blue, _ = three
    listen(blue, 80)
    with blue.block(protocol="icmp"):
        assert not red.ping(blue.ip4, timeout=SHORT)
        assert not red.ping(blue.ip6, timeout=SHORT)
        assert red.tcp(blue.ip4, 80)
        assert red.tcp(blue.ip6, 80)


def test_rejecting_is_an_answer(three: tuple[Host, Host, Host]) -> None:
    red, blue, _ = three
    listen(blue, 80)
    with blue.block(port=80, reject=True):
        assert red.tcp(blue, 80).state == "closed"
        assert red.udp(blue, 80, b"x").state in ("closed", "unreachable")
        assert red.ping(blue)
    with blue.block(protocol=6, port=80, reject=True):
        assert red.tcp(blue, 80).state == "closed"
    with blue.block(protocol="icmp", reject=True):
        assert red.ping(blue.ip4, timeout=SHORT).error is not None
    with blue.block(reject=True):
        assert red.ping(blue.ip4, timeout=SHORT).error is not None
        assert red.tcp(blue.ip4, 80).state == "closed"
    with blue.block(protocol="udp", reject=True):
        assert red.udp(blue, 9, b"x").state in ("closed", "unreachable")
        assert red.tcp(blue, 80)


def test_unblock_undoes_all_of_this_host_only(three: tuple[Host, Host, Host]) -> None:
    red, blue, green = three
    blue.block(src=red)
    blue.block(src=green)
    green.block(src=red)
    blue.unblock()
    blue.unblock()
    assert red.ping(blue)
    assert green.ping(blue)
    assert not red.ping(green, timeout=SHORT)


def test_bad_words_are_named(three: tuple[Host, Host, Host], lab: Lab) -> None:
    red, blue, _ = three
    bare = lab.host("bare")
    for arguments, words in (
        ({"protocol": "tpc"}, "known are tcp, udp, sctp, icmp"),
        ({"protocol": 256}, "from 0 to 255"),
        ({"protocol": "icmp", "port": 80}, "'icmp' has no ports"),
        ({"src": "nonsense"}, r"block\(src='nonsense'\)"),
        ({"src": "default"}, "expected a node"),
        ({"src": 5}, r"'red': block\(src=5\): .*expected a node, an interface, an address or a network"),
        ({"port": 0}, r"'red': block\(port=0\): port is 0; it can be 1 to 65535"),
        ({"dst": bare}, "has no address"),
        ({"src": "10.0.0.1", "dst": "fd00::1"}, "no address of the same family"),
    ):
        with pytest.raises(TopologyError, match=words):
            red.block(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="port"):
        red.block(port=70000)
    assert red.ping(blue)
    assert not list(lab.faults)
