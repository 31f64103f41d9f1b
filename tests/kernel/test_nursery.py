from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_netns import Namespace, eventually
from pytest_netns.kernel.netns import prefetch as module
from pytest_netns.kernel.netns.prefetch import Nursery
from pytest_netns.kernel.syscalls import THREAD_NETNS


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def here() -> int:
    return os.stat(THREAD_NETNS).st_ino


def held() -> set[int]:
    """The namespaces of which this process has descriptors."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            shown = os.readlink(f"/proc/self/fd/{name}")
            found |= {int(shown[5:-1])} if shown.startswith("net:[") else set()
        except FileNotFoundError:
            pass  # the one by which the folder was read
    return found


def test_what_was_ordered_is_taken_once(nursery: Nursery) -> None:
    home = here()
    nursery.order()
    nursery.order()  # one at most is in store
    fd = nursery.take()
    try:
        assert os.fstat(fd).st_ino != home
        assert not nursery.holds(os.fstat(fd).st_ino)
        assert here() == home
        assert nursery.take() == -1
    finally:
        os.close(fd)


def test_nothing_is_there_unasked(nursery: Nursery) -> None:
    assert nursery.take() == -1


def test_what_nobody_takes_is_let_go(nursery: Nursery) -> None:
    before = held()
    nursery.order()
    store = eventually(lambda: {inode for inode in held() - before if nursery.holds(inode)})
    nursery.close()
    assert not store & held()
    nursery.order()
    fd = nursery.take()
    assert fd >= 0
    os.close(fd)


def test_a_refusal_is_raised_by_who_takes(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "unshare", refuse)
    nursery.order()
    with pytest.raises(PermissionError):
        nursery.take()
    monkeypatch.undo()
    nursery.order()
    os.close(nursery.take())


def test_a_forked_child_has_none(nursery: Nursery) -> None:
    nursery.order()
    nursery._owner += 1  # as a child sees it
    assert nursery.take() == -1
    nursery._owner -= 1


def test_a_namespace_that_was_born_ahead_is_like_others() -> None:
    module.nursery.close()
    module.nursery.order()
    (inode,) = eventually(lambda: {inode for inode in held() if module.nursery.holds(inode)})
    ahead, usual = Namespace("ahead", ahead=True), Namespace("usual")
    try:
        assert ahead.inode == inode
        assert [i.is_up for i in ahead.interfaces.values()] == [True]
        for name in ("net.ipv6.conf.default.accept_dad", "net.ipv4.conf.default.rp_filter"):
            assert ahead.sysctl[name] == usual.sysctl[name]
    finally:
        ahead.close()
        usual.close()
