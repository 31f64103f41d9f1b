from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from pytest_netns import Namespace, NetnsError
from pytest_netns.kernel.high_descriptors import lift
from pytest_netns.kernel.netns.lost import return_without, shows
from pytest_netns.kernel.syscalls import THREAD_NETNS, open_namespace


@pytest.fixture
def limit() -> Iterator[None]:
    """May be lowered."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("soft", "floor"), [(1024, 768), (256, 192)])
def test_a_lifted_descriptor_is_the_same_file_far_above(soft: int, floor: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    low = os.open("/proc/self/status", os.O_RDONLY)
    inode = os.fstat(low).st_ino
    high = lift(low)
    try:
        assert floor <= high < soft
        assert shows(high, inode)
        assert not os.get_inheritable(high)
        assert not shows(low, inode)
    finally:
        os.close(high)


@pytest.mark.usefixtures("limit")
def test_where_there_is_no_room_above_it_stays_where_it_is() -> None:
    low = os.open("/proc/self/status", os.O_RDONLY)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        assert lift(low) == low
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.close(low)


def test_a_namespace_whose_descriptor_somebody_else_closed_says_so_and_closes_nothing_else() -> None:
    box = Namespace("box")
    fd = box.fd
    os.close(fd)
    other = os.dup2(0, fd)  # somebody else's by now
    try:
        with pytest.raises(NetnsError, match=f"descriptor {fd}, which holds a network namespace, was closed by some"):
            box.__enter__()
        with pytest.raises(ExceptionGroup) as caught:
            box.close()
        (error,) = caught.value.exceptions
        assert f"descriptor {fd}, which held network namespace net:[{box.inode}], was closed by somebody" in str(error)
        os.fstat(other)
    finally:
        os.close(other)


def test_the_netlink_socket_that_somebody_else_closed_is_told() -> None:
    box = Namespace("box")
    os.close(box.rtnl._socket.fileno())
    with pytest.raises(ExceptionGroup) as caught:
        box.close()
    assert ", of the netlink socket of namespace 'box', was closed by somebody else" in str(caught.value.exceptions)


def test_a_thread_comes_home_though_somebody_else_closed_its_way_back(netns: Namespace) -> None:
    from pytest_netns.stack.current import _inside

    home = os.stat(THREAD_NETNS).st_ino
    spare = open_namespace()
    try:
        with (
            pytest.raises(NetnsError, match="the way back out of namespace 'netns', was closed by somebody else"),
            netns,
        ):
            os.close(_inside.stack[-1].previous)
        assert os.stat(THREAD_NETNS).st_ino == home
    finally:
        os.close(spare)


def test_there_may_be_no_way_back() -> None:
    assert not return_without(1)
