from __future__ import annotations

import errno
import json
from ipaddress import ip_interface

import pytest
from slowness import patient

from pytest_netns import Bridge, Host, Interface, KernelError, Lab, Namespace, TopologyError, WaitTimeout
from pytest_netns.addresses import is_of_link
from pytest_netns.kernel.netlink.tables import is_link_local


@pytest.mark.netns_requires("program:ip")
def test_what_it_shows_is_what_ip_shows(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    eth0 = left.interfaces["eth0"]
    (told,) = json.loads(left.run(["ip", "-j", "address", "show", "eth0"]).stdout)
    assert (eth0.name, eth0.index, eth0.mac, eth0.mtu) == ("eth0", told["ifindex"], told["address"], told["mtu"])
    addresses = [f"{a['local']}/{a['prefixlen']}" for a in told["addr_info"]]
    assert sorted(map(str, eth0.addresses)) == sorted(addresses)
    assert eth0.is_up


def test_addresses_are_ordered_and_the_first_of_each_family_is_at_hand(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    eth0 = left.interfaces["eth0"]
    first4, first6 = eth0.ip4, eth0.ip6
    eth0.add_address("10.200.0.1/24")
    eth0.add_address("fd99::1/64")
    kinds = [(a.is_link_local, a.version) for a in eth0.addresses]
    assert kinds == [(False, 4), (False, 4), (False, 6), (False, 6), (True, 6)]
    assert (eth0.ip4, eth0.ip6) == (first4, first6) == (left.ip4, left.ip6)


def test_without_addresses_there_is_none(lab: Lab) -> None:
    link = lab.connect(lab.host("red"), lab.host("blue"), subnet=False)
    assert link.a.ip4 is None
    assert link.a.ip6 is not None
    assert link.a.ip6.is_link_local
    link.a.remove_address(link.a.addresses[0])
    assert link.a.ip6 is None


def test_an_added_address_is_reached_at_once(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    for number in range(20):
        left.add_address(f"fd99:{number}::1/64")
        right.add_address(f"fd99:{number}::2/64")
        assert left.ping(f"fd99:{number}::2", timeout=patient(0.3, at_most=0.9))
    left.add_address("10.200.0.1/24")
    right.add_address("10.200.0.2/24", "eth0")
    assert left.ping("10.200.0.2", timeout=patient(0.3, at_most=0.9))


def test_an_address_can_be_removed_and_added_again(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    eth0 = right.interfaces["eth0"]
    for address in eth0.addresses[:2]:
        eth0.remove_address(address)
        assert address not in eth0.addresses
        assert not left.ping(address, timeout=0.1)
        eth0.add_address(str(address))
        assert left.ping(address)


def test_an_address_that_is_there_already_is_refused_by_the_kernel(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    with pytest.raises(KernelError, match=rf"ip address add {left.ip4}/24 dev eth0.* 'left'") as caught:
        left.add_address(f"{left.ip4}/24")
    assert caught.value.errno == errno.EEXIST


def test_down_stops_both_ends_and_up_brings_them_back(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    near, far = left.interfaces["eth0"], right.interfaces["eth0"]
    near.down()
    assert not near.is_up
    assert not far.is_up
    assert not left.ping(right.ip4, timeout=0.1)
    near.up()
    near.wait_up()
    far.wait_up()
    assert near.is_up
    assert left.ping(right, timeout=patient(0.3, at_most=0.9))


def test_waiting_for_a_carrier_that_does_not_come_says_what_was_seen(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.interfaces["eth0"].down()
    with pytest.raises(WaitTimeout, match=r"'eth0' of 'left': waited 0.01 s until it is UP; it is \w+; is the other"):
        left.interfaces["eth0"].wait_up(timeout=0.01)


@pytest.mark.netns_requires("program:ip")
def test_the_mtu_can_be_set_and_what_the_kernel_refuses_is_an_error(veth_pair: tuple[Host, Host]) -> None:
    left, _ = veth_pair
    eth0 = left.interfaces["eth0"]
    eth0.mtu = 1400
    assert eth0.mtu == 1400
    assert "mtu 1400" in left.run(["ip", "link", "show", "eth0"]).stdout
    with pytest.raises(KernelError, match=r"ip link set eth0 mtu 20.*'left'"):
        eth0.mtu = 20
    assert eth0.mtu == 1400


def test_two_are_equal_if_they_are_the_same_device(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    one, same, other = left.interfaces["eth0"], left.interface("eth0"), right.interfaces["eth0"]
    assert one == same
    assert len({one, same, other}) == 2
    assert one != other
    assert one != "eth0"


def test_they_are_called_by_node_and_name(veth_pair: tuple[Host, Host]) -> None:
    eth0 = veth_pair[0].interfaces["eth0"]
    assert str(eth0) == "left:eth0"
    assert repr(eth0) == "<Interface 'eth0' of 'left'>"


@pytest.mark.netns_requires("program:ip")
def test_a_removed_one_says_so(lab: Lab) -> None:
    red = lab.host("red")
    eth0 = lab.connect(red, lab.host("blue")).a
    red.run(["ip", "link", "delete", "eth0"])
    with pytest.raises(TopologyError, match="interface 'eth0' of 'red' was removed"):
        _ = eth0.mac
    assert eth0.addresses == []


@pytest.mark.netns_requires("program:ip")
def test_a_renamed_one_is_found_under_its_new_name(netns: Namespace) -> None:
    netns.run(["ip", "link", "add", "before", "type", "bridge"])
    index = netns.interfaces["before"].index
    netns.run(["ip", "link", "set", "before", "name", "after"])
    assert netns.interfaces["after"] == Interface(netns, "before", index)


@pytest.mark.netns_requires("program:ip")
def test_devices_that_kernel_modules_bring_are_found_and_not_listed(netns: Namespace) -> None:
    if "sit0" not in netns.interfaces:
        netns.run(["ip", "link", "add", "sit0", "type", "bridge"])
    assert list(netns.interfaces) == ["lo"]
    assert len(netns.interfaces) == 1
    assert netns.interfaces["sit0"].name == "sit0"


def test_a_port_shows_its_bridge_and_that_it_forwards(bridge: Bridge) -> None:
    bridge.host("red")
    state = bridge.interfaces["red"].state
    assert (state.master, state.port_state, state.kind) == (bridge.device.index, "forwarding", "veth")
    assert bridge.device.state.kind == "bridge"


@pytest.mark.parametrize(
    "text",
    [
        "169.254.0.1/16",
        "169.255.0.1/16",
        "10.0.0.1/24",
        "fe80::1/64",
        "febf::1/64",
        "fec0::1/64",
        "fd00::1/64",
        "::1/128",
    ],
)
def test_addresses_of_a_link_are_told_the_fast_way_as_the_slow_one_does(text: str) -> None:
    address = ip_interface(text)
    assert is_link_local(address) is is_of_link(address)


@pytest.mark.kernel
@pytest.mark.netns_requires("gre", "sit")
@pytest.mark.netns_requires("program:ip")
def test_devices_that_kernel_modules_put_everywhere_are_left_out_unless_named(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    listed = {row.split(":")[1].strip().partition("@")[0] for row in left.run(["ip", "-o", "link"]).stdout.splitlines()}
    if not {"gre0", "sit0"} <= listed:
        pytest.skip(f"net.core.fb_tunnels_only_for_init_net keeps them out here: {sorted(listed)}")
    assert list(left.interfaces) == ["lo", "eth0"]
    assert not left.interfaces["gre0"].is_up
    assert left.ping(right)
