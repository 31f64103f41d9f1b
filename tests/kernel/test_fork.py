"""A forked child of the test has copies of everything; what it does with them takes nothing from its parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from pytest_netns import Lab, Namespace
from pytest_netns.kernel import procfs

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def in_child(work: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Have a forked child do something; fails if it raises."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"in the forked child: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    try:
        meanwhile()
    finally:
        status = os.waitpid(pid, 0)[1]
    assert status == 0


@pytest.mark.netns_requires("nft")
def test_closing_its_copy_of_a_lab_takes_nothing_away(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    process = red.spawn(["sleep", "1000"])
    red.block(dst="10.9.9.9")
    red.freeze()
    capture = lab.capture().start()
    red.ping(blue)
    in_child(lab.close)
    assert process.returncode is None
    assert "10.9.9.9" in str(red.nft_ruleset())
    found = procfs.stat(process.pid)
    assert found is not None
    assert found.state == "T"
    assert link.is_up
    assert red.ping(blue)
    assert len([frame for frame in capture.frames if frame.node == "red"]) >= 4
    capture.stop()
    red.thaw()


@pytest.mark.netns_requires("tap", "tc:bpf", "nft")
def test_neither_do_the_blocks_that_it_leaves(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    pid = -1
    try:
        with red.block(dst="10.9.9.9"), link.impaired(delay="1ms", engine="relay"):
            pid = os.fork()
            if pid == 0:
                raise SystemExit
            assert os.waitpid(pid, 0)[1] == 0
            assert "10.9.9.9" in str(red.nft_ruleset())
            assert link.impairment is not None
    finally:
        if pid == 0:
            os._exit(0 if sys.exc_info()[0] is SystemExit else 1)
    assert link.impairment is None


@pytest.mark.netns_requires("nft")
def test_closing_its_copy_of_a_namespace_takes_nothing_away(netns: Namespace) -> None:
    process = netns.spawn(["sleep", "1000"])
    netns.nft("add table inet t")
    in_child(netns.close)
    assert process.returncode is None
    assert netns.nft("list tables") == "table inet t\n"


def test_it_may_ask_the_kernel_beside_its_parent(netns: Namespace) -> None:
    def ask() -> None:
        for _ in range(200):
            assert list(netns.interfaces) == ["lo"]

    in_child(ask, ask)
