"""Set-up returns only when the very first packet gets through: a lost one would be repeated after a second."""

from __future__ import annotations

import pytest

from pytest_netns import Lab

pytestmark = pytest.mark.usefixtures("lab_factory")

SOON = 0.3


@pytest.mark.parametrize("version", [4, 6])
def test_it_gets_through_a_pair(version: int) -> None:
    for _ in range(40):
        with Lab() as lab:
            red, blue = lab.host("red"), lab.host("blue")
            lab.connect(red, blue)
            result = red.ping(blue.ip4 if version == 4 else blue.ip6, timeout=SOON)
            assert result


@pytest.mark.parametrize("version", [4, 6])
def test_it_gets_through_a_bridge(version: int) -> None:
    for _ in range(20):
        with Lab() as lab:
            bridge = lab.bridge("br0")
            first, *_, last = [bridge.host(f"h{number}") for number in range(4)]
            result = first.ping(last.ip4 if version == 4 else last.ip6, timeout=SOON)
            assert result


@pytest.mark.parametrize("version", [4, 6])
def test_it_gets_through_to_the_bridge_itself(version: int) -> None:
    for _ in range(20):
        with Lab() as lab:
            bridge = lab.bridge("br0")
            red = bridge.host("red")
            network = bridge.subnets[version == 6]
            bridge.add_address(f"{network.network_address + 99}/{network.prefixlen}")
            assert red.ping(network.network_address + 99, timeout=SOON)


def test_it_gets_through_to_a_link_local_address() -> None:
    for _ in range(20):
        with Lab(ipv4=None, ipv6=None) as lab:
            red, blue = lab.host("red"), lab.host("blue")
            lab.connect(red, blue)
            assert red.ping(blue, timeout=SOON)


def test_it_gets_through_a_trunk() -> None:
    for _ in range(10):
        with Lab() as lab:
            one = lab.bridge("one")
            two = lab.bridge("two", one)
            red, blue = one.host("red"), two.host("blue")
            lab.connect(one, two)
            assert red.ping(blue.ip4, timeout=SOON)
            assert blue.ping(red.ip6, timeout=SOON)
