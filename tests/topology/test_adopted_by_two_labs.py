from __future__ import annotations

import errno

import pytest

from pytest_netns import KernelError, Lab, Namespace
from pytest_netns.topology.interface_allocator import InterfaceAllocator


def test_two_labs_that_adopt_one_namespace_do_not_take_each_others_indexes_and_names(netns: Namespace) -> None:
    with Lab("one") as one, Lab("two") as two:
        first, second = one.adopt(netns, "first"), two.adopt(netns, "second")
        red, blue, pink = one.host("red"), two.host("blue"), one.host("pink")
        cables = [
            one.connect(first, red, "192.0.2.0/24"),
            two.connect(second, blue, "198.51.100.0/24"),
            one.connect(first, pink, "203.0.113.0/24"),
        ]
        names = [cable.a.name for cable in cables]
        assert names == ["eth0", "eth1", "eth2"]
        assert len({cable.a.index for cable in cables}) == 3
        assert set(names) <= set(netns.interfaces)
        assert red.ping(cables[0].a.ip4)
        assert blue.ping(cables[1].a.ip4)
        assert pink.ping(cables[2].a.ip4)


@pytest.mark.netns
def test_the_test_is_a_node_of_two_labs_at_once() -> None:
    with Lab("one") as one, Lab("two") as two:
        red, blue = one.host("red"), two.host("blue")
        one.connect(one.here("me"), red, "192.0.2.0/24", names=("x0", "x0"))
        two.connect(two.here("me"), blue, "198.51.100.0/24", names=("x1", "x1"))
        assert red.ping("192.0.2.1")
        assert blue.ping("198.51.100.1")


def test_a_refused_connection_leaves_what_others_made_as_it_is(netns: Namespace) -> None:
    with Lab("one") as one, Lab("two") as two:
        first, second = one.adopt(netns, "first"), two.adopt(netns, "second")
        red, blue = one.host("red"), two.host("blue")
        cable = one.connect(first, red, names=("x0", "x0"))
        before = cable.a.addresses
        with pytest.raises(KernelError) as caught:
            two.connect(second, blue, names=("x0", "x0"))
        assert caught.value.errno == errno.EEXIST
        # As when somebody takes the index in the moment between: it is not known to be taken.
        second.allocator = InterfaceAllocator()
        second.allocator.present = dict
        with pytest.raises(KernelError) as caught:
            two.connect(second, blue, "198.51.100.0/24", names=("x1", "x1"))
        assert caught.value.errno == errno.EEXIST
        assert set(netns.interfaces) == {"lo", "x0"}
        assert cable.a.addresses == before
        assert red.ping(cable.a.ip4)
