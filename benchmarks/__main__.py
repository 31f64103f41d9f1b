"""``python -m benchmarks [--rounds N] [--only NAME] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks import floor, impair, iproute2, isolate, ours, probes, rivals, routed, scaling, stage, table
from benchmarks.stopwatch import Contender, Experiment, Row, laps, measure
from benchmarks.suite import TESTS, Sessions, installed
from pytest_netns import PrivilegeError
from pytest_netns.kernel.sysctl import BASELINE, path_of

SYSCTLS = {path_of(name): value for name, value in BASELINE.items()}
LEAST_ROUNDS = 30
SESSIONS = 5


def _timed(steps: Callable[..., Iterator[str]], *arguments: object) -> Contender:
    return lambda: laps(steps(*arguments))


def _three(name: str, *arguments: object) -> dict[str, Contender]:
    return {
        "floor": _timed(getattr(floor, name), SYSCTLS, *arguments),
        "ours": _timed(getattr(ours, name), *arguments),
        "ip -batch": _timed(getattr(iproute2, name), *arguments),
    }


def experiments(sessions: Sessions, workers: list[rivals.Worker]) -> list[Experiment]:
    """All that can be measured, in the order of the table."""

    def with_rivals(word: str, contenders: dict[str, Contender]) -> dict[str, Contender]:
        return contenders | {w.name: w.contender(word) for w in workers if rivals.does(w.name, word)}

    bare = _three("pair", False) | {"floor": _timed(floor.pair, {}, False)}
    return [
        Experiment("netns", {"set-up": "empty namespace"}, _three("netns")),
        Experiment(
            "pair",
            {"set-up": "pair, IPv4 + IPv6", "tear-down": "tear-down of that pair"},
            with_rivals("pair", _three("pair")),
        ),
        Experiment("pair4", {"set-up": "pair, IPv4 only"}, _three("pair", False)),
        Experiment("pair4-bare", {"set-up": "pair, IPv4 only; floor without sysctls"}, bare),
        Experiment(
            "bridge10",
            {"set-up": "10 hosts on a bridge"},
            with_rivals("bridge", _three("bridge", 10)),
            weight=3,
        ),
        Experiment("bridge100", {"set-up": "100 hosts on a bridge"}, _three("bridge", 100), weight=10),
        Experiment(
            "routed",
            {"set-up": "router with NAT, two LANs of two hosts"},
            {"floor": _timed(routed.raw, SYSCTLS), "ours": _timed(routed.ours)},
            weight=10,
        ),
        Experiment("ping", {"first": "first ping after set-up", "next": "next ping"}, _three("pings")),
        Experiment("run", {"first": 'first run(["true"])', "next": 'next run(["true"])'}, _three("run")),
        Experiment("first-ping", {"first": "first ping of a session, imports apart"}, {"ours": probes.first_ping}),
        Experiment(
            "probes",
            {
                "ping": "ping, the second one",
                "ping -c1": "run(ping -c1) beside it",
                "tcp": "TCP probe",
                "arp": "ARP probe",
                "open": "opening a capture",
                "close": "closing it",
                "open lab": "opening a capture of that lab",
            },
            {"ours": _timed(probes.questions)},
        ),
        *(
            Experiment(
                f"impair-{engine}",
                {
                    "first": f"impairing a link by {engine}, the first of a lab",
                    "next": "the next link",
                    "change": "changing it",
                    "heal": "healing it",
                },
                {"ours": _timed(impair.settings, engine)},
            )
            for engine in impair.engines()
        ),
        Experiment(
            "ping-all",
            {"first": "ping_all of 10 hosts", "next": "ping_all again"},
            {"ours": _timed(probes.matrix, 10)},
            weight=3,
        ),
        Experiment(
            "suite",
            {"test": f"a test of {TESTS}: pair + ping, all in"},
            {"ours": sessions.per_test("ours"), "floor": sessions.per_test("floor")},
            rounds=SESSIONS,
        ),
        Experiment(
            "empty",
            {"test": f"a test of {TESTS}: empty, without us"},
            {"floor": sessions.per_test("empty")},
            rounds=SESSIONS,
        ),
    ]


def _start_up(sessions: Sessions, rounds: int) -> list[str]:
    if not installed():
        return ["start-up: not measured: pytest-netns is not installed here (pip install -e .)"]
    contenders = {"with": sessions.start_up(), "without": sessions.start_up("-p", "no:netns")}
    rows = measure(Experiment("start-up", {"wall": "", "processor": ""}, contenders, weight=0), rounds)
    text = []
    for row in rows:
        kind = row.name.rpartition("/")[2]
        pairs = zip(row.samples["with"], row.samples["without"], strict=True)
        difference = median(a - b for a, b in pairs) * 1000
        each = ", ".join(f"{column} {median(found) * 1000:.0f} ms" for column, found in row.samples.items())
        text.append(f"pytest start-up, installed and unused, {kind} time: {difference:+.1f} ms ({each}, n={rounds})")
    return [*text, f"pytest start-up, installed and unused, {sessions.imported()}"]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Prints a table; passes or fails nothing."
    )
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, metavar="N", help="turns of each (default: 30)")
    parser.add_argument("--only", action="append", metavar="NAME", help="just this experiment; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single time there, in seconds")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    try:
        mode = stage.enter()
    except (PrivilegeError, OSError) as error:
        print(f"nothing can be measured: {error}", file=sys.stderr)
        return 1
    found = [rivals.start(name) for name in ("munet", "mininet")]
    workers = [each for each in found if isinstance(each, rivals.Worker)]
    notes = [each for each in found if isinstance(each, str)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        sessions = Sessions(Path(folder), SYSCTLS)
        known = {each.name: each for each in experiments(sessions, workers)}
        others = ("capture", "impair", "isolate", "scaling", "start-up")
        wanted = options.only or [*known, *others]
        for name in wanted:
            if name not in known and name not in others:
                parser.error(f"--only {name}: there are {', '.join([*known, *others])}")
        for name in wanted:
            if name in known:
                rows += measure(known[name], options.rounds)
        if "capture" in wanted:
            notes.append(probes.capture_rate())
        if "impair" in wanted:
            notes += impair.figures()
        if "isolate" in wanted:
            notes.append(isolate.cost(Path(folder), min(options.rounds, SESSIONS)))
        if "scaling" in wanted:
            notes += scaling.gains(Path(folder), min(options.rounds, SESSIONS))
        if "start-up" in wanted:
            notes += _start_up(sessions, options.rounds)
    for worker in workers:
        worker.close()
    machine = f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}, {mode}"
    print(machine, "", *(table.lines(rows) if rows else []), "", *notes, sep="\n")
    if options.json:
        samples = {row.name: row.samples for row in rows}
        options.json.write_text(json.dumps({"machine": machine, "notes": notes, "seconds": samples}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
