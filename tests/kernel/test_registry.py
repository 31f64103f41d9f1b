"""The directory of nodes that a process keeps for the outside."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from contextlib import closing

import pytest

from pytest_netns import Lab, Namespace
from pytest_netns.cli.shell import choose
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netns import registry
from pytest_netns.kernel.netns.registry import Entry, nodes_of, with_descendants
from pytest_netns.plugin.pause import chosen
from pytest_netns.process.terminal import shell

pytestmark = pytest.mark.usefixtures("lab_factory")


def mine() -> list[str]:
    return [str(entry) for entry in nodes_of(os.getpid())]


def test_nodes_come_and_go() -> None:
    before = mine()
    with Lab("mine") as lab:
        red = lab.host("red")
        with closing(Namespace("alone")):
            assert mine() == [*before, "mine/red", "alone"]
            entry = nodes_of(os.getpid())[-2]
            assert (entry.fd, entry.inode, entry.path, entry.init) == (red.fd, red.inode, red.path, 0)
        assert mine() == [*before, "mine/red"]
        blue = lab.host("blue", isolate={"uts"})
        assert mine() == [*before, "mine/red", "mine/blue"]  # once, though it has two lines
        assert nodes_of(os.getpid())[-1].init > 0
        blue.close()
    assert mine() == before


def test_a_descriptor_that_was_given_to_another_is_passed_over() -> None:
    with closing(Namespace("first")) as first, closing(Namespace("second")) as second:
        kept = os.dup(first.fd)
        try:
            os.dup2(second.fd, first.fd)  # behind its back
            assert "first" not in mine()
            assert "second" in mine()
        finally:
            os.dup2(kept, first.fd)
            os.close(kept)
        assert "first" in mine()


def test_the_last_line_of_a_descriptor_counts() -> None:
    with closing(Namespace("one")) as one:
        registry.register(one.fd, one.inode, "", "renamed")
        assert "renamed" in mine()
        assert "one" not in mine()


def test_names_that_would_break_a_line() -> None:
    with closing(Namespace("a\tb\nc ü")):
        assert "a?b?c ü" in mine()


def test_it_does_not_grow_when_all_nodes_go() -> None:
    script = """
import os
from pytest_netns import Namespace, enter_sandbox
from pytest_netns.kernel.netns import registry
enter_sandbox()
sizes = []
for turn in range(4):
    for name in ("one", "two"):
        Namespace(name).close()
    sizes.append(os.fstat(registry._file).st_size)
three = Namespace("three")
assert [str(entry) for entry in registry.nodes_of(os.getpid())] == ["three"]
three.close()
assert len(set(sizes)) == 1, sizes
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_forked_child_has_a_directory_of_its_own() -> None:
    with closing(Namespace("parents")):
        before = mine()
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                kept = Namespace("childs")
                os.write(send, ",".join(mine()).encode())
                kept.close()
            finally:
                os._exit(0)
        os.close(send)
        told = os.read(receive, 1000).decode()
        os.close(receive)
        os.waitpid(child, 0)
        assert told == "childs"
        assert mine() == before


def test_descendants() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 1014 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        try:
            found = with_descendants(os.getpid())
            assert found[0] == os.getpid()
            assert {parent.pid, grandchild} <= set(found)
            assert with_descendants(parent.pid) == [parent.pid, grandchild]
        finally:
            os.kill(grandchild, 9)


def test_a_process_that_is_not_there() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    with pytest.raises(TopologyError, match=f"there is no process {gone.pid}"):
        nodes_of(gone.pid)


def test_which_node_is_meant() -> None:
    entries = [Entry(1, 5, 11, 0, "lab", "red"), Entry(1, 6, 12, 0, "lab", "blue"), Entry(2, 5, 13, 0, "far", "red")]
    assert choose(entries, "blue") is entries[1]
    assert choose(entries, "far/red") is entries[2]
    assert choose(entries, "11") is entries[0]
    with pytest.raises(TopologyError, match=re.compile(r"several are called 'red'.*lab/red.*far/red", re.DOTALL)):
        choose(entries, "red")
    with pytest.raises(TopologyError, match=re.compile(r"no node 'pink'.*lab/blue", re.DOTALL)):
        choose(entries, "pink")


def test_what_an_answer_means() -> None:
    labels = ["lab/red", "lab/blue", "other/red", "2"]
    assert chosen(labels, "lab/red") == ["lab/red"]
    assert chosen(labels, "blue") == ["lab/blue"]
    assert chosen(labels, "1") == ["lab/red"]
    assert chosen(labels, "2") == ["2"]  # its name goes before its number
    assert chosen(labels, "red") == ["lab/red", "other/red"]
    assert chosen(labels, "5") == chosen(labels, "0") == chosen(labels, "pink") == []


def test_the_prompt_holds_nothing_that_a_shell_expands() -> None:
    argv, env = shell("lab/$(reboot)`x`", {"SHELL": "/bin/bash", "ENV": "/etc/x", "PATH": "/bin"})
    assert argv == ["/bin/bash", "--noprofile", "--norc"]
    assert not set("$`()") & set(env["PS1"][:-2])
    assert ("ENV" in env, env["PATH"]) == (False, "/bin")
    assert shell("red", {})[0] == ["/bin/sh"]


# ------------------------------------------------------------------ of strangers

OFFER = """
import os, sys
file = os.memfd_create("pytest-netns:nodes")
network = os.open("/proc/self/ns/net", os.O_RDONLY)
inode = os.fstat(network).st_ino
{offer}
print("there", flush=True)
sys.stdin.read()
"""


def offered(offer: str) -> list[str]:
    """What is believed of another process, which offers something as its directory of nodes."""
    words = [sys.executable, "-c", OFFER.format(offer=offer)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "there\n"
        return [str(entry) for entry in nodes_of(stranger.pid)]


def test_names_of_others_are_free_of_what_a_terminal_obeys() -> None:
    line = r'f"{network}\t{inode}\t0\tl\x1b[2Jab\t\x1b]0;mine\x07\u202ere\r\x85\u2028d\n".encode()'
    assert offered(f"os.write(file, {line})") == ["l?[2Jab/?]0;mine??re???d"]


def test_long_names_are_cut() -> None:
    (name,) = offered(r'os.write(file, f"{network}\t{inode}\t0\t\t".encode() + b"x" * 100_000 + b"\n")')
    assert name == "x" * 200


@pytest.mark.parametrize(
    "offer",
    [
        "os.ftruncate(file, 200 << 30)",
        "os.write(file, b'x'); os.ftruncate(file, 200 << 30)",
        "os.pwrite(file, b'1\\t1\\t0\\t\\tx\\n', 100 << 30)",
        "os.write(file, b'9' * 100_000 + b'\\t1\\t0\\t\\tx\\n')",
    ],
)
def test_a_file_of_any_size_is_harmless(offer: str) -> None:
    assert offered(offer) == []


def test_no_more_of_it_is_read_than_our_own_would_have() -> None:
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert offered("[os.write(file, b'1\\t1\\t0\\t\\t' + b'x' * 999_992) for _ in range(200)]") == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start < 150_000


def test_a_large_directory_of_ours_is_read_to_its_end() -> None:
    with closing(Namespace("first")) as first, closing(Namespace("last")) as last:
        for _ in range(20_000):
            registry.register(first.fd, first.inode, "some-lab", "some-node-or-other")
        registry.register(last.fd, last.inode, "", "the end")
        assert mine()[-2:] == ["some-lab/some-node-or-other", "the end"]
