"""Sessions that die at random instants: how many leave something behind, or do not end. Run it by hand.

    python benchmarks/deaths.py --count 200

As root it tries every way to die as root and as uid 65534 (rootless), else as whoever runs it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from plugin.deaths import HOW, die, instants
from plugin.inner import Project, User

from pytest_netns import Namespace
from pytest_netns.kernel import sandbox


def no_server(user: User) -> NoReturn:
    raise AssertionError(f"each session is started by itself, also for {user}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="instants for each way to die and each user")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--how", choices=HOW, action="append")
    parser.add_argument("--user", choices=("root", "ordinary"), action="append")
    given = parser.parse_args()
    privileged = os.geteuid() == 0 and not sandbox.in_user_namespace()
    users: list[User] = given.user or (["root", "ordinary"] if privileged else ["ordinary"])
    wrong = 0
    print(f"{'user':9} {'how':8} {'deaths':>7} {'wrong':>6} {'median s':>9} {'longest s':>10}", flush=True)
    for user in users:
        for how in given.how or HOW:
            seconds, bad = [], 0
            for number, chosen in zip(range(given.count), instants(given.seed), strict=False):
                folder = Path(tempfile.mkdtemp(prefix="netns-death-", dir="/tmp"))
                watcher = Namespace("watcher") if user == "root" and privileged else None
                try:
                    death = die(Project(folder, no_server), how, user, chosen, watcher)
                finally:
                    if watcher is not None:
                        watcher.close()
                    shutil.rmtree(folder)
                seconds.append(death.seconds)
                if found := death.wrong(how):
                    bad += 1
                    print(f"  {user} {how} {given.seed}/{number}: {'; '.join(found)}\n{death.output}", file=sys.stderr)
            wrong += bad
            row = f"{len(seconds):7} {bad:6} {statistics.median(seconds):9.3f} {max(seconds):10.3f}"
            print(f"{'root' if user == 'root' else 'rootless':9} {how:8} {row}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
