from __future__ import annotations

import pytest
from conversation import address_of
from slowness import patient

from pytest_netns import Host, Lab

versions = pytest.mark.parametrize("version", [4, 6])

_DROPPED = {
    4: "icmp type destination-unreachable icmp code frag-needed drop",
    6: "icmpv6 type packet-too-big drop",
}


@pytest.fixture
def narrow(lab: Lab) -> tuple[Host, Host, Host]:
    """``red``, a router, ``blue``; only 1400 bytes get from the router to blue."""
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue, mtu=1400)
    lab.autoroute()
    return red, router, blue


@versions
@pytest.mark.parametrize("mtu", [1500, 1281, 9000])
def test_the_own_interface_is_the_limit_where_nothing_else_is(lab: Lab, version: int, mtu: int) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, mtu=mtu)
    result = red.path_mtu(address_of(blue, version))
    assert result
    assert (result.mtu, result.limited_by, result.black_hole) == (mtu, None, False)
    assert repr(result).endswith(f": {mtu}>")


@versions
def test_a_router_that_says_so_is_named(narrow: tuple[Host, Host, Host], version: int) -> None:
    red, router, blue = narrow
    near = address_of(router.interfaces["eth0"], version)
    result = red.path_mtu(address_of(blue, version))
    assert (result.mtu, result.limited_by, result.black_hole) == (1400, near, False)
    assert repr(result).endswith(f": 1400, limited by {near}>")


@versions
def test_asked_again_the_kernel_remembers_and_the_size_is_the_same(
    narrow: tuple[Host, Host, Host], version: int
) -> None:
    red, _, blue = narrow
    address = address_of(blue, version)
    assert [red.path_mtu(address).mtu for _ in range(3)] == [1400] * 3


@versions
def test_the_smallest_of_two_limits_is_found(lab: Lab, version: int) -> None:
    nodes = [lab.host("red"), lab.router("r1"), lab.router("r2"), lab.host("blue")]
    for left, right, mtu in zip(nodes, nodes[1:], (1500, 1450, 1350), strict=False):
        lab.connect(left, right, mtu=mtu)
    lab.autoroute()
    result = nodes[0].path_mtu(address_of(nodes[-1], version))
    assert (result.mtu, result.limited_by) == (1350, address_of(nodes[2].interfaces["eth0"], version))


@versions
@pytest.mark.netns_requires("nft")
def test_a_black_hole_is_found_by_trying(narrow: tuple[Host, Host, Host], version: int) -> None:
    red, router, blue = narrow
    router.nft(f"table inet hole {{ chain c {{ type filter hook output priority 0; {_DROPPED[version]}; }}; }}")
    result = red.path_mtu(address_of(blue, version), timeout=patient(0.1))
    assert result
    assert (result.mtu, result.limited_by, result.black_hole) == (1400, None, True)
    assert repr(result).endswith(": 1400, larger packets vanish without an error>")


@versions
def test_nobody_there_has_no_path_mtu(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    result = left.path_mtu(address_of(right, version) + 50, timeout=0.01)
    assert not result
    assert (result.mtu, result.limited_by, result.black_hole) == (None, None, False)
    assert repr(result).endswith(": no answer>")


@versions
def test_without_a_route_there_is_no_path_mtu(veth_pair: tuple[Host, Host], version: int) -> None:
    result = veth_pair[0].path_mtu({4: "198.51.100.1", 6: "2001:db8::1"}[version])
    assert not result
    assert result.mtu is None


@pytest.mark.netns_requires("nft")
def test_a_router_that_refuses_for_another_reason_ends_it(narrow: tuple[Host, Host, Host]) -> None:
    red, router, blue = narrow
    router.nft("table ip wall { chain c { type filter hook forward priority 0; reject; }; }")
    assert red.path_mtu(blue.ip4, timeout=20).mtu is None


def test_the_own_loopback_is_wide(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    assert left.path_mtu("127.0.0.1")


def test_a_timeout_out_of_range_is_a_value_error(veth_pair: tuple[Host, Host]) -> None:
    with pytest.raises(ValueError, match="timeout is -1; it can be 0 to 3600"):
        veth_pair[0].path_mtu(veth_pair[1], timeout=-1)
