"""The command ``pytest-netns``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_netns.errors import NetnsError


def _doctor(arguments: argparse.Namespace) -> int:
    from pytest_netns.doctor import report

    text, status = report(json_=arguments.json)
    print(text)
    return status


def _reap(_: argparse.Namespace) -> int:
    from pytest_netns.kernel.published import reap

    for line in reap() or ["nothing to remove"]:
        print(line)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for a failure, 2 for a bad command line."""
    parser = argparse.ArgumentParser(prog="pytest-netns", description="Helpers around isolated test networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("reap", help="remove published namespaces whose owners are dead").set_defaults(run=_reap)
    doctor = commands.add_parser("doctor", help="what this machine allows and has, and how to get what it lacks")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_doctor)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except NetnsError as error:
        print(f"pytest-netns: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
