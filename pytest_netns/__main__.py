"""The command ``pytest-netns``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from pytest_netns.errors import NetnsError


def _doctor(arguments: argparse.Namespace) -> int:
    from pytest_netns.cli.doctor import report

    text, status = report(json_=arguments.json)
    print(text)
    return status


def _reap(_: argparse.Namespace) -> int:
    from pytest_netns.kernel.netns.publish import reap

    for line in reap() or ["nothing to remove"]:
        print(line)
    return 0


def _shell(arguments: argparse.Namespace) -> int:
    from pytest_netns.cli import shell

    entries = shell.nodes(arguments.pid)
    if arguments.node is None or arguments.list:
        print(shell.listing(entries))
        return 0
    return shell.enter(shell.choose(entries, arguments.node), arguments.argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for a failure, 2 for a bad command line."""
    parser = argparse.ArgumentParser(prog="pytest-netns", description="Helpers around isolated test networks.")
    parser.add_argument("--version", action="version", version=f"pytest-netns {version('pytest-netns')}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("reap", help="remove published namespaces whose owners are dead").set_defaults(run=_reap)
    doctor = commands.add_parser("doctor", help="what this machine allows and has, and how to get what it lacks")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_doctor)
    shell = commands.add_parser(
        "shell",
        help="a shell, or a command, in a node of a session that runs or waits",
        usage="pytest-netns shell [--list] PID [NODE [-- COMMAND ...]]",
    )
    shell.add_argument("pid", type=int, metavar="PID", help="of pytest, or of a worker of pytest-xdist")
    shell.add_argument(
        "node", nargs="?", metavar="NODE", help="NODE, LAB/NODE or an inode; without, the nodes are listed"
    )
    shell.add_argument("--list", action="store_true", help="list the nodes")
    shell.set_defaults(run=_shell)
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    ours, command = words[:end], words[end + 1 :]
    arguments = parser.parse_args(ours)
    arguments.argv = command
    if command and (arguments.run is not _shell or arguments.node is None):
        parser.error("a command after -- needs: shell PID NODE -- COMMAND ...")
    try:
        return int(arguments.run(arguments))
    except NetnsError as error:
        print(f"pytest-netns: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
