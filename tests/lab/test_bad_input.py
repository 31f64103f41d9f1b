"""Every mistake gets an error that says what is wrong, and leaves the lab as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from pytest_netns import Bridge, CommandError, Host, KernelError, Lab, Link, NetnsError, TopologyError


class Town:
    """A lab with something in it to make mistakes with."""

    def __init__(self) -> None:
        self.lab = Lab("town")
        self.red: Host = self.lab.host("red")
        self.blue: Host = self.lab.host("blue")
        self.lone: Host = self.lab.host("lone")
        self.link: Link = self.lab.connect(self.red, self.blue, "10.7.0.0/24")
        self.bridge: Bridge = self.lab.bridge("br0", "10.8.0.0/24")
        self.bare: Bridge = self.lab.bridge("bare", subnet=False)
        self.full: Bridge = self.lab.bridge("full", "10.9.0.0/31")
        self.full.host("full-1")
        self.full.host("full-2")
        self.green: Host = self.bridge.host("green")
        self.other = Lab("other")
        self.foreign: Host = self.other.host("foreign")
        self.foreign_bridge: Bridge = self.other.bridge("foreign-bridge")
        self.ghost: Host = self.lab.host("ghost")
        self.ghost.close()

    def picture(self) -> dict[str, object]:
        """All that a failed call could have changed."""
        found: dict[str, object] = {"links": [repr(link) for link in self.lab.links]}
        for node in self.lab:
            if not node.closed:
                found[node.name] = (
                    list(node.interfaces),
                    node.addresses(),
                    node.routes(),
                    [i.state.master for i in node.interfaces.values()],
                )
        return found


@pytest.fixture
def town(lab_factory: object) -> Iterator[Town]:
    made = Town()
    yield made
    made.other.close()
    made.lab.close()


MISTAKES: list[tuple[str, Callable[[Town], object]]] = [
    # names
    (r"already has a node 'red'", lambda t: t.lab.host("red")),
    (r"already has a node 'red'", lambda t: t.lab.bridge("red")),
    (r"already has a node 'br0'", lambda t: t.lab.host("br0")),
    (r"already has a node 'red'", lambda t: t.bridge.host("red")),
    (r"this one is empty", lambda t: t.lab.host("")),
    (r"this one is empty", lambda t: t.lab.bridge("")),
    (r"has 300 characters; at most 63", lambda t: t.lab.host("x" * 300)),
    (r"'two words' cannot be a node's name", lambda t: t.lab.host("two words")),
    (r"'a/b' cannot be a node's name", lambda t: t.lab.bridge("a/b")),
    (r"not NoneType", lambda t: t.lab.host(None)),  # type: ignore[arg-type]
    (
        r"'x{16}' cannot be an interface's name",
        lambda t: t.lab.connect(t.red, t.lone, names=("ok", "x" * 16)),
    ),
    (r"'' cannot be an interface's name", lambda t: t.lab.connect(t.red, t.lone, names=("", "ok"))),
    (r"must be two", lambda t: t.lab.connect(t.red, t.lone, names=("one",))),  # type: ignore[arg-type]
    (r"must be two", lambda t: t.lab.connect(t.red, t.lone, names="ab")),  # type: ignore[arg-type]
    # subnets
    (r"10.1.0.0/32 is too small: it has room for 1", lambda t: t.lab.connect(t.red, t.lone, "10.1.0.0/32")),
    (r"too small", lambda t: t.lab.bridge("new", "10.1.0.0/32")),
    (r"overlaps 10.7.0.0/24 of link red--blue", lambda t: t.lab.connect(t.red, t.lone, "10.7.0.0/24")),
    (r"overlaps 10.7.0.0/24 of link red--blue", lambda t: t.lab.connect(t.red, t.lone, "10.7.0.128/25")),
    (r"overlaps 10.8.0.0/24 of bridge 'br0'", lambda t: t.lab.bridge("new", "10.8.0.0/16")),
    (r"is not a subnet such as", lambda t: t.lab.connect(t.red, t.lone, "nonsense")),
    (r"host bits", lambda t: t.lab.connect(t.red, t.lone, "10.1.0.1/24")),
    (r"it is a int", lambda t: t.lab.connect(t.red, t.lone, 5)),  # type: ignore[arg-type]
    (r"subnet 10.1.0.0/24 is not one of bridge 'br0'", lambda t: t.lab.connect(t.lone, t.bridge, "10.1.0.0/24")),
    (r"subnet 5 is not one of bridge", lambda t: t.lab.connect(t.lone, t.bridge, 5)),  # type: ignore[arg-type]
    (r"no free address for 'late'", lambda t: t.full.host("late")),
    (r"no free address for 'late'", lambda t: t.lab.host("late", t.bridge, t.full)),
    (r"no free address for 'lone'", lambda t: t.lab.connect(t.lone, t.full)),
    (r"has no subnet", lambda t: t.bare.subnet),
    # addresses
    (r"10.1.2.3 for 'new' is not in its subnet", lambda t: t.bridge.host("new", "10.1.2.3")),
    (r"taken by 'green'", lambda t: t.bridge.host("new", t.green.ip4)),
    (r"taken by 'green'", lambda t: t.bridge.attach(t.lone, "10.8.0.1")),
    (r"the broadcast address", lambda t: t.bridge.host("new", "10.8.0.255")),
    (r"the network address", lambda t: t.bridge.add_address("10.8.0.0/24")),
    (r"another prefix length", lambda t: t.bridge.add_address("10.8.0.7/16")),
    (r"taken by 'green'", lambda t: t.bridge.add_address("10.8.0.1/24")),
    (r"is not an IP address", lambda t: t.bridge.host("new", "nonsense")),
    (r"needs a bridge whose subnet", lambda t: t.lab.host("new", address="10.1.0.1")),
    (r"not in its subnet \(none\)", lambda t: t.bare.host("new", "10.1.0.1")),
    (r"lacks its prefix length", lambda t: t.lab.connect(t.red, t.lone, addresses=("10.1.0.1", "10.1.0.2"))),
    (r"must be two", lambda t: t.lab.connect(t.red, t.lone, addresses=("10.1.0.1/24",))),  # type: ignore[arg-type]
    (r"the same address", lambda t: t.lab.connect(t.red, t.lone, addresses=("10.1.0.1/24", "10.1.0.1/24"))),
    (
        r"overlaps 10.7.0.0/24",
        lambda t: t.lab.connect(t.red, t.lone, addresses=("10.7.0.8/24", "10.7.0.9/24")),
    ),
    (
        r"taken by 'red'",
        lambda t: t.lab.connect(t.red, t.lone, "10.1.0.0/24", addresses=("10.1.0.9", "10.1.0.9")),
    ),
    (
        r"not in its subnet",
        lambda t: t.lab.connect(t.red, t.lone, "10.1.0.0/24", addresses=("10.1.0.9", "10.2.0.9")),
    ),
    (
        r"a bridge's port takes no address",
        lambda t: t.lab.connect(t.lone, t.bridge, addresses=("10.8.0.8", "10.8.0.9")),
    ),
    (r"lacks its prefix", lambda t: t.red.add_address("10.1.0.1")),
    (r"not an address with a prefix", lambda t: t.red.add_address("nonsense")),
    (r"5 is not an address with a prefix .*it is int", lambda t: t.red.add_address(5)),  # type: ignore[arg-type]
    (r"5 is not an address with a prefix .*it is int", lambda t: t.red.add_bridge("b", address=5)),  # type: ignore[arg-type]
    (r"lacks its prefix", lambda t: t.red.add_address(ip_address("10.1.0.1"))),  # type: ignore[arg-type]
    (r"no interface 'eth9'; it has: lo, eth0", lambda t: t.red.add_address("10.1.0.1/24", "eth9")),
    (r"is not an interface of 'red'", lambda t: t.red.add_address("10.1.0.1/24", t.link.b)),
    (r"has no interface yet", lambda t: t.lone.add_address("10.1.0.1/24")),
    # what is connected to what
    (r"mac='02:00:00:00:00:01' must be two", lambda t: t.lab.connect(t.red, t.lone, mac="02:00:00:00:00:01")),
    (r": mac is 'x'; expected one such", lambda t: t.lab.connect(t.red, t.lone, mac=("x", None))),
    (r"that of a group", lambda t: t.lab.connect(t.red, t.lone, mac=(None, "01:00:5e:00:00:01"))),
    (r": index is 1; it can be 2 to 2147483647", lambda t: t.lab.connect(t.red, t.lone, index=(1, None))),
    (r"index=7 must be two", lambda t: t.lab.connect(t.red, t.lone, index=7)),
    (r"index is True", lambda t: t.bridge.host("fresh", index=True)),
    (r"no bridge was given", lambda t: t.lab.host("fresh", mac="02:00:00:00:00:01")),
    (r"cannot connect 'br0' to itself", lambda t: t.lab.connect(t.bridge, t.bridge)),
    (r"cannot attach 'br0' to itself", lambda t: t.bridge.attach(t.bridge)),
    (r"a trunk between bridges takes no subnet", lambda t: t.lab.connect(t.bridge, t.bare, "10.1.0.0/24")),
    (r"a trunk takes no address", lambda t: t.bridge.attach(t.bare, "10.8.0.9")),
    (r"is not attached to bridge 'br0'; attached: green", lambda t: t.bridge.detach(t.lone)),
    (r"can be attached to bridges, and .*'red'.* is none", lambda t: t.lab.host("new", t.red)),  # type: ignore[arg-type]
    (r"'blue': it is no host, router or bridge; did you mean lab\['blue'\]\?", lambda t: t.lab.connect(t.red, "blue")),  # type: ignore[arg-type]
    (r"is no host, router or bridge", lambda t: t.lab.connect(None, t.blue)),  # type: ignore[arg-type]
    (r"has no end in 'lone'", lambda t: t.link.end(t.lone)),
    # foreign and closed objects
    (r"'foreign': it is a node of another lab", lambda t: t.lab.connect(t.red, t.foreign)),
    (r"'foreign': it is a node of another lab", lambda t: t.bridge.attach(t.foreign)),
    (r"'foreign': it is a node of another lab", lambda t: t.bridge.detach(t.foreign)),
    (r"it is a node of another lab", lambda t: t.lab.host("new", t.foreign_bridge)),
    (r"it is a node of another lab", lambda t: t.lab.bridge("new", t.foreign_bridge)),
    (r"'ghost': it is closed", lambda t: t.lab.connect(t.red, t.ghost)),
    (r"'ghost': it is closed", lambda t: t.bridge.attach(t.ghost)),
    # numbers
    (r"mtu is 'big'", lambda t: t.lab.connect(t.red, t.lone, mtu="big")),  # type: ignore[arg-type]
    (r"mtu is -1", lambda t: t.lab.connect(t.red, t.lone, mtu=-1)),
    # destinations
    (r"'blue' is not an address; .*lab\['blue'\]", lambda t: t.red.ping("blue")),
    (r"not int 7", lambda t: t.red.ping(7)),  # type: ignore[arg-type]
    (r"'lone' has no address to reach it by", lambda t: t.red.tcp(t.lone, 80)),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[f"{i}-{words}" for i, (words, _) in enumerate(MISTAKES)])
def test_a_mistake_is_a_topology_error_and_leaves_the_lab_usable(
    town: Town, words: str, mistake: Callable[[Town], object]
) -> None:
    before = town.picture()
    with pytest.raises(TopologyError, match=words):
        mistake(town)
    assert town.picture() == before
    # Names, addresses, subnets and interface numbers go on as if nothing had been.
    new = town.lab.host("new", town.bridge)
    late = town.bridge.host("late")
    assert [str(host.ip4) for host in (new, late)] == ["10.8.0.2", "10.8.0.3"]
    assert list(new.interfaces) == ["lo", "eth0"]
    link = town.lab.connect(new, town.lone, "10.1.0.0/24")
    assert [str(a) for a in link.b.addresses[:2]] == ["10.1.0.2/24", "fd00:0:0:3::2/64"]
    assert new.ping(late)
    assert town.lone.ping(new)
    assert town.red.ping(town.blue)


def test_topology_errors_are_value_errors_and_netns_errors() -> None:
    assert issubclass(TopologyError, ValueError)
    assert issubclass(TopologyError, NetnsError)


def test_an_unknown_node_is_a_key_error_that_lists_the_known(lab: Lab) -> None:
    with pytest.raises(KeyError, match="has no node 'red'; it has: none yet"):
        lab["red"]
    lab.host("blue")
    lab.bridge("br0")
    with pytest.raises(KeyError, match="has no node 'red'; it has: blue, br0"):
        lab["red"]
    assert lab["blue"].name == "blue"


def test_a_missing_program_is_named_with_its_namespace(lab: Lab) -> None:
    red = lab.host("red")
    for start in (red.run, red.spawn):
        with pytest.raises(CommandError, match="cannot run 'no-such-program' in namespace 'red': no such program"):
            start(["no-such-program"])
    assert red.run(["echo", "fine"]).stdout == "fine\n"


@pytest.mark.parametrize("version", [4, 6])
def test_an_exhausted_pool_leaves_the_lab_usable(lab_factory: Callable[..., Lab], version: int) -> None:
    pools = {"ipv4": "10.0.0.0/23", "ipv6": None} if version == 4 else {"ipv4": None, "ipv6": "fd00::/63"}
    with Lab("small", **pools) as lab:
        hub, *hosts = (lab.host(name) for name in ("hub", "a", "b", "c"))
        links = [lab.connect(hub, host) for host in hosts[:2]]
        for _ in range(2):
            with pytest.raises(TopologyError, match=rf"the IPv{version} pool .* exhausted at link hub--c \(2 subnets"):
                lab.connect(hub, hosts[2])
        assert list(hosts[2].interfaces) == ["lo"]
        assert hub.ping(hosts[1])
        links[0].remove()
        assert lab.connect(hub, hosts[2]).a.name == "eth2"
        assert hub.ping(hosts[2])


def test_a_pool_without_room_for_two_says_so_every_time(lab_factory: Callable[..., Lab]) -> None:
    with Lab(ipv4="10.0.0.0/32", ipv6=None) as lab:
        red, blue = lab.host("red"), lab.host("blue")
        for _ in range(2):
            with pytest.raises(TopologyError, match=r"subnet 10.0.0.0/32 has no free address for 'blue'"):
                lab.connect(red, blue)


@pytest.mark.parametrize("mtu", [10, 100_000])
def test_an_mtu_that_the_kernel_refuses_leaves_nothing_behind(town: Town, mtu: int) -> None:
    before = town.picture()
    with pytest.raises(KernelError, match=re.escape("ip link add")):
        town.lab.connect(town.red, town.lone, mtu=mtu)
    assert town.picture() == before
    assert str(town.lab.connect(town.red, town.lone).a.name) == "eth1"


def test_a_half_made_link_is_removed_again(town: Town) -> None:
    before = town.picture()
    with pytest.raises(KernelError, match=r"ip address add fd00.* in namespace 'red'"):
        town.lab.connect(town.red, town.lone, mtu=600)  # the kernel makes it, and refuses IPv6 below 1280
    assert town.picture() == before
    assert town.red.ping(town.lab.connect(town.red, town.lone).b)


def test_an_interface_name_that_is_in_use_leaves_the_other_one_alone(town: Town) -> None:
    before = town.picture()
    with pytest.raises(KernelError, match=r"ip link add eth0 .*'red'.*File exists"):
        town.lab.connect(town.red, town.lone, names=("eth0", "eth0"))
    assert town.picture() == before
    assert town.red.ping(town.blue)


def test_nothing_can_be_added_to_a_closed_lab(town: Town) -> None:
    town.lab.close()
    for mistake in (
        lambda: town.lab.host("new"),
        lambda: town.lab.bridge("new"),
        lambda: town.lab.connect(town.red, town.lone),
        lambda: town.bridge.host("new"),
        lambda: town.bridge.attach(town.lone),
        lambda: town.bridge.detach(town.green),
    ):
        with pytest.raises(TopologyError, match="lab 'town' is closed"):
            mistake()
    for use in (
        lambda: town.red.ping(town.blue),
        town.link.down,
        town.link.remove,
        lambda: town.red.run(["true"]),
        lambda: town.link.a.mac,
    ):
        with pytest.raises(NetnsError, match="closed"):
            use()


def test_a_removed_link_says_so(town: Town) -> None:
    town.link.remove()
    for use in (town.link.up, town.link.down, town.link.remove, lambda: town.link.is_up):
        with pytest.raises(TopologyError, match="removed"):
            use()
    with pytest.raises(TopologyError, match="interface 'eth0' of 'red' was removed"):
        town.link.a.mac  # noqa: B018
    assert town.red.ping(town.lab.connect(town.red, town.blue, "10.7.0.0/24").b)
