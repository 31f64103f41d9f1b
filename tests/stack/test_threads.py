from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pytest_netns import Namespace

THREADS = 4
ROUNDS = 50


@pytest.fixture
def spaces(netns_factory: object) -> Iterator[list[Namespace]]:
    with ExitStack() as stack:
        made = [Namespace(f"space-{number}") for number in range(THREADS)]
        for ns in made:
            stack.callback(ns.close)
        yield made


def inode_here() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def together(work: Callable[[int, threading.Barrier], None]) -> None:
    """Run ``work`` in several threads; they meet at the barrier. Raises what any of them raised."""
    barrier = threading.Barrier(THREADS, timeout=60)
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number, barrier)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in failures:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error


def test_threads_in_namespaces_at_once_never_see_each_others(spaces: list[Namespace]) -> None:
    home = inode_here()

    def work(number: int, barrier: threading.Barrier) -> None:
        for turn in range(ROUNDS):
            ns = spaces[(number + turn) % THREADS]
            barrier.wait()
            with ns:
                barrier.wait()  # now all four are inside
                assert inode_here() == ns.inode
                with socket.create_server(("127.0.0.1", 8080)):  # each has the port to itself
                    barrier.wait()
                assert inode_here() == ns.inode
            assert inode_here() == home

    together(work)
    assert inode_here() == home


def test_threads_can_be_in_the_same_namespace_at_once(spaces: list[Namespace]) -> None:
    home = inode_here()

    def work(number: int, barrier: threading.Barrier) -> None:
        for _ in range(ROUNDS):
            with spaces[0], spaces[1 + number % 2], spaces[0]:
                barrier.wait()
                assert inode_here() == spaces[0].inode
            assert inode_here() == home

    together(work)


def test_calls_and_commands_from_threads_are_each_in_their_own(spaces: list[Namespace]) -> None:
    def work(number: int, barrier: threading.Barrier) -> None:
        ns = spaces[number]
        barrier.wait()
        for _ in range(10):
            assert ns.call(inode_here) == ns.inode
            assert ns.run(["readlink", "/proc/self/ns/net"]).stdout == f"net:[{ns.inode}]\n"
            assert ns.socket().getsockname() == ("0.0.0.0", 0)

    together(work)


def test_a_thread_inside_one_namespace_can_use_another_from_there(spaces: list[Namespace]) -> None:
    def work(number: int, barrier: threading.Barrier) -> None:
        mine, other = spaces[number], spaces[(number + 1) % THREADS]
        with mine:
            for _ in range(ROUNDS):
                barrier.wait()
                other.sysctl["net.ipv4.ip_default_ttl"] = 100 + number
                barrier.wait()
                assert other.sysctl["net.ipv4.ip_default_ttl"] == str(100 + number)
                assert inode_here() == mine.inode

    together(work)


def test_namespaces_are_made_and_closed_by_threads_at_once(netns_factory: object) -> None:
    home = inode_here()
    seen: set[int] = set()

    def work(number: int, barrier: threading.Barrier) -> None:
        for _ in range(10):
            barrier.wait()
            ns = Namespace()
            barrier.wait()
            seen.add(ns.inode)
            assert inode_here() == home
            assert list(ns.interfaces) == ["lo"]
            barrier.wait()
            ns.close()

    together(work)
    assert len(seen) >= THREADS


def test_a_thread_of_its_own_starts_where_its_maker_was(spaces: list[Namespace]) -> None:
    seen: list[int] = []
    with spaces[0]:
        thread = threading.Thread(target=lambda: seen.append(inode_here()))
        thread.start()
        thread.join()
    assert seen == [spaces[0].inode]
