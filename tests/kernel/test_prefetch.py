from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_netns import Namespace, eventually
from pytest_netns.kernel.netns import prefetch as module
from pytest_netns.kernel.netns.prefetch import NamespacePrefetcher
from pytest_netns.kernel.syscalls import THREAD_NETNS


@pytest.fixture
def prefetcher() -> Iterator[NamespacePrefetcher]:
    prefetcher = NamespacePrefetcher()
    yield prefetcher
    prefetcher.close()


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


def test_what_was_ordered_is_taken_once(prefetcher: NamespacePrefetcher) -> None:
    home = here()
    prefetcher.prefetch()
    prefetcher.prefetch()  # one at most is in store
    fd = prefetcher.acquire()
    try:
        assert os.fstat(fd).st_ino != home
        assert not prefetcher.holds(os.fstat(fd).st_ino)
        assert here() == home
        assert prefetcher.acquire() == -1
    finally:
        os.close(fd)


def test_nothing_is_there_unasked(prefetcher: NamespacePrefetcher) -> None:
    assert prefetcher.acquire() == -1


def test_what_nobody_takes_is_let_go(prefetcher: NamespacePrefetcher) -> None:
    before = held()
    prefetcher.prefetch()
    store = eventually(lambda: {inode for inode in held() - before if prefetcher.holds(inode)})
    prefetcher.close()
    assert not store & held()
    prefetcher.prefetch()
    fd = prefetcher.acquire()
    assert fd >= 0
    os.close(fd)


def test_a_refusal_is_raised_by_who_takes(prefetcher: NamespacePrefetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "unshare", refuse)
    prefetcher.prefetch()
    with pytest.raises(PermissionError):
        prefetcher.acquire()
    monkeypatch.undo()
    prefetcher.prefetch()
    os.close(prefetcher.acquire())


def test_a_forked_child_has_none(prefetcher: NamespacePrefetcher) -> None:
    prefetcher.prefetch()
    prefetcher._owner += 1  # as a child sees it
    assert prefetcher.acquire() == -1
    prefetcher._owner -= 1


def test_a_namespace_that_was_born_ahead_is_like_others() -> None:
    module.prefetcher.close()
    module.prefetcher.prefetch()
    (inode,) = eventually(lambda: {inode for inode in held() if module.prefetcher.holds(inode)})
    ahead, usual = Namespace("ahead", prefetched=True), Namespace("usual")
    try:
        assert ahead.inode == inode
        assert [i.is_up for i in ahead.interfaces.values()] == [True]
        for name in ("net.ipv6.conf.default.accept_dad", "net.ipv4.conf.default.rp_filter"):
            assert ahead.sysctl[name] == usual.sysctl[name]
    finally:
        ahead.close()
        usual.close()
