"""A session that stops at a failure, with its labs as they are: ``--netns-shell`` and ``--netns-keep``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_netns.plugin import session as _session

if TYPE_CHECKING:
    from pytest_netns.stack.namespace import Namespace


def register(config: pytest.Config) -> None:
    """Stop at the failures of a session that was asked to.

    Raises:
        pytest.UsageError: nobody could answer: there is no terminal, or it is not the tests'. Nothing hangs in CI.
    """
    settings = _session.of(config).settings
    if config.option.collectonly:
        return
    option = "--netns-shell" if settings.shell else "--netns-keep"
    if hasattr(config, "workerinput") or _session.starts_workers(config.option):
        raise pytest.UsageError(
            f"{option} is incompatible with distributing tests: workers of pytest-xdist have no terminal; use -n0"
        )
    with _terminal(config):
        there = os.isatty(0)
    if not there:
        raise pytest.UsageError(
            f"{option} needs a terminal, and standard input is none; leave it out here "
            f"(PYTEST_NETNS_{option[8:].upper()}=0 in the environment overrides the ini file)"
        )
    config.pluginmanager.register(Pause(config, settings.shell), "netns-pause")


@contextmanager
def _terminal(config: pytest.Config) -> Iterator[None]:
    """Standard input and output are those that pytest was started with, for the duration."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    try:
        yield
    finally:
        if capture is not None:
            capture.resume_global_capture()
            capture.suspend_global_capture()  # as it is between the phases of a test: for output only


class Pause:
    """The hook that stops.

    Args:
        config: the session's.
        shell: offer shells; else just wait.
    """

    def __init__(self, config: pytest.Config, shell: bool) -> None:
        self._config = config
        self._shell = shell

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[object], report: object
    ) -> None:
        """At a failure in set-up or call, when what it happened in is still there."""
        if "pytest_netns.stack.namespace" not in sys.modules or not isinstance(report, pytest.TestReport):
            return
        from pytest_netns.stack.handle import open_namespaces
        from pytest_netns.stack.namespace import Namespace

        nodes = labelled([each for each in open_namespaces() if isinstance(each, Namespace)])
        if report.when == "teardown" or not nodes or call.excinfo is None:
            return
        with _terminal(self._config):
            print()
            for line in head(node.nodeid, report.when, call.excinfo.exconly(tryshort=True), nodes):
                print(line)
            try:
                if self._shell:
                    self._offer(nodes)
                else:
                    _asked("netns: the lab is kept; Enter goes on: ")
            finally:
                print("netns: the session goes on")

    def _offer(self, nodes: dict[str, Namespace]) -> None:
        """Shells, until the person has enough."""
        wanted = next(iter(nodes)) if len(nodes) == 1 else None
        while True:
            if wanted is None:
                wanted = _asked("netns: a shell in which node (name or number; Enter goes on)? ")
                if not wanted:
                    return
            found = chosen(list(nodes), wanted)
            wanted = None
            if len(found) != 1:
                print(f"netns: {'several nodes have that name' if found else 'no such node'}; there are:")
                for line in numbered(nodes):
                    print(line)
                continue
            from pytest_netns.errors import NetnsError
            from pytest_netns.process import terminal
            from pytest_netns.stack.commands import run_in_terminal

            node = nodes[found[0]]
            argv, env = terminal.shell(found[0], node.environment())
            print(f"netns: {argv[0]} in {found[0]}; 'exit' leaves it", flush=True)
            try:
                run_in_terminal(node, argv, env)
            except NetnsError as error:  # a bad SHELL must not cost the lab
                print(f"netns: {error}")


def _asked(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:  # Ctrl-D, or the terminal has gone
        print()
        return ""


def labelled(namespaces: Sequence[Namespace]) -> dict[str, Namespace]:
    """Namespaces by LAB/NODE, or by the name of one that stands alone; with its inode if that is taken."""
    found: dict[str, Namespace] = {}
    for each in namespaces:
        lab = getattr(each, "lab", None)
        label = each.name if lab is None else f"{lab.name}/{each.name}"
        found[label if label not in found else f"{label}:{each.inode}"] = each
    return found


def numbered(nodes: dict[str, Namespace]) -> list[str]:
    """A line for each node, with what enters it from another terminal."""
    width = max(map(len, nodes))
    return [f"  {number}  {name:<{width}}  {nsenter(node)}" for number, (name, node) in enumerate(nodes.items(), 1)]


def nsenter(namespace: Namespace) -> str:
    """The command that enters a node from outside, by its owner's or root's terminal."""
    pid = os.getpid()
    from pytest_netns.kernel.sandbox import in_user_namespace

    user = f"--preserve-credentials --user=/proc/{pid}/ns/user " if in_user_namespace() else ""
    return f"nsenter {user}--net={namespace.path}"


def head(nodeid: str, when: str, error: str, nodes: dict[str, Namespace]) -> list[str]:
    """What failed, which nodes there are, and how to enter them."""
    return [
        f"netns: {nodeid} failed in {when}: {error.splitlines()[0] if error else 'no message'}",
        *numbered(nodes),
        f"netns: from another terminal, as the same user: pytest-netns shell {os.getpid()} NODE",
    ]


def chosen(labels: list[str], answer: str) -> list[str]:
    """The nodes that an answer may mean: by number, LAB/NODE or NODE."""
    if answer in labels:
        return [answer]
    named = [each for each in labels if each.rpartition("/")[2] == answer]
    if not named and answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(labels):
        return [labels[int(answer) - 1]]
    return named
